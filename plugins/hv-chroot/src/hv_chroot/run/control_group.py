"""The control group of an instance: its limits, and standing still."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import hvcore.plugin as hv

if TYPE_CHECKING:
    from hv_chroot.spec import ChrootSpec  # with all families: not for those who only look

__all__ = ["freeze", "is_frozen", "limits_of", "oom_killed", "thaw"]

_MIB: Final = 1024 * 1024
_OURS: Final = 2  # the init, and what waits for the script
_FREEZE_S: Final = 10.0


def limits_of(spec: ChrootSpec) -> hv.GroupLimits:
    """What all its processes together may use."""
    memory_mib, cpu_percent, processes = spec.memory_limit_mib, spec.cpu_limit_percent, spec.process_limit
    return hv.GroupLimits(
        memory_bytes=None if memory_mib is None else memory_mib * _MIB,
        cpus=None if cpu_percent is None else cpu_percent / 100,
        processes=None if processes is None else processes + _OURS,
    )


def oom_killed(live: hv.Live) -> str | None:
    """How many of its processes the kernel has killed at its memory limit, in words; None when none, or no limit."""
    limit_mib = live.record.spec.get("memory_limit_mib")
    figures = None if limit_mib is None or live.group is None else live.group.figures()
    if figures is None or not figures.oom_kills:
        return None
    count = figures.oom_kills
    return f"oom-killed: {count} process{'es' if count > 1 else ''}, at its limit of {limit_mib} MiB"


def is_frozen(live: hv.Live) -> bool:
    """Whether its processes stand still, after a pause by us."""
    # The record first: it costs nothing, and almost nothing is paused.
    return live.record.paused and live.group is not None and live.group.frozen()


def freeze(live: hv.Live, job: hv.Job) -> None:
    """Let all its processes stand still. Raises `UnsupportedError` where there is no freezer."""
    if live.group is None:
        job.update(paused=False)
        reason = "this node has no control groups that can be written to, and so no freezer"
        raise hv.UnsupportedError(driver=live.record.driver, operation="pause", reason=reason)
    try:
        live.group.freeze(job.deadline.left(_FREEZE_S))
    except hv.HvError:
        job.update(paused=False)
        raise


def thaw(live: hv.Live) -> None:
    """Let them go on. Fine when they do."""
    if live.group is not None and live.group.frozen():
        live.group.thaw()
