"""Without namespaces, as Ganeti has it: the root alone is its own. Whose root it is tells whose process it is.

A process that only stands in the directory, or has a file of it open, has another root and is left alone.
"""

from __future__ import annotations

import contextlib
import signal
import time
from pathlib import Path

import hvcore.plugin as hv
from hv_chroot.names import ROOT
from hv_chroot.resource import Rooted
from hv_chroot.run.census import rooted
from hv_chroot.spec import ChrootSpec
from hvcore.plugin import boot_id, verified_pidfd

__all__ = [
    "RootedKind",
    "chroot_command",
    "end_rooted",
    "terminate_rooted",
    "wait_rooted_gone",
]


def chroot_command(spec: ChrootSpec, root: Path, argv: tuple[str, ...]) -> tuple[str, ...]:
    """The command that runs ``argv`` with that root and the instance's environment, unconfined."""
    environment = (f"{key}={value}" for key, value in spec.environment)
    return ("env", *environment, "chroot", "--", str(root), *argv)


def terminate_rooted(root: Path) -> None:
    """SIGTERM to each of them."""
    for process in rooted(root):
        with verified_pidfd(process) as fd, contextlib.suppress(ProcessLookupError):
            if fd is not None:
                signal.pidfd_send_signal(fd, signal.SIGTERM)


def wait_rooted_gone(root: Path, deadline_s: float) -> bool:
    """Wait until there is none of them any more, also none that one of them has made since; False when there is."""
    give_up = time.monotonic() + deadline_s
    while found := rooted(root):
        for process in found:
            if not hv.wait_gone(process, max(0.0, give_up - time.monotonic())):
                return False
    return True


def end_rooted(root: Path, *, subject: str, deadline_s: float) -> bool:
    """Kill them until there is none; False when there was none. Raises `DeadlineError` when one does not go."""
    give_up = time.monotonic() + deadline_s
    ended = False
    while found := rooted(root):  # again, for one may have made another meanwhile
        left_s = give_up - time.monotonic()
        if left_s <= 0:
            raise hv.DeadlineError(
                subject=subject, waiting_for="end of its processes", waited_s=deadline_s, todo="try again"
            )
        for process in found:
            ended = hv.kill_and_wait(process, subject=subject, deadline_s=left_s) or ended
    return ended


class RootedKind(
    hv.ResourceKind[Rooted, None], name="chroot-processes", turn=hv.Turn.PROGRAM, runs=True, in_ledger=True
):
    """Released before its root is unmounted. The processes of another boot ended with it."""

    def acquire(self, resource: Rooted, held: hv.Held) -> None:
        """Nothing: the script makes them."""

    def release(self, entry: hv.Entry, owner: hv.Owner) -> None:
        """Kill every process that still has the root."""
        if owner.record.boot_id == boot_id():
            end_rooted(owner.dir / ROOT, subject=owner.name, deadline_s=10.0)
