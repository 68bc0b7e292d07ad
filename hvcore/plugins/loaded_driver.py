"""A loaded driver: the parameters of all its plugins, and its own methods, called so that mistakes are attributed.

A method of a driver may raise an `HvError` or an OSError. Any other error, and a result of the wrong type, is a mistake
in the driver and becomes a `DriverError` with the method and its line.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from hvcore.errors import DriverError, HvError, ParamsError, Problem, RecordError, UnsupportedError
from hvcore.frozen import dataclass
from hvcore.host.environment import Host, Live
from hvcore.host.node_checks import node_problems
from hvcore.model.answers import Finding, Severity
from hvcore.model.codec import decode
from hvcore.model.events.watched import Watched
from hvcore.model.instance import Instance
from hvcore.model.layers import NO_LAYERS, Layers
from hvcore.model.migration.transfer import Landing, LandingWish, Offer, Transfer
from hvcore.model.nic import nic_problems
from hvcore.model.observation import Observation, fault_of
from hvcore.model.plan import Plan
from hvcore.model.state import Op
from hvcore.params.schema import Schema
from hvcore.params.values import Params
from hvcore.plugins.catalogue import CatalogueEntry
from hvcore.plugins.device_protocols import Attaches, ListsDevices, Modifies
from hvcore.plugins.faults import article, place, return_type
from hvcore.plugins.hooks import Hooks
from hvcore.plugins.importing import owner_of, where_raised
from hvcore.plugins.protocols import (
    ABILITIES,
    Adopts,
    Driver,
    Examines,
    ExaminesWithValues,
    HasSizes,
    NeedsStop,
    ReadsSpec,
)
from hvcore.state.job import Job

__all__ = ["LoadedDriver"]

T = TypeVar("T")
_Keys: Any = Collection  # an abstract class, which isinstance takes all the same


def _calls(method: str, kind: type[T]) -> Callable[..., T]:
    """A method that calls the driver's method of that name, whose result has to be of that kind."""

    def call(self: LoadedDriver, *arguments: Any, **named: Any) -> T:
        found: T = self._called(partial(getattr(self.driver, method), **named), method, *arguments, kind=kind)
        return found

    return call


def _device_names(self: LoadedDriver, spec: object) -> dict[str, str]:
    """The devices of the spec that can be changed while it runs: see `hvcore.model.record.Record`."""
    if not isinstance(self.driver, Attaches):
        return {}
    return dict(_calls("devices", dict)(self, spec))


def _modifiable(self: LoadedDriver, spec: object, device: str) -> tuple[str, ...]:
    """The keys of the device that can change while it runs; none for a driver without `Modifies`."""
    if not isinstance(self.driver, Modifies):
        return ()
    return tuple(_calls("modifiable", _Keys)(self, spec, device))


def _listed(self: LoadedDriver, spec: object) -> tuple[str, ...]:
    """The parameters whose devices can be attached and detached; none for a driver without `ListsDevices`."""
    if not isinstance(self.driver, ListsDevices):
        return ()
    return tuple(_calls("listed", _Keys)(self, spec))


def _sizes(self: LoadedDriver, spec: object) -> Mapping[str, range]:
    """The sizes that the instance can get while it runs; none for a driver without `HasSizes`."""
    if not isinstance(self.driver, HasSizes):
        return {}
    return dict(_calls("sizes", dict)(self, spec))


def _refusals(self: LoadedDriver, spec: object, host: Host, offer: Offer, wish: LandingWish) -> tuple[Problem, ...]:
    """Why this node cannot take the instance of that offer."""
    driver: Any = self.driver
    found: tuple[Problem, ...] = self._called(
        lambda *given: tuple(driver.refusals(*given)), "refusals", spec, host, offer, wish
    )
    return found


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
        """The instance's parameters, with values of the layers and defaults filled in, and all problems. Pure."""
        found: Sequence[Problem]
        params, found = self.schema.problems(instance.params, below=layers.below)
        if params is not None:
            macs = [instance.mac(index) for index in range(len(instance.nics))]
            found = (
                *nic_problems(instance.nics, macs),
                *self.hooks.gathered("check", Problem, instance=instance, params=params),
            )
        problems = (*layers.problems, *layers.placed(found, params)) if found or layers.problems else ()
        return (None if problems else params), problems

    def check(self, instance: Instance, layers: Layers = NO_LAYERS) -> Params:
        """The instance's parameters, complete and typed. Raises `ParamsError` with every problem at once."""
        if instance.driver != self.name:
            wrong = Problem(path="driver", what=f"is not {self.name}", got=repr(instance.driver))
            raise ParamsError(instance.name, [wrong])
        params, problems = self.problems(instance, layers)
        if params is None:
            raise ParamsError(instance.name, problems)
        return params

    def warnings(self, instance: Instance, params: Params, layers: Layers = NO_LAYERS) -> tuple[Problem, ...]:
        """Settings that work but are seldom useful. Pure, never raises: the error of a plugin becomes a warning too."""
        found = [
            item
            if isinstance(item, Problem)
            else Problem(path=f"plugin {plugin}", what=f"its warnings are not available ({item})")
            for plugin, item in self.hooks.attempts("assess", Problem, instance=instance, params=params)
        ]
        found += [
            Problem(path=f"params.{key}", what=str(deprecation))
            for key, param in self.schema.params.items()
            if key in params.given and (deprecation := param.deprecation) is not None
        ]
        return layers.placed(found, params)

    def without_secrets(self, instance: Instance) -> Instance:
        """The instance without its secret parameters, for its record."""
        secret = {key for key, param in self.schema.params.items() if param.secret}
        kept = {key: value for key, value in instance.params.items() if key not in secret}
        return instance if len(kept) == len(instance.params) else replace(instance, params=kept)

    def verify(self, spec: object, params: Params, host: Host) -> tuple[Problem, ...]:
        """Problems that keep this node from running the instance: of files in parameters, then those of the driver.

        Leaves out the driver's problem with a file that is already refused as a parameter.
        """
        found: tuple[Problem, ...] = self._called(
            lambda *given: tuple(self.driver.verify(*given)), "verify", spec, host
        )
        for item in found:
            if not isinstance(item, Problem):
                raise self._wrong("verify", f"gave {item!r:.80}", "yield each as an hvcore.plugin.Problem")
        refused = tuple(node_problems(self.schema, params))
        known = {problem.got for problem in refused}
        return (*refused, *(problem for problem in found if problem.got is None or problem.got not in known))

    def examine(self, host: Host, params: Params | None = None) -> tuple[Finding, ...]:
        """The driver's findings about this node, and its deprecated hooks. An error of the driver becomes a finding.

        ``params`` are the values of the node, None if they are wrong.
        """
        found = [
            Finding(subject=where, severity=Severity.NOTE, what=f"is deprecated: {words}")
            for where, words in self.hooks.deprecated()
        ]
        driver = self.driver
        if isinstance(driver, Examines | ExaminesWithValues):
            try:
                if isinstance(driver, ExaminesWithValues) and params is not None:
                    found += self._called(
                        lambda *given: tuple(driver.examine_with(*given)), "examine_with", host, params
                    )
                elif isinstance(driver, Examines):
                    found += self._called(lambda given: tuple(driver.examine(given)), "examine", host)
            except (HvError, OSError) as error:
                found.append(Finding(subject="examine", severity=Severity.PROBLEM, what=str(error)))
        return tuple(found)

    # The required methods, with the arguments of `hvcore.plugins.protocols.Driver`.
    describe = _calls("describe", Plan)
    start = _calls("start", object)
    _observe = _calls("observe", Observation)
    stop = _calls("stop", str)
    # Of an optional Protocol, for a caller that has found that the driver has it.
    watched = _calls("watched", Watched)
    # Those of `hvcore.plugins.protocols.Attaches`, for a driver that has it.
    alter = _calls("alter", object)
    altered = _calls("altered", bool)
    disk_size = _calls("disk_size", int)  # of `hvcore.plugins.protocols.ResizesDisks`
    # Those of `hvcore.plugins.migration_protocols.Migrates`, for a driver that has it.
    offer = _calls("offer", Offer)
    refusals = _refusals
    land = _calls("land", Landing)
    send = _calls("send", object)
    transfer = _calls("transfer", Transfer)
    tune_transfer = _calls("tune_transfer", object)
    continue_transfer = _calls("continue_transfer", object)
    cancel_transfer = _calls("cancel_transfer", object)
    switch_to_postcopy = _calls("switch_to_postcopy", object)
    run_landed = _calls("run_landed", object)
    device_names = _device_names
    modifiable = _modifiable
    sizes = _sizes
    listed = _listed

    def observe(self, live: Live) -> Observation:
        """The driver's observation. Raises `DriverError` for one that a program cannot use, such as a NaN."""
        found = self._observe(live)
        fault = fault_of(found)
        if fault is not None:
            raise self._wrong("observe", f"returned an Observation whose {fault}", "correct that field")
        return found

    def plan(self, instance: Instance, params: Params) -> Any:
        """The spec of the instance. Raises `DriverError` if that is not a frozen dataclass."""
        spec = self._called(self.driver.plan, "plan", instance, params)
        if not dataclasses.is_dataclass(spec) or isinstance(spec, type):
            raise self._wrong("plan", f"returned {spec!r:.80}", "return an object of a frozen dataclass")
        if not spec.__dataclass_params__.frozen:  # type: ignore[attr-defined]
            kind = type(spec)
            what = f"returned a {kind.__name__} ({place(kind)}), which can be changed"
            raise self._wrong("plan", what, "declare it @dataclass(frozen=True): a spec is decided once")
        return spec

    def read_spec(self, data: object, planned: type[Any] | None = None) -> Any:
        """The spec in a record. ``planned`` is its class, for a driver whose ``plan`` has no annotation.

        Raises `RecordError` if this release of the driver, with its extensions, cannot read it.
        """
        driver = self.driver
        if isinstance(driver, ReadsSpec):
            return self._called(driver.read_spec, "read_spec", data)
        declared = return_type(driver.plan)
        kind = declared if dataclasses.is_dataclass(declared) else planned
        if not isinstance(kind, type):
            raise RecordError(f"driver {self.name}: the class of its spec is unknown; annotate the return type of plan")
        return decode(kind, data, "spec", kinds=() if planned is None else (planned,))

    def adopt(self, live: Live, job: Job) -> bool:
        """Whether an interrupted start had succeeded; False for a driver without `Adopts`."""
        driver = self.driver
        return isinstance(driver, Adopts) and bool(self._called(driver.adopt, "adopt", live, job))

    def needs_stop(self, live: Live) -> bool:
        """Whether a stop of an instance that has shut down still needs the driver."""
        driver = self.driver
        return isinstance(driver, NeedsStop) and bool(self._called(driver.needs_stop, "needs_stop", live))

    def able(self, op: Op) -> Callable[..., Any]:
        """The driver's method for an optional operation. Raises `UnsupportedError` if the driver lacks it."""
        protocol, method, kind = ABILITIES[op]
        if not isinstance(self.driver, protocol):
            raise UnsupportedError(driver=self.name, operation=str(op))
        return partial(_calls(method, kind), self)

    def _called(self, call: Callable[..., Any], method: str, *arguments: Any, kind: type[Any] = object) -> Any:
        """The result of a method of the driver. Raises `DriverError` if that is wrong, or for an unexpected error."""
        try:
            result = call(*arguments)
        except (HvError, OSError):
            raise
        except (Exception, SystemExit) as error:  # a plugin must not end the host application
            what = f"raised {type(error).__name__}: {error}"
            raise self._wrong(method, what, "report this to its authors", where_raised(error)) from error
        if not isinstance(result, kind):
            raise self._wrong(method, f"returned {result!r:.80}", f"return {article(kind)}")
        return result

    def _wrong(self, method: str, what: str, todo: str, where: str | None = None) -> DriverError:
        found = where or place(getattr(self.driver, method))
        return DriverError(owner=owner_of(self.entry), method=method, place=found, what=what, todo=todo)
