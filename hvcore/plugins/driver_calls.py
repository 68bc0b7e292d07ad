"""A driver's methods, asked: what they raise or return that they must not is said to be theirs, by name and place.

An `HvError` or an OSError is what a method may raise. Anything else is a mistake in it, told as a `DriverError`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

from hvcore.errors import DriverError, HvError, Problem, RecordError, UnsupportedError
from hvcore.host.environment import Host
from hvcore.model.codec import decode
from hvcore.model.finding import Finding, Severity
from hvcore.model.info import Observation
from hvcore.model.instance import Instance
from hvcore.model.plan import Plan
from hvcore.model.state import Op
from hvcore.params.values import Params
from hvcore.plugins.catalogue import CatalogueEntry
from hvcore.plugins.faults import article, place, return_type
from hvcore.plugins.importing import owner_of, where_raised
from hvcore.plugins.protocols import ABILITIES, Adopts, Driver, Examines, OwesStop, ReadsSpec
from hvcore.state.job import Job
from hvcore.state.live import Live

__all__ = ["AskedDriver"]


class AskedDriver:
    """The methods that every driver has, and those that this one may have."""

    __slots__ = ()

    entry: CatalogueEntry
    driver: Driver

    @property
    def name(self) -> str:
        """The driver's name."""
        return self.entry.name

    def plan(self, instance: Instance, params: Params) -> Any:
        """The spec that the driver decides on. Raises `DriverError` when that is no frozen dataclass."""
        spec = self._asked(self.driver.plan, "plan", instance, params)
        if not dataclasses.is_dataclass(spec) or isinstance(spec, type):
            raise self._wrong("plan", f"returned {spec!r:.80}", "return an object of a frozen dataclass")
        if not spec.__dataclass_params__.frozen:  # type: ignore[attr-defined]
            kind = type(spec)
            what = f"returned a {kind.__name__} ({place(kind)}), which can be changed"
            raise self._wrong("plan", what, "declare it @dataclass(frozen=True): a spec is decided once")
        return spec

    def read_spec(self, data: object, planned: type[Any] | None = None) -> Any:
        """The spec that a record holds; ``planned`` is its class, for a driver that does not say it at ``plan``.

        Raises `RecordError` when this release of the driver, with its extensions, cannot read it.
        """
        driver = self.driver
        if isinstance(driver, ReadsSpec):
            return self._asked(driver.read_spec, "read_spec", data)
        declared = return_type(driver.plan)
        kind = declared if dataclasses.is_dataclass(declared) else planned
        if not isinstance(kind, type):
            raise RecordError(f"driver {self.name}: does not say what its spec is; annotate the return type of plan")
        return decode(kind, data, "spec", kinds=() if planned is None else (planned,))

    def describe(self, spec: object, host: Host) -> Plan:
        """What a start would do, as the driver tells it."""
        found: Plan = self._asked(self.driver.describe, "describe", spec, host, kind=Plan)
        return found

    def start(self, spec: object, job: Job) -> None:
        """Let the driver start it."""
        self._asked(self.driver.start, "start", spec, job)

    def observe(self, live: Live) -> Observation:
        """How the driver sees the instance now."""
        found: Observation = self._asked(self.driver.observe, "observe", live, kind=Observation)
        return found

    def stop(self, live: Live, job: Job, *, force: bool) -> str:
        """Let the driver end it; the rung that worked."""
        found: str = self._asked(partial(self.driver.stop, force=force), "stop", live, job, kind=str)
        return found

    def adopt(self, live: Live, job: Job) -> bool:
        """Whether a start that was interrupted had succeeded; never for a driver that cannot tell."""
        driver = self.driver
        return isinstance(driver, Adopts) and bool(self._asked(driver.adopt, "adopt", live, job))

    def owes_stop(self, live: Live) -> bool:
        """Whether the driver has something to do at a stop of an instance that has ended by itself."""
        driver = self.driver
        return isinstance(driver, OwesStop) and bool(self._asked(driver.owes_stop, "owes_stop", live))

    def able(self, op: Op) -> Callable[..., Any]:
        """The driver's method for what not every driver can do. Raises `UnsupportedError` when this one cannot."""
        protocol, method, kind = ABILITIES[op]
        if not isinstance(self.driver, protocol):
            raise UnsupportedError(driver=self.name, operation=str(op))

        def call(*arguments: Any, **named: Any) -> Any:
            return self._asked(partial(getattr(self.driver, method), **named), method, *arguments, kind=kind)

        return call

    def found_by_driver(self, spec: object, host: Host) -> tuple[Problem, ...]:
        """What keeps this node from running it, as the driver finds."""
        found: tuple[Problem, ...] = self._asked(lambda *given: tuple(self.driver.verify(*given)), "verify", spec, host)
        for item in found:
            if not isinstance(item, Problem):
                raise self._wrong("verify", f"gave {item!r:.80}", "yield each as an hvcore.plugin.Problem")
        return found

    def told_by_driver(self, host: Host) -> tuple[Finding, ...]:
        """What the driver says of this node; that it fails is one of the findings."""
        if not isinstance(self.driver, Examines):
            return ()
        driver = self.driver
        try:
            found: tuple[Finding, ...] = self._asked(lambda given: tuple(driver.examine(given)), "examine", host)
        except (HvError, OSError) as error:
            return (Finding(subject="examine", severity=Severity.PROBLEM, what=str(error)),)
        return found

    def _asked(self, call: Callable[..., Any], method: str, *arguments: Any, kind: type[Any] = object) -> Any:
        """What a method of the driver returns. Raises `DriverError` when it raises what is no error of the node's."""
        try:
            result = call(*arguments)
        except (HvError, OSError):
            raise
        except (Exception, SystemExit) as error:  # a plugin does not decide when its host application ends
            what = f"raised {type(error).__name__}: {error}"
            raise self._wrong(method, what, "report this to its authors", where_raised(error)) from error
        if not isinstance(result, kind):
            raise self._wrong(method, f"returned {result!r:.80}", f"return {article(kind)}")
        return result

    def _wrong(self, method: str, what: str, todo: str, where: str | None = None) -> DriverError:
        found = where or place(getattr(self.driver, method))
        return DriverError(owner=owner_of(self.entry), method=method, place=found, what=what, todo=todo)
