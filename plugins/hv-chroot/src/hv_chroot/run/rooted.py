"""The processes of an instance without namespaces, as in Ganeti: each has the instance's root as its own root.

A process that only has its working directory or an open file there has another root, and is left alone.
"""

from __future__ import annotations

import time
from pathlib import Path

import hvcore.plugin as hv
from hv_chroot.names import ROOT
from hv_chroot.resource import Rooted
from hvcore.plugin import boot_id, rooted

__all__ = ["RootedKind", "kill_rooted", "wait_rooted_gone"]


def wait_rooted_gone(root: Path, deadline_s: float) -> bool:
    """Wait for the end of all of them, and of those that they start meanwhile; False when one is left."""
    give_up = time.monotonic() + deadline_s
    while found := rooted(root):
        for process in found:
            if not hv.wait_gone(process, max(0.0, give_up - time.monotonic())):
                return False
    return True


def kill_rooted(root: Path, *, subject: str, deadline_s: float) -> None:
    """Kill all of them, and those that they start meanwhile. Raises `DeadlineError` when one does not go."""
    give_up = time.monotonic() + deadline_s
    while found := rooted(root):
        left_s = give_up - time.monotonic()
        if left_s <= 0:
            waiting_for = "end of its processes"
            raise hv.DeadlineError(subject=subject, waiting_for=waiting_for, waited_s=deadline_s, todo="try again")
        for process in found:
            hv.kill_and_wait(process, subject=subject, deadline_s=left_s)


class RootedKind(
    hv.ResourceKind[Rooted, None], name="chroot-processes", turn=hv.Turn.PROGRAM, runs=True, in_ledger=True
):
    """Released before the root is unmounted."""

    def acquire(self, resource: Rooted, held: hv.Held) -> None:
        """Acquire nothing: the script starts the processes."""

    def release(self, entry: hv.Entry, owner: hv.Owner) -> None:
        """Kill every process that still has the root. The processes of another boot ended with it."""
        if owner.record.boot_id == boot_id():
            kill_rooted(owner.dir / ROOT, subject=owner.name, deadline_s=owner.deadline.left(at_least=10.0))
