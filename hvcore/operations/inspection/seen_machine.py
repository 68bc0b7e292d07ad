"""What a guest sees of its machine: of an instance on this node, and of one that could be started. Changes nothing."""

from __future__ import annotations

from dataclasses import replace

from hvcore.model.abi import Abi
from hvcore.model.instance import Instance
from hvcore.model.state import Op
from hvcore.operations.context import Context
from hvcore.operations.inspection.observe import existing

__all__ = ["planned", "running"]


def planned(context: Context, instance: Instance) -> Abi:
    """By the instance's fields and parameters. Raises `ParamsError`, `UnsupportedError`, and what the driver raises."""
    loaded = context.driver(instance.driver)
    params = loaded.check(instance, context.layers(instance))
    found: Abi = loaded.able(Op.ABI)(loaded.plan(instance, params), context.host)
    return found


def running(context: Context, name: str) -> Abi:
    """By its saved spec. Raises `NotFoundError`, `RecordError`, `UnsupportedError`, and what the driver raises."""
    record, _ = existing(context, name, Op.ABI)
    loaded = context.driver(record.driver)
    found: Abi = loaded.able(Op.ABI)(loaded.read_spec(record.spec), context.host)
    return replace(found, at_start=record.bindings.get("abi", {}))
