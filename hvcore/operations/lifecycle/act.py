"""What the file of an instance asks for when the instance has ended: a restart, or a clean-up."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from hvcore.config import file_content, parse_instance_file
from hvcore.deadline import Deadline, wall_clock_s
from hvcore.errors import BusyError, HvError, NotFoundError, StateError
from hvcore.frozen import dataclass
from hvcore.host.files import private_dir, read_regular, write_atomic
from hvcore.host.processes.process import boot_id, wait_gone
from hvcore.model.instance_keys import definition_values
from hvcore.model.state import ENDED, EndedBy, State
from hvcore.operations.context import CallOptions, Context
from hvcore.operations.inspection.observe import Observed, observed
from hvcore.operations.lifecycle.reboot import reboot
from hvcore.operations.lifecycle.stop import cleanup

__all__ = ["MOST_RESTARTS", "RESTARTS_S", "Acted", "act"]

MOST_RESTARTS: Final = 3
"""Restarts of one instance within `RESTARTS_S`; then it stays as it ended until the oldest is that long ago."""
RESTARTS_S: Final = 600.0

_STOP_S: Final = 60.0
_START_S: Final = 60.0
_STATUS_S: Final = 10.0
_BYTES: Final = 4096
_BY_GUEST: Final = (EndedBy.GUEST, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Acted:
    """What was done with an instance that had ended: ``restarted``, ``cleaned``, ``gave up`` or ``failed``, and why."""

    name: str
    what: str
    detail: str

    def to_json(self) -> dict[str, Any]:
        """The result as plain JSON types."""
        return {"name": self.name, "what": self.what, "detail": self.detail}


def act(context: Context, names: Iterable[str] | None, options: CallOptions) -> list[Acted]:
    """Do what the files of ended instances ask for, one after the other. The failure of one is reported and stops no other."""
    _forget_old(context.store.run_dir)
    found = []
    for name in context.store.names() if names is None else names:
        try:
            result = _act(context.for_call(name, "act", options), name)
        except (BusyError, NotFoundError, StateError):  # another operation was faster
            result = None
        except HvError as error:
            result = Acted(name=name, what="failed", detail=str(error))
        if result is not None:
            found.append(result)
    return found


def _act(context: Context, name: str) -> Acted | None:
    seen = None if context.store.locked(name) else _ended(context, name)
    wanted = "keep" if seen is None else _wanted(seen)
    if seen is None or wanted == "keep":
        return None
    why = seen.observation.reason or str(seen.observation.ended_by or seen.state)
    if wanted == "cleanup":
        cleanup(context, name, deadline=Deadline(_STOP_S))
        return Acted(name=name, what="cleaned", detail=why)
    return _restart(context, name, why, force=seen.state is State.CRASHED)


def _restart(context: Context, name: str, why: str, *, force: bool) -> Acted | None:
    """Start it again, or give up, which is reported once. ``force``: a guest that panicked may still have its process."""
    times, gave_up = _restarts(context.store.run_dir, name)
    if len(times) >= MOST_RESTARTS:
        if gave_up:
            return None
        _write(context.store.run_dir, name, times, gave_up=True)
        what = f"{MOST_RESTARTS} restarts within {RESTARTS_S / 60:.0f} minutes, so it stays as it is"
        return Acted(name=name, what="gave up", detail=f"{what} ({why})")
    _write(context.store.run_dir, name, [*times, wall_clock_s()])  # before the start, which may be interrupted
    deadline = Deadline(_STOP_S)
    start_deadline = deadline.extended(_START_S)
    outcome = reboot(context, name, force=force, deadline=deadline, start_deadline=start_deadline, only_ended=True)
    return Acted(name=name, what="restarted", detail="; ".join((why, *outcome.notes)))


def _ended(context: Context, name: str) -> Observed | None:
    """The instance if it has ended in this boot, when its exit status is known."""
    seen = observed(context, name)
    record = seen.record
    if record is None or seen.state not in ENDED or record.boot_id != boot_id():
        return None
    known = seen.observation.ended_by not in (None, EndedBy.UNKNOWN)
    if known or record.monitor is None or not wait_gone(record.monitor, _STATUS_S):
        return seen
    seen = observed(context, name)
    return seen if seen.state in ENDED else None


def _wanted(seen: Observed) -> str:
    """What its file asks for now: ``keep``, ``restart`` or ``cleanup``."""
    record = seen.record
    if record is None or not record.source:
        return "keep"
    values = definition_values(parse_instance_file(file_content(record.source, protected=True), repr(record.source)))
    if seen.state is State.CRASHED:
        return str(values["on_crash"])
    wanted = str(values["on_shutdown"])
    # Whoever pressed its button, or asked its program to exit, wants it to be off.
    by_guest = seen.observation.ended_by in _BY_GUEST
    return "keep" if wanted == "restart" and not by_guest else wanted


def _file(run_dir: Path, name: str) -> Path:
    return run_dir / "restarts" / name


def _restarts(run_dir: Path, name: str) -> tuple[list[float], bool]:
    """When it was restarted in the last minutes, and whether it was reported that there are no more restarts."""
    now = wall_clock_s()
    try:
        data = json.loads(read_regular(_file(run_dir, name), limit=_BYTES))
        times = [float(one) for one in data["times"] if now - RESTARTS_S < float(one) <= now]
        return times, data.get("gave_up") is True
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return [], False


def _write(run_dir: Path, name: str, times: list[float], *, gave_up: bool = False) -> None:
    private_dir(run_dir / "restarts")
    write_atomic(_file(run_dir, name), json.dumps({"times": times, "gave_up": gave_up}).encode())


def _forget_old(run_dir: Path) -> None:
    """Remove the files of instances that were not restarted lately."""
    with suppress(OSError):
        for name in os.listdir(run_dir / "restarts"):
            if not _restarts(run_dir, name)[0]:
                _file(run_dir, name).unlink(missing_ok=True)
