"""The API of host applications for one driver: its parameters, and checks, plans and starts of instances."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Unpack

from hvcore.deadline import Deadline
from hvcore.errors import NotFoundError, ParamsError, Problem, VerifyError
from hvcore.model.answers import Finding, Outcome
from hvcore.model.instance import Instance
from hvcore.model.instance_keys import DEFINITION_KEYS, DISK_KEYS, INSTANCE_KEYS, NIC_KEYS
from hvcore.model.plan import Plan, with_params
from hvcore.operations.context import CallOptions, Context
from hvcore.operations.inspection import observe
from hvcore.operations.lifecycle.start import start
from hvcore.operations.lifecycle.stop import stop
from hvcore.params.reference import ParamRow, field_rows, json_schema, rows
from hvcore.params.schema import Schema
from hvcore.params.values import Params
from hvcore.plugins.protocols import capabilities

if TYPE_CHECKING:
    from hvcore.plugins.loaded_driver import LoadedDriver

__all__ = ["DriverHandle"]


class DriverHandle:
    """One loaded driver on one node."""

    def __init__(self, context: Context, loaded: LoadedDriver) -> None:
        self._context = context
        self._loaded = loaded

    def __repr__(self) -> str:
        return f"DriverHandle({self.name!r})"

    @property
    def name(self) -> str:
        """The driver's name."""
        return self._loaded.name

    @property
    def schema(self) -> Schema:
        """The schema of all its parameters, those of its extensions included."""
        return self._loaded.schema

    def parameters(self, *, profile: str | None = None) -> tuple[ParamRow, ...]:
        """All parameters of the driver, in the order of the reference, with the values of this node and the profile.

        Raises `ParamsError` when the values of this node or of the profile are wrong.
        """
        layers = self._context.layers(Instance(name="none", driver=self.name, profile=profile))
        values, problems = self._loaded.schema.problems({}, below=layers.below)
        wrong = (*layers.problems, *(problem for problem in layers.placed(problems) if problem.where))
        if wrong:
            raise ParamsError(f"driver {self.name}", wrong)
        return rows(self._loaded.schema, values)

    @staticmethod
    def instance_keys() -> tuple[ParamRow, ...]:
        """The keys of an instance file outside of ``[params]``, such as ``vcpus`` and ``disks.cache``."""
        return tuple(
            row for group in (INSTANCE_KEYS, DEFINITION_KEYS, DISK_KEYS, NIC_KEYS) for row in field_rows(group)
        )

    def json_schema(self) -> dict[str, Any]:
        """The parameters as JSON Schema, for forms and other languages. ``$comment``: where the check is stricter."""
        return json_schema(self._loaded.schema, title=f"parameters of driver {self.name}")

    @property
    def capabilities(self) -> tuple[str, ...]:
        """The operations of the driver beyond start and stop: ``pause``, ``console``, ..."""
        return capabilities(self._loaded.driver)

    def examine(self) -> tuple[Finding, ...]:
        """What the driver finds and misses on this node, with its values. A problem is a finding, not an exception."""
        layers = self._context.layers(Instance(name="none", driver=self.name))
        params, problems = self._loaded.schema.problems({}, below=layers.below)
        return self._loaded.examine(self._context.host, None if problems or layers.problems else params)

    def check(self, instance: Instance) -> Params:
        """The complete, typed parameters. Raises `ParamsError` with every problem.

        Reads the node's values and the instance's profile, and nothing else of the node.
        """
        return self._loaded.check(instance, self._context.layers(instance))

    def warnings(self, instance: Instance) -> tuple[Problem, ...]:
        """Settings that work, but are slow, unsafe or hard to migrate. Raises `ParamsError`."""
        layers = self._context.layers(instance)
        return self._loaded.warnings(instance, self._loaded.check(instance, layers), layers)

    def verify(self, instance: Instance) -> None:
        """Check the instance, and whether this node can run it. Raises `ParamsError` or `VerifyError`."""
        layers = self._context.layers(instance)
        params = self._loaded.check(instance, layers)
        problems = self._loaded.verify(self._loaded.plan(instance, params), params, self._context.host)
        if problems:
            raise VerifyError(instance.name, layers.placed(problems, params))

    def plan(self, instance: Instance) -> Plan:
        """The steps and the command of a start, with the reason for each argument. Raises `ParamsError`."""
        layers = self._context.layers(instance)
        params = self._loaded.check(instance, layers)
        found = self._loaded.describe(self._loaded.plan(instance, params), self._context.host)
        warnings = self._loaded.warnings(instance, params, layers)
        return replace(with_params(found, params), name=instance.name, warnings=warnings)

    def start(
        self,
        instance: Instance,
        *,
        paused: bool = False,
        deadline_s: float = 30.0,
        source: str | os.PathLike[str] = "",
        **options: Unpack[CallOptions],
    ) -> Outcome:
        """Start an instance and return when it is ready; ``changed=False`` if it is already running.

        ``source`` is the instance file, if there is one: a reboot reads it again. Raises `ParamsError`, `VerifyError`,
        `BusyError`, `StateError`, and `OperationError` when the start fails: then the start was undone.
        """
        path = os.path.abspath(source) if source else ""
        deadline = Deadline(deadline_s)
        context = self._context.for_call(instance.name, "start", options)
        return start(context, self._loaded, instance, paused=paused, source=path, deadline=deadline)

    def stop(
        self, name: str, *, force: bool = False, deadline_s: float = 60.0, **options: Unpack[CallOptions]
    ) -> Outcome:
        """Stop an instance of this driver, like `Node.stop`. Raises `NotFoundError` for an instance of another driver."""
        record = observe.observed(self._context, name).record
        if record is not None and record.driver != self.name:
            raise NotFoundError(name, hint=f"it belongs to driver {record.driver}")
        context = self._context.for_call(name, "stop", options)
        return stop(context, name, force=force, deadline=Deadline(deadline_s))
