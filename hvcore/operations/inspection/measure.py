"""What the running instances of the node use, measured for all of them by one deadline. Changes nothing: no lock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from hvcore.deadline import Deadline
from hvcore.errors import HvError, NotFoundError
from hvcore.frozen import dataclass
from hvcore.host.environment import Live
from hvcore.model.record import Record
from hvcore.model.state import ACTIVE, State
from hvcore.model.usage import InstanceUsage, NicUse, Usage, usage_fault
from hvcore.operations.context import Context
from hvcore.operations.in_time import OverdueError, side_by_side
from hvcore.operations.inspection.interfaces import NodeInterfaces
from hvcore.operations.inspection.observe import Observed, observed_all
from hvcore.plugins.protocols import Measures

if TYPE_CHECKING:
    from hvcore.plugins.loaded_driver import LoadedDriver  # imports pluggy and metadata

__all__ = ["usage"]

_T = TypeVar("_T")

# A driver that keeps its deadline answers at the deadline for a guest that hangs.
_GRACE_S: Final = 0.5
_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    """A running instance, as it was observed."""

    name: str
    record: Record
    live: Live
    seen: Observed


def usage(context: Context, names: Sequence[str], *, deadline: Deadline) -> list[InstanceUsage]:
    """The figures of the running and paused instances among these names, or of all without names, sorted by name.

    An instance that hangs has a ``problem`` in its answer, and delays the others by no more than the one deadline.
    Raises `NotFoundError` for a name that the node does not have.
    """
    wanted = sorted(set(names)) or context.store.names()
    running = []
    for name, seen in zip(wanted, observed_all(context, wanted), strict=True):
        if names and seen.state is State.STOPPED:
            raise NotFoundError(name)
        if seen.record is not None and seen.state in ACTIVE:
            running.append(_Running(name=name, record=seen.record, live=context.live(seen.record), seen=seen))
    measured = _measured(context, running, deadline)
    node = NodeInterfaces()
    return [_with_node(one, measured.get(one.name, Usage()), node) for one in running]


def _measured(context: Context, running: Sequence[_Running], deadline: Deadline) -> dict[str, Usage]:
    """What the drivers measure, each driver in its own thread: one that hangs keeps no other from answering."""
    by_driver: dict[str, list[_Running]] = {}
    for one in running:
        by_driver.setdefault(one.record.driver, []).append(one)
    found: dict[str, Usage] = {}
    calls: dict[str, Callable[[], Sequence[Usage]]] = {}
    for driver, instances in by_driver.items():
        overdue = context.overdue.get((f"usage of {driver}", None))
        if overdue is not None and overdue.is_alive():  # leave no second thread behind
            found |= _all_alike(instances, _late(driver))
            continue
        try:
            loaded = context.driver(driver)
        except HvError as error:
            found |= _all_alike(instances, str(error))
            continue
        if isinstance(loaded.driver, Measures):
            calls[driver] = partial(_asked, loaded, loaded.driver, [one.live for one in instances], deadline)
    answers = side_by_side(list(calls.values()), deadline.left() + _GRACE_S)
    for driver, answer in zip(calls, answers, strict=True):
        if isinstance(answer, OverdueError):
            context.overdue[f"usage of {driver}", None] = answer.thread
            found |= _all_alike(by_driver[driver], _late(driver))
        elif isinstance(answer, BaseException):
            found |= _all_alike(by_driver[driver], _in_words(driver, answer))
        else:
            found |= {one.name: each for one, each in zip(by_driver[driver], answer, strict=True)}
    return found


def _asked(loaded: LoadedDriver, driver: Measures, lives: Sequence[Live], deadline: Deadline) -> Sequence[Usage]:
    """The driver's answers. One that no program can use becomes a problem of that instance."""
    found = list(driver.usage(lives, deadline))
    if len(found) != len(lives):
        raise TypeError(f"{len(found)} answers for {len(lives)} instances")
    faults = [usage_fault(one) for one in found]
    return [
        one if fault is None else Usage(problem=f"driver {loaded.name}: its usage {fault}; report this to its authors")
        for one, fault in zip(found, faults, strict=True)
    ]


def _in_words(driver: str, error: BaseException) -> str:
    if isinstance(error, HvError | OSError):
        return str(error)
    return f"driver {driver}: usage raised {type(error).__name__}: {error}; report this to its authors"


def _all_alike(instances: Sequence[_Running], problem: str) -> dict[str, Usage]:
    return {one.name: Usage(problem=problem) for one in instances}


def _late(driver: str) -> str:
    return f"driver {driver} did not measure its instances in time; report this to its authors"


def _with_node(one: _Running, measured: Usage, node: NodeInterfaces) -> InstanceUsage:
    """The driver's figures, with those that every instance has: of its processes, its control group and its interfaces."""
    observation, group = one.seen.observation, one.live.group
    charged = None if group is None else group.figures()
    return InstanceUsage(
        name=one.name,
        driver=one.record.driver,
        state=one.seen.state,
        problem=measured.problem,
        vcpus=_first(measured.vcpus, observation.vcpus),
        cpu_seconds=_first(measured.cpu_seconds, observation.cpu_seconds),
        uptime_s=observation.uptime_s,
        memory_mib=_first(measured.memory_mib, observation.memory_mib),
        resident_mib=_first(measured.resident_mib, observation.resident_mib),
        group_mib=None if charged is None or charged.memory_bytes is None else charged.memory_bytes // _MIB,
        processes=_first(measured.processes, None if charged is None else charged.processes),
        oom_kills=None if charged is None else charged.oom_kills,
        disks=measured.disks,
        nics=tuple(_nics(one, node)),
        guest=measured.guest,
    )


def _first(*values: _T | None) -> _T | None:
    return next((value for value in values if value is not None), None)


def _nics(one: _Running, node: NodeInterfaces) -> list[NicUse]:
    instance = one.record.instance
    macs = [instance.mac(index) for index in range(len(instance.nics))]
    return list(node.counters(one.record, macs)) if macs else []
