"""How a guest is doing, without asking QEMU: from /proc, its journal of events, and its exit status.

So a listing costs microseconds per guest, a hung monitor delays nobody, and how a guest ended is
known when nobody was there to watch. It imports no family, and nothing that does: `hv list` imports this alone.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import hvcore.plugin as hv
from hv_kvm.paths import GuestPaths
from hv_kvm.run.journal import Journal, read_journal

__all__ = ["observe", "process_of"]

_TOLD: Final = ("vnc", "spice", "confinement", "uid", "accel", "qemu")  # and the machine, which the spec has
_PAUSES: Final = {
    "paused": None,
    "prelaunch": "has not been let go yet",
    "suspended": "the guest sleeps; it wakes by itself or by a key",
    "io-error": "paused by a disk error",
    "watchdog": "paused by the guest's watchdog",
}

_TORN: Final = "its journal is cut off, the run directory was full: this may be old until the next event"

# How long one that is just ending may take to be gone, and what watched it to write down how.
_ENDING_S: Final = 0.1


def process_of(live: hv.Live) -> hv.ProcessId | None:
    """The guest's QEMU: from the record, else whoever holds the lock on its pidfile, else what the launch left."""
    if live.record.process is not None:
        return live.record.process
    holder = hv.pidfile_lock_holder(GuestPaths(live.dir).pidfile)
    return hv.identify(holder) if holder is not None else None


def observe(live: hv.Live) -> hv.Observation:
    """The state with its reason, and live figures."""
    instance = live.record.instance
    journal = read_journal(_journal_path(live.dir))
    process = process_of(live)
    found = hv.figures(process) if process is not None else None
    if process is None or found is None:
        return _ended(live, process, journal)
    state, reason = _state_of(journal)
    also = (_TORN if journal.torn else None, _lost(live))
    if any(also):
        reason = "; ".join(filter(None, (reason, *also)))
    return hv.Observation(
        state=state,
        reason=reason,
        pid=process.pid,
        memory_mib=instance.memory_mib,
        resident_mib=found.resident_mib,
        vcpus=instance.vcpus,
        cpu_seconds=found.cpu_seconds,
        uptime_s=found.uptime_s,
        details=_details(live),
    )


@functools.lru_cache(maxsize=4096)  # putting the path together takes as long as looking at the file
def _journal_path(directory: Path) -> str:
    return str(GuestPaths(directory).journal)


def _details(live: hv.Live) -> dict[str, Any]:
    bound, machine = live.record.bindings, live.record.spec.get("machine")
    told = {key: bound[key] for key in _TOLD if bound.get(key) is not None}
    if machine is not None:
        told["machine"] = machine
    return told


def _state_of(journal: Journal) -> tuple[hv.State, str | None]:
    """The state of a guest whose process lives."""
    if journal.status in _PAUSES:
        words = (_PAUSES[journal.status], journal.reason)
        return hv.State.PAUSED, ": ".join(word for word in words if word) or None
    if journal.status == "panicked":
        return hv.State.CRASHED, "the guest panicked" + (f": {journal.reason}" if journal.reason else "")
    if journal.status == "shutdown":
        return hv.State.RUNNING, "on its way down"
    return hv.State.RUNNING, None if journal.status == "running" else f"QEMU's journal says {journal.status}"


def _lost(live: hv.Live) -> str | None:
    """Which companions of a running guest have ended, in words, or None."""
    bound = live.record.bindings.get("companions")
    if not bound:
        return None
    ended = [name for name, about in bound.items() if "process" in about and hv.wait_gone(_process(about), 0.0)]
    return f"its {' and '.join(ended)} has ended, until it is started anew" if ended else None


def _process(about: Mapping[str, Any]) -> hv.ProcessId:
    return hv.decode(hv.ProcessId, about["process"], "bindings")


def _ended(live: hv.Live, process: hv.ProcessId | None, journal: Journal) -> hv.Observation:
    """What is left of a guest without a living process. What the guest could have written is only for the reason."""
    if process is not None and not hv.wait_gone(process, _ENDING_S):
        reason = f"killed and not gone: pid {process.pid} hangs in the kernel and may still write"
        return hv.Observation(state=hv.State.STOPPING, reason=reason, pid=process.pid, details=_details(live))
    ended = hv.read_status(live.dir / "status").ended
    if ended is None and live.record.monitor is not None and hv.wait_gone(live.record.monitor, _ENDING_S):
        ended = hv.read_status(live.dir / "status").ended
    if ended is None:
        return hv.Observation(state=hv.State.CRASHED, reason="ended, and how is not known", details=_details(live))
    if ended.code != 0:
        return hv.Observation(state=hv.State.CRASHED, reason=f"QEMU {ended}", details=_details(live))
    if journal.guest_initiated:
        return hv.Observation(state=hv.State.SHUTDOWN, reason="shut down by the guest", details=_details(live))
    told = f"told to end from outside ({journal.reason})" if journal.reason else "ended by itself"
    return hv.Observation(state=hv.State.SHUTDOWN, reason=told, details=_details(live))
