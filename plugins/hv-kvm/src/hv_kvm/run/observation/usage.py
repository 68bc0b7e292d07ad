"""What running guests use, by QEMU's own counters: asked of all guests at the same time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import hvcore.plugin as hv
from hv_kvm.machine.saved import saved_device
from hv_kvm.paths import GuestPaths
from hv_kvm.qmp import QmpBusyError, QmpError, QmpTimeoutError
from hv_kvm.qmp.ask_all import Answers, Question, Questions, ask_all
from hv_kvm.qmp.size_commands import PERIPHERAL

__all__ = ["usage"]

_BALLOON: Final[Question] = ("query-balloon", None)
_DISKS: Final[Question] = ("query-blockstats", None)
_GUEST: Final[Question] = ("qom-get", {"path": f"{PERIPHERAL}/balloon", "property": "guest-stats"})
_HOT: Final[Question] = ("qom-get", {"path": f"{PERIPHERAL}/hot-memory", "property": "size"})
_COUNTERS: Final = {
    "reads": "rd_operations",
    "writes": "wr_operations",
    "read_bytes": "rd_bytes",
    "written_bytes": "wr_bytes",
}
# What a guest reports of its memory (virtio-balloon), in bytes or as counters.
_REPORTED_MIB: Final = {
    "total_mib": "stat-total-memory",
    "free_mib": "stat-free-memory",
    "available_mib": "stat-available-memory",
    "cache_mib": "stat-disk-caches",
    "swapped_in_mib": "stat-swap-in",
    "swapped_out_mib": "stat-swap-out",
}
_REPORTED: Final = {"major_faults": "stat-major-faults", "minor_faults": "stat-minor-faults"}
_LARGEST: Final = 1 << 62  # a guest that does not report a figure leaves it at -1, unsigned


def usage(lives: Sequence[hv.Live], deadline: hv.Deadline) -> list[hv.Usage]:
    """The memory that each guest has, the counters of its disks, and what the guest reports of its memory."""
    asked = [_questions(live) for live in lives]
    answers = ask_all(asked, deadline)
    return [
        _usage(live, questions, found, deadline) for live, questions, found in zip(lives, asked, answers, strict=True)
    ]


def _questions(live: hv.Live) -> Questions:
    balloon = saved_device(live.record.spec, "Balloon")
    wanted = [_DISKS] if balloon is None else [_DISKS, _BALLOON]
    if balloon is not None and balloon.get("stats_s"):
        wanted.append(_GUEST)
    if saved_device(live.record.spec, "HotMemory") is not None:
        wanted.append(_HOT)
    return Questions(paths=GuestPaths(live.dir), questions=tuple(wanted))


def _usage(live: hv.Live, asked: Questions, found: Answers | QmpError, deadline: hv.Deadline) -> hv.Usage:
    if isinstance(found, QmpError):
        return hv.Usage(problem=_problem(live, found, deadline))
    known = {id(question): answer for question, answer in zip(asked.questions, found, strict=True)}
    failed = [answer for answer in found if isinstance(answer, QmpError)]
    # A guest that has no driver for its balloon has all its memory.
    failed = [error for error in failed if "DeviceNotActive" not in str(error)]
    actual, more = _number(known.get(id(_BALLOON)), "actual"), known.get(id(_HOT))
    more_bytes = more if type(more) is int and 0 <= more < _LARGEST else 0
    return hv.Usage(
        problem=str(failed[0]) if failed else None,
        memory_mib=None if actual is None else (actual + more_bytes) >> 20,
        disks=tuple(_disks(known.get(id(_DISKS)))),
        guest=_reported(known.get(id(_GUEST))),
    )


def _problem(live: hv.Live, error: QmpError, deadline: hv.Deadline) -> str:
    if isinstance(error, QmpTimeoutError):
        return f"QEMU did not answer within {deadline.seconds:g} s; see 'hv info {live.record.name}'"
    if isinstance(error, QmpBusyError):
        return "both monitors are in use by other programs; close them"
    return str(error)


def _disks(answer: object) -> list[hv.DiskUse]:
    found = []
    for row in answer if isinstance(answer, list) else ():
        name, stats = _name(row), row.get("stats") if isinstance(row, dict) else None
        values = {key: _number(stats, theirs) for key, theirs in _COUNTERS.items()}
        if name and None not in values.values():
            found.append(hv.DiskUse(disk=name, **{key: value or 0 for key, value in values.items()}))
    return sorted(found, key=lambda disk: disk.disk)


def _name(row: object) -> str:
    """The disk's name, such as ``disk0``: that of its block node."""
    if not isinstance(row, dict):
        return ""
    name = row.get("node-name") or row.get("device")
    return name if isinstance(name, str) else ""


def _reported(answer: object) -> dict[str, int]:
    stats = answer.get("stats") if isinstance(answer, dict) else None
    found = {key: _number(stats, theirs) for key, theirs in (_REPORTED_MIB | _REPORTED).items()}
    return {key: value >> 20 if key in _REPORTED_MIB else value for key, value in found.items() if value is not None}


def _number(body: object, key: str) -> int | None:
    value = body.get(key) if isinstance(body, Mapping) else None
    return value if type(value) is int and 0 <= value < _LARGEST else None
