"""Whether one QEMU loads the state that another has saved, tried with two throw-away guests that never run."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from typing import Final

from hv_kvm.qemu import facts_cache
from hv_kvm.qemu.probe import ProbeError, asked
from hv_kvm.qmp import QmpClient, QmpCommandError

__all__ = ["rehearse_move"]

_FORMAT: Final = 1
_DEADLINE_S: Final = 30.0
_ENDED: Final = frozenset({"completed", "failed"})


def rehearse_move(
    old: str, options: Sequence[str], new: str, new_options: Sequence[str], *, cache_dir: str
) -> str | None:
    """Why ``new`` cannot load the state of a guest with these options that ``old`` has saved; None if it can.

    The reason is in QEMU's words. It is kept in ``cache_dir`` until one of the two changes. Raises `ProbeError` if the old
    one cannot start or save the guest.
    """
    words = json.dumps([*options, "", *new_options])
    kind = f"moved-{hashlib.sha256(words.encode()).hexdigest()[:16]}"
    key = [*facts_cache.binary_key(old), *facts_cache.binary_key(new), words, _FORMAT]
    known = facts_cache.load(cache_dir, kind, key)
    if isinstance(known, str):
        return known or None
    found = _rehearsed(old, options, new, new_options)
    facts_cache.store(cache_dir, kind, key, found or "")
    return found


def _rehearsed(old: str, options: Sequence[str], new: str, new_options: Sequence[str]) -> str | None:
    state = os.memfd_create("state", os.MFD_CLOEXEC)
    try:
        asked(old, options, lambda client: _moved(client, "migrate", state), deadline_s=_DEADLINE_S)
        os.lseek(state, 0, os.SEEK_SET)
        try:
            words = (*new_options, "-incoming", "defer")
            asked(new, words, lambda client: _moved(client, "migrate-incoming", state), deadline_s=_DEADLINE_S)
        except ProbeError as error:
            return error.reason
    finally:
        os.close(state)
    return None


def _moved(client: QmpClient, command: str, state: int) -> None:
    """Save the state to the file, or load it from there. Raises `QmpError` and `ProbeError`."""
    capability = {"capability": "events", "state": True}
    client.execute("migrate-set-capabilities", {"capabilities": [capability]}, deadline_s=_DEADLINE_S)
    client.execute("getfd", {"fdname": "state"}, deadline_s=_DEADLINE_S, fds=(state,))
    try:
        client.execute(command, {"uri": "fd:state"}, deadline_s=_DEADLINE_S)
    except QmpCommandError as error:
        raise ProbeError(
            binary=client.subject, reason=f"QEMU cannot save it: {error.desc}", todo="see hv abi"
        ) from error
    ended = client.wait_event(
        lambda event: event.name == "MIGRATION" and event.data.get("status") in _ENDED, deadline_s=_DEADLINE_S
    )
    if ended.data["status"] == "failed":
        told = client.execute("query-migrate", deadline_s=_DEADLINE_S).get("error-desc", "it gives no reason")
        raise ProbeError(binary=client.subject, reason=f"{command} failed: {told}", todo="read its words")
