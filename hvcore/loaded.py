"""A loaded driver at work: its parameters checked, its methods asked, and what is wrong in them said to be theirs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from hvcore.catalogue import CatalogueEntry
from hvcore.contract import article, place
from hvcore.driver import ABILITIES, Driver, Examines
from hvcore.errors import DriverError, HvError, ParamsError, Problem, UnsupportedError
from hvcore.hooks import Hooks
from hvcore.host.host import Host
from hvcore.host.node_checks import node_problems
from hvcore.importing import owner_of, where_raised
from hvcore.job import Job
from hvcore.live import Live
from hvcore.model.finding import Finding, Severity
from hvcore.model.info import Observation
from hvcore.model.instance import Instance
from hvcore.model.layers import NO_LAYERS, Layers
from hvcore.model.plan import Plan
from hvcore.model.state import Op
from hvcore.params import Params, Schema

__all__ = ["LoadedDriver"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedDriver:
    """A driver ready for use: itself, its hooks, and the schema of all its parameters."""

    entry: CatalogueEntry
    driver: Driver
    hooks: Hooks
    schema: Schema
    extensions: tuple[CatalogueEntry, ...]
    skipped: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The driver's name."""
        return self.entry.name

    def problems(self, instance: Instance, layers: Layers = NO_LAYERS) -> tuple[Params | None, tuple[Problem, ...]]:
        """The instance's parameters with the layers below and the defaults filled in, and everything that is wrong.

        Pure: the layers are given.
        """
        params, found = self.schema.problems(instance.params, below=layers.below)
        if params is not None:
            found = tuple(found for _, found in self.hooks.items("check", Problem, instance=instance, params=params))
        problems = (*layers.problems, *layers.placed(found, params))
        return (None if problems else params), problems

    def warnings(self, instance: Instance, params: Params, layers: Layers = NO_LAYERS) -> tuple[Problem, ...]:
        """What works and is rarely wanted. Pure, and fails for nothing: a plugin's own failure is a warning too."""
        found = [
            item
            if isinstance(item, Problem)
            else Problem(path=f"plugin {plugin}", what=f"its warnings could not be had ({item})")
            for plugin, item in self.hooks.attempts("assess", Problem, instance=instance, params=params)
        ]
        found += [
            Problem(path=f"params.{key}", what=str(farewell))
            for key, param in self.schema.params.items()
            if key in params.given and (farewell := param.farewell) is not None
        ]
        return layers.placed(found, params)

    def without_secrets(self, instance: Instance) -> Instance:
        """The instance as it may be written down: secret parameters are left out."""
        secret = {key for key, param in self.schema.params.items() if param.secret}
        kept = {key: value for key, value in instance.params.items() if key not in secret}
        return instance if len(kept) == len(instance.params) else replace(instance, params=kept)

    def verify(self, spec: object, params: Params, host: Host) -> tuple[Problem, ...]:
        """Everything that keeps this node from running it: parameters that name files, then what the driver finds.

        Of a file that is refused as a parameter already, the driver's finding is no news.
        """
        found = self._asked(lambda *given: tuple(self.driver.verify(*given)), "verify", spec, host)
        for item in found:
            if not isinstance(item, Problem):
                raise self._wrong("verify", f"gave {item!r:.80}", "yield each as an hvcore.Problem")
        refused = tuple(node_problems(self.schema, params))
        told = {problem.got for problem in refused}
        return (*refused, *(problem for problem in found if problem.got is None or problem.got not in told))

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

    def able(self, op: Op) -> Callable[..., Any]:
        """The driver's method for what not every driver can do. Raises `UnsupportedError` when this one cannot."""
        protocol, method, kind = ABILITIES[op]
        if not isinstance(self.driver, protocol):
            raise UnsupportedError(driver=self.name, operation=str(op))

        def call(*arguments: Any, **named: Any) -> Any:
            return self._asked(partial(getattr(self.driver, method), **named), method, *arguments, kind=kind)

        return call

    def examine(self, host: Host) -> tuple[Finding, ...]:
        """What the driver says of this node, and which of its hooks' implementations are to go."""
        found = [
            Finding(subject=where, severity=Severity.NOTE, what=f"is deprecated: {words}")
            for where, words in self.hooks.deprecated()
        ]
        if not isinstance(self.driver, Examines):
            return tuple(found)
        driver = self.driver
        try:
            found += self._asked(lambda given: tuple(driver.examine(given)), "examine", host)
        except (HvError, OSError) as error:
            found.append(Finding(subject="examine", severity=Severity.PROBLEM, what=str(error)))
        return tuple(found)

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

    def check(self, instance: Instance, layers: Layers = NO_LAYERS) -> Params:
        """The instance's parameters, complete and typed. Raises `ParamsError` with every problem at once."""
        if instance.driver != self.name:
            wrong = Problem(path="driver", what=f"is not {self.name}", got=repr(instance.driver))
            raise ParamsError(instance.name, [wrong])
        params, problems = self.problems(instance, layers)
        if params is None:
            raise ParamsError(instance.name, problems)
        return params
