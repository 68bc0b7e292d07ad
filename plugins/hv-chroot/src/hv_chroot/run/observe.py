"""How an instance is doing, from /proc and its control group.

It imports no family, and nothing that does: `hv list` imports this alone.
"""

from __future__ import annotations

import hvcore.plugin as hv
from hv_chroot.names import ROOT
from hv_chroot.run.census import Census, census, plain_census
from hv_chroot.run.control_group import is_frozen, oom_killed

__all__ = ["observe"]


def observe(live: hv.Live) -> hv.Observation:
    """Running while anything of it runs, with the figures of all its processes together."""
    init = live.record.process
    found, killed = _census(live), oom_killed(live)
    if found is None:
        # Killed for its memory it has not ended by itself, whatever else had ended before.
        state = hv.State.SHUTDOWN if killed is None else hv.State.CRASHED
        return hv.Observation(state=state, reason=killed or "no process left")
    return hv.Observation(
        state=hv.State.PAUSED if is_frozen(live) else hv.State.RUNNING,
        reason=killed,
        pid=None if init is None else init.pid,
        memory_mib=live.record.spec.get("memory_limit_mib"),
        resident_mib=found.resident_mib,
        cpu_seconds=found.cpu_seconds,
        uptime_s=found.uptime_s,
        details={"processes": found.processes},
    )


def _census(live: hv.Live) -> Census | None:
    if live.record.spec.get("namespaces") is False:
        return plain_census(live.dir / ROOT)
    return None if live.record.process is None else census(live.record.process)
