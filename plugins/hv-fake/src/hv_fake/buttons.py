"""The buttons and the keyboard of a fake guest, which its record remembers."""

from __future__ import annotations

import hvcore.plugin as hv

__all__ = ["nmi", "powerdown", "reset", "send_keys"]


def reset(live: hv.Live, job: hv.Job) -> None:
    """Record it. The guest runs or is paused as before."""
    job.bind(resets=live.record.bindings.get("resets", 0) + 1)
    job.update()


def powerdown(live: hv.Live, job: hv.Job) -> None:
    """Record the guest as shut down, unless it ignores its power button."""
    if not live.record.spec["ignores_powerdown"]:
        job.bind(guest="shutdown")
        job.update()


def send_keys(_live: hv.Live, job: hv.Job, keys: tuple[tuple[str, ...], ...]) -> None:
    """Record the keys: letters and a few others."""
    for key in (key for combination in keys for key in combination):
        if len(key) > 1 and key not in ("ctrl", "alt", "delete", "ret"):
            raise hv.InputError(f"{job.name}: keys: has no key {key!r:.40}; use letters, ctrl, alt, delete or ret")
    job.bind(keys=["-".join(combination) for combination in keys])
    job.update()


def nmi(live: hv.Live, _job: hv.Job) -> None:
    """Raises `UnsupportedError`: the guest has no CPU."""
    raise hv.UnsupportedError(driver=live.record.driver, operation="nmi", reason="a fake guest has no CPU to interrupt")
