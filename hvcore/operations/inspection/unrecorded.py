"""What runs or is mounted for an instance whose state in the run directory was removed. Changes nothing of it."""

from __future__ import annotations

from hvcore.host.cgroups.group import Group
from hvcore.host.cgroups.hierarchy import group_name
from hvcore.host.launching.launch_notes import launched_for
from hvcore.host.mount_table import mounts_at_or_below
from hvcore.operations.context import Context

__all__ = ["remains"]


def remains(context: Context, name: str) -> str | None:
    """What is left on this node of an instance without a record, as a reason for its state; None without anything."""
    directory, host = context.store.dir(name), context.host
    group = Group(group_name(host.run_dir, name), host.cgroups) if host.cgroups.usable else None
    pids = {*launched_for(directory), *(() if group is None else group.pids())}
    mounts = [mount.point for mount in mounts_at_or_below(str(directory.resolve()))]
    if pids:
        what = f"still runs as pid {' '.join(map(str, sorted(pids)))}"
    elif mounts:
        what = f"still has {mounts[0]} mounted"
    else:
        return None
    return f"{name}: {what}, but its state in the run directory was removed; hv stop --force ends it"
