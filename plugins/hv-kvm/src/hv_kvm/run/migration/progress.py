"""How far a migration is: asked of the QEMU on either side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import hvcore.plugin as hv
from hv_kvm.qmp import QmpClosedError, QmpConnectError, commands, migration_commands, reach
from hv_kvm.run.migration.stream import relay_said
from hv_kvm.run.observation.observe import process_of

__all__ = ["LANDING", "SENDING", "state_of", "transfer"]

LANDING: Final = "landing"
"""In the record's bindings on the target: the `hvcore.plugin.Landing`, until the guest runs."""

SENDING: Final = "sending"
"""In the record's bindings on the source: ``job`` of the last migration, whether it was ``sent`` and ``switched`` to postcopy."""

_ASK_S: Final = 2.0
_WAITS: Final = "inmigrate"
_ENDED: Final = frozenset({hv.TransferState.COMPLETED, hv.TransferState.FAILED, hv.TransferState.CANCELLED})
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
    state = state_of(found.status, live.record.bindings)
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


def state_of(status: str, bindings: Mapping[str, Any]) -> hv.TransferState:
    """The state by QEMU's word, and by what the record says of this guest. A new word of QEMU means that it is on the way.

    QEMU keeps the word of the last migration that it took part in, also of the one by which the guest has come. A migration
    that was perhaps not begun has not ended well: then it is cancelled, which is safe on either side.
    """
    state = _STATES.get(status or "none", hv.TransferState.ACTIVE)
    sending = bindings.get(SENDING, {})
    if state not in _ENDED or LANDING in bindings or sending.get("sent"):
        return state
    return hv.TransferState.CANCELLED if sending else hv.TransferState.NONE
