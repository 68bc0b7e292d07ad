"""The state of a guest, without a command to QEMU: from /proc, the journal of events, and the exit status.

So a listing costs microseconds per guest, a hung monitor does not delay it, and it shows how a guest ended earlier.
`hv list` imports only this module, so it imports no family, and nothing that does.
"""

from __future__ import annotations

import functools
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import hvcore.plugin as hv
from hv_kvm.paths import MIGRATION, SERIAL, GuestPaths
from hv_kvm.run.observation.journal import Journal, read_journal

__all__ = ["called", "observe", "process_of", "programs_beside"]

_DETAILS: Final = (
    "vnc",
    "spice",
    "confinement",
    "uid",
    "accel",
    "qemu",
    "balloon_mib",
    "pins",
)  # and the machine, which the spec has
_PAUSES: Final = {
    "paused": None,
    "prelaunch": "has not run yet",
    "suspended": "the guest is suspended; a key or a timer of the guest wakes it up",
    "io-error": "paused by a disk error",
    "watchdog": "paused by the guest's watchdog",
}

_TORN: Final = "the run directory was full: the state may be out of date until the next event"

# For a process that is just exiting, and for its monitor to write the exit status.
_ENDING_S: Final = 0.1

_ASK_S: Final = 0.5

# A shutdown that begins so long after the power button was pressed is not its effect.
_OBEYS_S: Final = 600.0

# Of a fault in QEMU itself.
_OWN_SIGNALS: Final = frozenset(
    {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP, signal.SIGSYS}
)


def process_of(live: hv.Live) -> hv.ProcessId | None:
    """The guest's QEMU: from the record, else the process that has its pidfile locked."""
    if live.record.process is not None:
        return live.record.process
    holder = hv.pidfile_lock_holder(GuestPaths(live.dir).pidfile)
    return hv.identify(holder) if holder is not None else None


def observe(live: hv.Live) -> hv.Observation:
    """The state with its reason, and current figures."""
    instance = live.record.instance
    journal = read_journal(_journal_path(live.dir))
    process = process_of(live)
    found = hv.figures(process) if process is not None else None
    if process is None or found is None:
        return _ended(live, process)
    if journal.status == "unknown" or journal.torn:
        journal = _asked(live, journal)
    state, reason = _state_of(journal)
    notes = (reason, _TORN if journal.torn else None, _dead_programs(live))
    return hv.Observation(
        state=state,
        reason="; ".join(filter(None, notes)) or None,
        ended_by=hv.EndedBy.PANIC if state is hv.State.CRASHED else None,
        pid=process.pid,
        memory_mib=instance.memory_mib,
        resident_mib=found.resident_mib,
        vcpus=instance.vcpus,
        cpu_seconds=found.cpu_seconds,
        uptime_s=found.uptime_s,
        consoles=_consoles(live),
        details=_details(live),
    )


@functools.lru_cache(maxsize=4096)  # to build the path takes as long as a stat of the file
def _journal_path(directory: Path) -> str:
    return str(GuestPaths(directory).journal)


def _details(live: hv.Live) -> dict[str, Any]:
    bound, machine = live.record.bindings, live.record.spec.get("machine")
    details = {key: bound[key] for key in _DETAILS if bound.get(key) is not None}
    if forwards := bound.get("forwards"):
        details["forwards"] = list(forwards.values())
    if unenforced := bound.get("egress"):
        details["egress"] = "; ".join(dict.fromkeys(unenforced.values()))
    elif inside := bound.get("egress_inside"):
        details["egress"] = "; ".join(dict.fromkeys(inside.values()))
    return details if machine is None else {**details, "machine": machine}


def _consoles(live: hv.Live) -> tuple[hv.ConsoleAddress, ...]:
    """The serial console, then the displays. A record of an older release does not have the latter."""
    displays = live.record.bindings.get("displays", ())
    found = [hv.ConsoleAddress(**{**one, "kind": hv.ConsoleKind(one["kind"])}) for one in displays]
    if os.path.lexists(f"{live.dir}/{SERIAL}"):
        return (hv.ConsoleAddress(kind=hv.ConsoleKind.SERIAL, socket=f"{live.dir}/{SERIAL}"), *found)
    return tuple(found)


def _state_of(journal: Journal) -> tuple[hv.State, str | None]:
    """The state of a guest whose process lives."""
    if journal.status in _PAUSES:
        words = (_PAUSES[journal.status], journal.reason)
        return hv.State.PAUSED, ": ".join(word for word in words if word) or None
    if journal.status == "panicked":
        return hv.State.CRASHED, _panic(journal)
    if journal.status == "shutdown":
        return hv.State.RUNNING, "shutting down"
    return hv.State.RUNNING, None if journal.status == "running" else f"the state in QEMU's journal is {journal.status}"


def _asked(live: hv.Live, journal: Journal) -> Journal:
    """The state by QEMU's own word, where the journal does not show it; the journal's if QEMU does not answer."""
    from hv_kvm.qmp import QmpError, commands, reach  # noqa: PLC0415 - sockets, where the journal does not show the state

    try:
        with reach(live.dir, _ASK_S) as client:
            status = commands.query_status(client, deadline_s=_ASK_S)
    except QmpError:
        return journal
    word = "panicked" if status.state == "guest-panicked" else status.state
    if word not in {*_PAUSES, "panicked", "running", "shutdown"}:
        word = "running" if status.running else "paused"
    return replace(journal, status=word, reason=journal.reason if word == journal.status else None, torn=False)


def _panic(journal: Journal) -> str:
    return "the guest panicked" + (f": {journal.reason}" if journal.reason else "")


def programs_beside(record: hv.Record) -> dict[str, hv.ProcessId]:
    """The processes of the programs beside QEMU, by the keys of their resources."""
    programs = record.bindings.get("companions") or {}
    return {
        name: hv.decode(hv.ProcessId, about["process"], "bindings")
        for name, about in programs.items()
        if "process" in about
    }


def _dead_programs(live: hv.Live) -> str | None:
    """A text about the programs beside QEMU that have ended, or None."""
    beside = {key: process for key, process in programs_beside(live.record).items() if key != MIGRATION}
    # A list asks for every guest: one read of /proc takes half as long as a pidfd, which sees every thread.
    ended = [
        called(name) for name, process in beside.items() if hv.figures(process) is None and hv.wait_gone(process, 0.0)
    ]
    back = f"restart the instance to get {'them' if ended[1:] else 'it'} back"
    return f"its {' and '.join(ended)} died; {back}" if ended else None


def called(program: str) -> str:
    """The name of a program beside QEMU, for people: ``passt of nic0`` for ``nic0.passt``."""
    device, dot, name = program.rpartition(".")
    return f"{name} of {device}" if dot else program


def _ended(live: hv.Live, process: hv.ProcessId | None) -> hv.Observation:
    """The state of a guest without a living process.

    The guest could have written the journal: it gives only the reason, and a panic, which is to the guest's disadvantage.
    """
    details = _details(live)
    if process is not None and not hv.wait_gone(process, _ENDING_S):
        reason = f"killed, but pid {process.pid} hangs in the kernel and may still write"
        return hv.Observation(state=hv.State.STOPPING, reason=reason, pid=process.pid, details=details)
    ended = hv.read_status(live.dir / hv.STATUS).ended
    if ended is None and live.record.monitor is not None:
        if not hv.wait_gone(live.record.monitor, _ENDING_S):  # on a busy node
            reason = "QEMU has exited, and its exit status is not known yet"
            return hv.Observation(state=hv.State.STOPPING, reason=reason, details=details)
        ended = hv.read_status(live.dir / hv.STATUS).ended
    journal = read_journal(_journal_path(live.dir))  # QEMU may have written to it since
    # Without confinement nobody is there to keep the exit status, and QEMU's own word has to do.
    clean = ended.code == 0 if ended is not None else _unconfined(live) and journal.status == "shutdown"
    failed = None if clean else f"QEMU {ended or 'ended with an unknown exit status'}"
    # Whatever QEMU did about the panic: by default it powers the guest off and exits with 0.
    panicked = _panic(journal) if journal.status == "panicked" else None
    if failed is not None or panicked is not None:
        reason = "; ".join(filter(None, (panicked, failed)))
        by = hv.EndedBy.PANIC if panicked is not None else _failed_by(ended)
        return hv.Observation(state=hv.State.CRASHED, reason=reason, ended_by=by, details=details)
    by, reason = _shut_down_by(journal)
    return hv.Observation(state=hv.State.SHUTDOWN, reason=reason, ended_by=by, details=details)


def _unconfined(live: hv.Live) -> bool:
    return live.record.bindings.get("confinement") == hv.Level.OFF


def _failed_by(ended: hv.Ended | None) -> hv.EndedBy:
    """Who ended a QEMU that did not exit with 0."""
    if ended is None or (ended.code is None and ended.signal is None):
        return hv.EndedBy.UNKNOWN
    own = ended.signal is None or ended.signal in _OWN_SIGNALS
    return hv.EndedBy.CRASH if own else hv.EndedBy.KILLED


def _shut_down_by(journal: Journal) -> tuple[hv.EndedBy, str]:
    """Who ended a QEMU that exited with 0, and that in words."""
    if journal.guest_initiated:
        pressed, at = journal.pressed_at, journal.at
        if pressed is not None and at is not None and 0.0 <= at - pressed <= _OBEYS_S:
            return hv.EndedBy.POWERDOWN, "shut down by the guest after its power button was pressed"
        return hv.EndedBy.GUEST, "shut down by the guest"
    if journal.reason:
        return hv.EndedBy.OUTSIDE, f"ended from outside the guest ({journal.reason})"
    return hv.EndedBy.UNKNOWN, "QEMU exited; no reason is recorded"
