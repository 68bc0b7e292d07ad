"""The state of an instance, from /proc and its control group; freezing its processes.

It imports no family, and nothing that does: `hv list` imports only this module.
"""

from __future__ import annotations

from typing import Final

import hvcore.plugin as hv
from hv_chroot.names import ROOT, WAITS
from hv_chroot.run.census import Census, census, plain_census

__all__ = ["freeze", "is_frozen", "observe", "thaw"]

_FREEZE_S: Final = 10.0
_SHELL: Final = (hv.ConsoleAddress(kind=hv.ConsoleKind.COMMAND, message="hv console opens a shell in it"),)


def observe(live: hv.Live) -> hv.Observation:
    """Running while one of its processes runs, with the figures of all of them together."""
    if live.record.bindings.get(WAITS):
        return hv.Observation(state=hv.State.PAUSED, reason="has not run yet")
    init = live.record.process
    found, killed = _census(live), oom_killed(live)
    if found is None:
        # The kernel has killed one for its memory, so the instance did not end on its own.
        state = hv.State.SHUTDOWN if killed is None else hv.State.CRASHED
        by = hv.EndedBy.GUEST if killed is None else hv.EndedBy.KILLED
        return hv.Observation(state=state, reason=killed or "no process left", ended_by=by)
    return hv.Observation(
        state=hv.State.PAUSED if is_frozen(live) else hv.State.RUNNING,
        reason=killed,
        pid=None if init is None else init.pid,
        memory_mib=live.record.spec.get("memory_limit_mib"),
        resident_mib=found.resident_mib,
        cpu_seconds=found.cpu_seconds,
        uptime_s=found.uptime_s,
        consoles=_SHELL,
        details={"processes": found.processes},
    )


def _census(live: hv.Live) -> Census | None:
    if live.record.spec.get("namespaces") is False:
        return plain_census(live.dir / ROOT)
    return None if live.record.process is None else census(live.record.process)


def oom_killed(live: hv.Live) -> str | None:
    """The number of processes that the kernel killed at the memory limit, in words; None without any."""
    limit_mib = live.record.spec.get("memory_limit_mib")
    figures = None if limit_mib is None or live.group is None else live.group.figures()
    if figures is None or not figures.oom_kills:
        return None
    count = figures.oom_kills
    return f"oom-killed: {count} process{'es' if count > 1 else ''}, at its limit of {limit_mib} MiB"


def is_frozen(live: hv.Live) -> bool:
    """Whether its processes are frozen, by a pause of ours."""
    # The record first: that costs nothing, and few instances are paused.
    return live.record.paused and live.group is not None and live.group.frozen()


def freeze(live: hv.Live, job: hv.Job) -> None:
    """Freeze all its processes. Raises `UnsupportedError` where the node has no freezer."""
    if live.record.bindings.get(WAITS):
        return
    if live.group is None:
        job.update(paused=False)
        reason = "this node has no writable control groups, and so no freezer"
        raise hv.UnsupportedError(driver=live.record.driver, operation="pause", reason=reason)
    try:
        live.group.freeze(job.deadline.left(_FREEZE_S))
    except hv.HvError:
        job.update(paused=False)
        raise


def thaw(live: hv.Live) -> None:
    """Let its frozen processes continue; does nothing if none is frozen."""
    if live.group is not None and live.group.frozen():
        live.group.thaw()
