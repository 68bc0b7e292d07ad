"""Finishing or undoing an interrupted operation. Runs first in every operation, under the lock.

A healthy running guest is never stopped here: an interrupted start that had succeeded is finished, and the interrupted
stop of a guest that still runs is taken back.
"""

from __future__ import annotations

from typing import Any, Final

from hvcore.deadline import Deadline
from hvcore.errors import HvError, NodeError, RecordError
from hvcore.frozen import dataclass
from hvcore.host.network.egress_table import put_back, weaknesses
from hvcore.host.processes.process import boot_id
from hvcore.model.record import Phase
from hvcore.model.state import ACTIVE
from hvcore.operations.context import CallOptions, Context
from hvcore.operations.release import release_ended
from hvcore.operations.unrecorded import remains

__all__ = ["Recovered", "recover_all", "settle"]


_NO_OPTIONS: Final[CallOptions] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What recovery did with one instance.

    ``what`` is ``finished``, ``undone``, ``taken back``, ``cleaned``, ``restored`` (its egress rules) or ``failed``.
    """

    name: str
    what: str
    detail: str

    def to_json(self) -> dict[str, Any]:
        """The result as plain JSON types."""
        return {"name": self.name, "what": self.what, "detail": self.detail}


def settle(context: Context, name: str, deadline: Deadline) -> Recovered | None:
    """Bring one instance to a settled state; None when there was nothing to do. The caller holds its lock.

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
    if same_boot and record.phase in (Phase.RUNNING, Phase.ENDED):
        return None
    loaded = context.driver(record.driver)
    job = context.job(record, deadline, loaded)
    if not same_boot:
        what, detail = "cleaned", "the node was restarted"
    elif record.phase is Phase.STARTING:
        if loaded.adopt(context.live(record), job):
            job.update(phase=Phase.RUNNING)
            return Recovered(name=name, what="finished", detail="its start had succeeded, it runs")
        what, detail = "undone", "its start was interrupted"
    else:
        state = loaded.observe(context.live(record)).state
        if state in ACTIVE:
            job.update(phase=Phase.RUNNING)
            return Recovered(name=name, what="taken back", detail=f"its interrupted stop is cancelled, it is {state}")
        what, detail = "finished", "its stop was interrupted after it had ended"
    outcome = release_ended(context, loaded, job)
    if same_boot:
        _restored(context, name)
    return Recovered(name=name, what=what, detail="; ".join((detail, *outcome.notes)))


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
    return [*found, *_egress_restored(context)]


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
