"""How far a migration is: asked of the QEMU on either side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import hvcore.plugin as hv
from hv_kvm.qmp import QmpClosedError, QmpConnectError, commands, migration_commands, reach
from hv_kvm.run.migration.disk_copies import Copies, copies
from hv_kvm.run.migration.stream import relay_said
from hv_kvm.run.observation.observe import process_of

__all__ = ["LANDING", "SENDING", "state_of", "transfer"]

LANDING: Final = "landing"
"""In the record's bindings on the target: the `hvcore.plugin.Landing`, until the guest runs."""

SENDING: Final = "sending"
"""In the record's bindings on the source, about its last migration: ``job``, ``disks`` that are copied, and whether they were
``copied``, and the guest was ``sent`` and ``switched`` to postcopy."""

_ASK_S: Final = 2.0
_WAITS: Final = "inmigrate"
_BEFORE: Final = frozenset({hv.TransferState.NONE, hv.TransferState.SETUP})  # the latter since QEMU 8 or later
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
            sending = live.record.bindings.get(SENDING, {})
            copying = copies(client, sending["disks"], deadline_s=_ASK_S) if _copies(sending) else None
    except (QmpClosedError, QmpConnectError):
        return _ended(live)
    state = state_of(found.status, live.record.bindings)
    if state in _BEFORE and status.state == _WAITS:
        state = hv.TransferState.WAITING
    if state is hv.TransferState.FAILED:
        said = "; ".join(filter(None, (found.error, relay_said(live.dir)))) or "QEMU gives no reason"
        found = replace(found, error=said)
    whole = hv.Transfer(
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
        error=found.error or None,
        mirrors_ended=not _copies(sending),
    )
    return whole if copying is None else _with(copying, whole, sent=bool(sending["sent"]))


def _copies(sending: Mapping[str, Any]) -> bool:
    """Whether disks are copied, and that has not ended well."""
    return bool(sending.get("disks")) and not sending.get("copied")


def _with(copying: Copies, found: hv.Transfer, *, sent: bool) -> hv.Transfer:
    """The transfer with the copies of disks, which come before the state of the guest."""
    found = replace(found, mirror_error=copying.error)
    if sent:
        return found
    state = hv.TransferState.PRE_SWITCHOVER if copying.ready else hv.TransferState.ACTIVE
    if copying.error is not None:
        return replace(found, state=hv.TransferState.FAILED, error=copying.error)
    left = copying.total - copying.done
    return replace(found, state=state, transferred_bytes=copying.done, remaining_bytes=left, total_bytes=copying.total)


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
