"""The buttons and the keyboard of a guest's machine."""

from __future__ import annotations

import difflib
from typing import Final

from hv_kvm.qmp import QmpCommandError, commands, reach
from hv_kvm.qmp.introspect import query_keys
from hvcore.plugin import InputError, Job, Live, UnsupportedError

__all__ = ["nmi", "powerdown", "reset", "send_keys"]

_OTHER_NAMES: Final = {
    "control": "ctrl",
    "del": "delete",
    "enter": "ret",
    "escape": "esc",
    "return": "ret",
    "space": "spc",
    "super": "meta_l",
    "win": "meta_l",
}


def reset(live: Live, job: Job) -> None:
    """Reset the machine."""
    with reach(live.dir, job.deadline.left()) as client:
        commands.system_reset(client, deadline_s=job.deadline.left())


def powerdown(live: Live, job: Job) -> None:
    """Press the power button. Raises `UnsupportedError` for a machine without ACPI, whose button does nothing."""
    if not live.record.spec.get("acpi", True):
        reason = "the machine has no ACPI, and so no power button; see the parameter acpi, or use hv stop"
        raise UnsupportedError(driver=live.record.driver, operation="powerdown", reason=reason)
    with reach(live.dir, job.deadline.left()) as client:
        commands.system_powerdown(client, deadline_s=job.deadline.left())


def send_keys(live: Live, job: Job, keys: tuple[tuple[str, ...], ...]) -> None:
    """Press the combinations. Raises `InputError` for a key that this QEMU does not have, before any is pressed."""
    wanted = [[_OTHER_NAMES.get(key, key) for key in combination] for combination in keys]
    with reach(live.dir, job.deadline.left()) as client:
        known = query_keys(client, deadline_s=job.deadline.left())
        for key in (key for combination in wanted for key in combination):
            if known and key not in known:
                near = difflib.get_close_matches(key, sorted(known), 1)
                todo = (
                    f"did you mean {near[0]!r}?" if near else "letters, digits, ret, esc, f1, ctrl and others are keys"
                )
                raise InputError(f"{job.name}: keys: this QEMU has no key {key!r:.40}; {todo}")
        for combination in wanted:
            commands.send_key(client, combination, deadline_s=job.deadline.left())


def nmi(live: Live, job: Job) -> None:
    """Send a non-maskable interrupt. Raises `UnsupportedError` if the machine has none."""
    with reach(live.dir, job.deadline.left()) as client:
        try:
            commands.inject_nmi(client, deadline_s=job.deadline.left())
        except QmpCommandError as error:
            if "NMI" not in error.desc and error.error_class != "CommandNotFound":
                raise
            raise UnsupportedError(driver=live.record.driver, operation="nmi", reason=error.desc) from error
