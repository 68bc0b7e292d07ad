"""The control group of an instance: its limits, and standing still."""

from __future__ import annotations

from typing import Final

import hvcore.plugin as hv

__all__ = ["freeze", "is_frozen", "oom_killed", "thaw"]

_FREEZE_S: Final = 10.0


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
