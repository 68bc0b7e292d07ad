"""How far a migration is: asked of the QEMU on either side."""

from __future__ import annotations

from typing import Final

import hvcore.plugin as hv
from hv_kvm.qmp import QmpClosedError, QmpConnectError, commands, migration_commands, reach
from hv_kvm.run.migration.stream import relay_said
from hv_kvm.run.observation.observe import process_of

__all__ = ["LANDING", "MIRRORS", "SENDING", "transfer"]

LANDING: Final = "landing"
"""In the record's bindings on the target: the `hvcore.plugin.Landing`, until the guest runs."""

SENDING: Final = "sending"
"""In the record's bindings on the source: the job of its last migration."""

MIRRORS: Final = "mirrors"
"""In the record's bindings on the source: ``ended``, or the error of a copy of a disk. Missing while they run."""

_ASK_S: Final = 2.0
_WAITS: Final = "inmigrate"
_STATES: Final = {str(state): state for state in hv.TransferState}


def transfer(live: hv.Live) -> hv.Transfer:
    """How far it is. A guest that has ended has no transfer, but the reason if it could not arrive.

    Raises `QmpError` for a QEMU that does not answer.
    """
    process = process_of(live)
    if process is None or hv.wait_gone(process, 0.0):
        return _ended(live)
    try:
        with reach(live.dir, _ASK_S) as client:
            found = migration_commands.query_migrate(client, deadline_s=_ASK_S)
            status = commands.query_status(client, deadline_s=_ASK_S)
    except (QmpClosedError, QmpConnectError):
        return _ended(live)
    state = state_of(found, arriving=LANDING in live.record.bindings)
    if state is hv.TransferState.NONE and status.state == _WAITS:
        state = hv.TransferState.WAITING
    error = found.error or None
    if state is hv.TransferState.FAILED:
        error = "; ".join(filter(None, (found.error, relay_said(live.dir)))) or "QEMU gives no reason"
    return hv.Transfer(
        state=state,
        cpus_run=status.running,
        transferred_bytes=found.transferred,
        remaining_bytes=found.remaining,
        total_bytes=found.total,
        rate_bps=found.rate_bps,
        dirty_bps=found.dirty_bps,
        expected_downtime_ms=found.expected_downtime_ms,
        downtime_ms=found.downtime_ms,
        total_ms=found.total_ms,
        error=error,
        mirrors_ended=True,
    )


def _ended(live: hv.Live) -> hv.Transfer:
    """No transfer. A QEMU that could not load the guest has said why in its log; the source does not know it."""
    if LANDING not in live.record.bindings:
        return hv.Transfer()
    said = hv.headline(hv.tail(live.dir / hv.LOG), (str(live.record.spec.get("qemu", "")),))
    return hv.Transfer(error=said or None)


def state_of(found: migration_commands.Migration, *, arriving: bool) -> hv.TransferState:
    """The state by QEMU's words. A word of a newer QEMU means that it is on the way.

    A guest that has arrived earlier has not left: QEMU says ``completed`` then, without the figures of a source.
    """
    state = _STATES.get(found.status or "none", hv.TransferState.ACTIVE)
    if state is hv.TransferState.COMPLETED and not arriving and found.total_ms is None:
        return hv.TransferState.NONE
    return state
