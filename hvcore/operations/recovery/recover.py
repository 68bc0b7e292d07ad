"""Finishing or undoing an interrupted operation. Runs first in every operation, under the lock.

A healthy running guest is never stopped here: an interrupted start that had succeeded is finished, and the interrupted
stop of a guest that still runs is taken back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from hvcore.deadline import Deadline
from hvcore.errors import HvError, NodeError, RecordError
from hvcore.frozen import dataclass
from hvcore.host.network.egress_table import put_back, weaknesses
from hvcore.host.processes.process import boot_id
from hvcore.model.record import Phase
from hvcore.model.state import ACTIVE
from hvcore.operations.context import CallOptions, Context
from hvcore.operations.inspection.unrecorded import remains
from hvcore.operations.open_job import arrives, open_jobs
from hvcore.operations.recovery.release import release_ended

if TYPE_CHECKING:
    from hvcore.plugins.loaded_driver import LoadedDriver  # imports pluggy and metadata
    from hvcore.state.job import Job

__all__ = ["Recovered", "recover_all", "settle"]


_ENDED_BY: Final = {
    Phase.STARTING: ("undone", "its start was interrupted"),
    Phase.ARRIVING: ("undone", "its migration is over, or its journal does not name it"),
    Phase.STOPPING: ("finished", "its stop was interrupted after it had ended"),
}
_NO_OPTIONS: Final[CallOptions] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What recovery did with one instance.

    ``what`` is ``finished``, ``undone``, ``taken back``, ``cleaned``, ``restored`` (its egress rules), ``open`` (a migration
    that only its two nodes together can end) or ``failed``.
    """

    name: str
    what: str
    detail: str

    def to_json(self) -> dict[str, Any]:
        """The result as plain JSON types."""
        return {"name": self.name, "what": self.what, "detail": self.detail}


def settle(context: Context, name: str, deadline: Deadline, *, devices: bool = True) -> Recovered | None:
    """Bring one instance to a settled state; None when there was nothing to do. The caller holds its lock.

    Without ``devices``, an interrupted change of one is left, for a stop: that releases what either side of it holds.

    Raises `HvError` when something that it holds cannot be released.
    """
    try:
        record = context.store.load(name)
    except RecordError:
        return None  # only stop --force and people can deal with that
    if record is None:
        # A crash between making the directory and the first record, or between removing the record and the directory.
        if context.store.dir(name).is_dir():
            context.store.remove(name)
        return _restored(context, name)
    same_boot = record.boot_id == boot_id()
    settled = (Phase.RUNNING, Phase.ENDED, *(() if devices else (Phase.CHANGING,)))
    # What arrives is left to the next request of its migration.
    if same_boot and (record.phase in settled or (record.phase is Phase.ARRIVING and arrives(context, name))):
        return None
    loaded = context.driver(record.driver)
    job = context.job(record, deadline, loaded)
    if same_boot and record.phase is Phase.CHANGING:
        return _change_settled(loaded, job)
    if same_boot and (kept := _kept_running(loaded, job)) is not None:
        return kept
    what, detail = ("cleaned", "the node was restarted") if not same_boot else _ENDED_BY[record.phase]
    outcome = release_ended(context, loaded, job)
    if same_boot:
        _restored(context, name)
    return Recovered(name=name, what=what, detail="; ".join((detail, *outcome.notes)))


def _kept_running(loaded: LoadedDriver, job: Job) -> Recovered | None:
    """Finish a start that had succeeded, or take back the stop of an instance that still runs. None if it has ended."""
    if job.record.phase is Phase.ARRIVING:
        return None
    if job.record.phase is Phase.STARTING:
        if not loaded.adopt(job.live, job):
            return None
        job.update(phase=Phase.RUNNING)
        return Recovered(name=job.name, what="finished", detail="its start had succeeded, it runs")
    state = loaded.observe(job.live).state
    if state not in ACTIVE:
        return None
    job.update(phase=job.record.up)
    more = None if job.record.change is None else _change_settled(loaded, job)
    detail = f"its interrupted stop is cancelled, it is {state}"
    return Recovered(name=job.name, what="taken back", detail=f"{detail}; {more.detail}" if more else detail)


def _change_settled(loaded: LoadedDriver, job: Job) -> Recovered | None:
    """Finish or undo an interrupted change of a device. None if the instance has ended: then everything is released."""
    from hvcore.operations.recovery.device_change import settle_change  # noqa: PLC0415 - 2 ms, for those that have one

    if loaded.observe(job.live).state not in ACTIVE:
        job.update(phase=Phase.RUNNING, change=None)
        return None
    what, detail = settle_change(loaded, job)
    return Recovered(name=job.name, what=what, detail=detail)


def _restored(context: Context, name: str) -> Recovered | None:
    """Bring back the record of an instance whose reboot was interrupted between its halves."""
    if not context.store.kept(name).restore():
        return None
    return Recovered(
        name=name, what="finished", detail="its reboot was interrupted after the stop; hv reboot starts it"
    )


def _unrecorded(context: Context, name: str) -> Recovered | None:
    """A failure for an instance that runs without any state: only stop --force and people can deal with that."""
    if context.store.dir(name).is_dir():
        return None
    left = remains(context, name)
    return None if left is None else Recovered(name=name, what="failed", detail=left)


def recover_all(context: Context, deadline_s: float, options: CallOptions = _NO_OPTIONS) -> list[Recovered]:
    """Settle every instance of the node, one after the other. The failure of one is reported and stops no other."""
    found = []
    for name in sorted({*context.store.names(), *context.store.abandoned_locks()}):
        try:
            of_call = context.for_call(name, "recover", options)
            with context.store.lock(name, "recover", wait_s=of_call.busy_s):
                result = settle(of_call, name, Deadline(deadline_s)) or _unrecorded(context, name)
        except HvError as error:
            result = Recovered(name=name, what="failed", detail=str(error))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the others are recovered all the same
            result = Recovered(name=name, what="failed", detail=f"raised {type(error).__name__}: {error}")
        if result is not None:
            found.append(result)
    return [*found, *_open_migrations(context), *_egress_restored(context)]


def _open_migrations(context: Context) -> list[Recovered]:
    """Every migration that has not ended: only its two nodes together can end it."""
    try:
        return [Recovered(name=name, what="open", detail=what) for name, what in open_jobs(context).items()]
    except HvError as error:
        return [Recovered(name="", what="failed", detail=str(error))]


def _egress_restored(context: Context) -> list[Recovered]:
    """Put back the table of egress rules if a guest lacks its own."""
    names = context.store.names()
    weak = {name: why for name, why in sorted(weaknesses(context.host).items()) if name in names}
    if not weak:
        return []
    try:
        put_back(context.host)
    except NodeError as error:
        return [
            Recovered(name=name, what="failed", detail=f"its egress is not enforced: {why}; {error}")
            for name, why in weak.items()
        ]
    return [Recovered(name=name, what="restored", detail=f"its egress rules: {why}") for name, why in weak.items()]
