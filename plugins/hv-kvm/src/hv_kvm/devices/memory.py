"""The guest's memory."""

from __future__ import annotations

from collections.abc import Iterator

from hv_kvm.option import Opt
from hv_kvm.spec import KvmSpec
from hvcore import hookimpl

__all__ = ["render"]


@hookimpl
def render(spec: KvmSpec) -> Iterator[Opt]:
    """One piece of memory."""
    yield Opt(name="-m", props={"size": f"{spec.memory_mib}M"}, why="the instance's memory_mib")
