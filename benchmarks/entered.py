"""The number of our modules that a warm start of a kvm guest enters: a reader who follows a start has to read them.

A module counts when the calling process calls a function of it, also a method that a dataclass has generated. "Warm":
the same node has made the same start before, so nothing is imported or probed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final

from benchmarks.guests import bench, on_disk, on_tmpfs
from benchmarks.measure import Goal, Report, Row

__all__ = ["modules_entered"]

_OURS: Final = ("hvcore", "hv_kvm")
_FAMILIES: Final = "hv_kvm.devices."
_NAME: Final = "web1"


def modules_entered(_repeat: int) -> Iterator[Report]:
    """One report, of one sample: the count is the same each time."""
    where = on_tmpfs() or on_disk()
    if where is None:
        return
    with bench(where) as made:
        instance = made.instance()
        for _ in range(2):
            made.kvm.start(instance, paused=True)
            made.node.stop(_NAME, force=True)
        calls = _calls(lambda: made.kvm.start(instance, paused=True))
    families = sum(module.startswith(_FAMILIES) for module in calls)
    changes = Row(name="changes from one of them to another", samples=[float(_changes(calls))], unit="")
    rows = [
        Row(name="modules of hvcore and hv_kvm", samples=[float(len(calls))], unit="", goal=Goal(60)),
        Row(name="of these, families of devices", samples=[float(families)], unit=""),
        changes,
    ]
    parts = {module: float(sum(into.values())) for module, into in sorted(calls.items())}
    yield Report(title="modules that a warm start enters", rows=rows, parts=parts, parts_of="calls in each of them")


def _changes(calls: dict[str, dict[str, int]]) -> int:
    return sum(count for module, by in calls.items() for caller, count in by.items() if caller != module)


def _calls(work: Callable[[], object]) -> dict[str, dict[str, int]]:
    """Calls of our functions during ``work``: for each module, the number of calls by calling module."""
    found: dict[str, dict[str, int]] = {}

    def note(frame: FrameType, event: str, _argument: Any) -> None:
        module = _module(frame)
        if event != "call" or module is None:
            return
        caller = frame.f_back
        while caller is not None and _module(caller) is None:  # such as a hook that pluggy or contextlib calls
            caller = caller.f_back
        by = found.setdefault(module, {})
        name = (caller and _module(caller)) or ""
        by[name] = by.get(name, 0) + 1

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return found


def _module(frame: FrameType) -> str | None:
    name = str(frame.f_globals.get("__name__", ""))
    return name if name.partition(".")[0] in _OURS else None
