"""Running the instance's own scripts: ``start`` when it is launched, ``stop`` in the midst of its processes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import hvcore.plugin as hv
from hv_chroot.resources.mount_calls import Allowed, cloned_tree
from hv_chroot.run.confinement import enter_command, sandbox_of
from hv_chroot.run.rooted import chroot_command
from hv_chroot.spec import ChrootSpec
from hvcore.plugin import LIFE_LOCK, STATUS, launch, life_lock, run_tool, tail

__all__ = ["Place", "Started", "run_afterwards", "run_start", "run_stop"]

_RAISE: Final = "see what it waits for, or raise params.script_deadline"
_LAST_STATUS: Final = "stop-status"  # the other one says how the start ended, which has to stay so
_END_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The instance's init, None when the script left nothing, and what waited for the script, which is gone."""

    init: hv.ProcessId | None
    monitor: hv.ProcessId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a script runs: the mounted root, the file for its output, and its namespaces as far as they are made."""

    root: Path
    log: Path
    group: hv.Group | None = None
    held: hv.HeldNamespaces | None = None
    uids: range | None = None


def run_start(spec: ChrootSpec, job: hv.Job, place: Place) -> Started:
    """Launch the instance with ``SCRIPT start`` and wait until the script, and only that, has ended well.

    Raises `LaunchError` or `DeadlineError` with the last of what it wrote.
    """
    command = _command(spec, place, (spec.init_script, "start"))
    begun = time.monotonic()
    with _life_lock(job.dir) as life_fd:
        child = launch(command, life_fd=life_fd, status=job.dir / STATUS, log=place.log)
    try:
        monitor = child.monitor()
        allowed_s = job.deadline.left(spec.script_deadline_s)
        ended = child.wait(allowed_s)
        if ended is None:
            raise _too_slow(spec, job, place.log, allowed_s)
        # Bubblewrap ends with the script; its init stays for what the script has left.
        written = hv.read_status(job.dir / STATUS).ended
        ended = _as_written(ended, written)
        if ended.code != 0:
            how = f"{spec.init_script} start {ended} after {time.monotonic() - begun:.1f} s"
            if spec.namespaces and written is None:
                how = f"its confinement could not be set up, bubblewrap {ended}"
            raise hv.LaunchError(name=job.name, how=how, output=tail(place.log), argv=command.argv)
        return Started(init=child.process() if spec.namespaces else None, monitor=monitor)
    finally:
        child.close()


def _as_written(ended: hv.Ended, written: hv.Ended | None) -> hv.Ended:
    """How it ended; what bubblewrap wrote of that, where the host application waits for our children."""
    return written if written is not None and ended == hv.Ended() else ended


@contextmanager
def _life_lock(directory: Path) -> Iterator[int]:
    """The life lock in that directory, held through a read-only mount that is nowhere.

    The init keeps it, and root inside can open once more what the init has open (/proc/1/fd): for writing too, were it
    not for this mount, and then fill the run directory.
    """
    flags = os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    os.close(os.open(directory / LIFE_LOCK, flags, 0o600))
    with (
        cloned_tree(str(directory), Allowed(write=False)) as tree,
        life_lock(Path(f"/proc/self/fd/{tree}", LIFE_LOCK)) as life_fd,
    ):
        yield life_fd


def _command(spec: ChrootSpec, place: Place, argv: tuple[str, str]) -> hv.Command:
    if not spec.namespaces:
        return hv.Command(argv=chroot_command(spec, place.root, argv), sandbox=None, group=place.group)
    sandbox = sandbox_of(spec, str(place.root), place.uids)
    return hv.Command(argv=argv, sandbox=sandbox, held=place.held, group=place.group)


def _too_slow(spec: ChrootSpec, job: hv.Job, log: Path, waited_s: float) -> hv.DeadlineError:
    said = tail(log).strip().splitlines()
    todo = f'it said last "{said[-1]:.200}"; {_RAISE}' if said else f"it said nothing; {_RAISE}"
    waiting_for = f"end of {spec.init_script} start"
    return hv.DeadlineError(subject=job.name, waiting_for=waiting_for, waited_s=waited_s, todo=todo)


def run_stop(spec: ChrootSpec, job: hv.Job, root: Path, init: hv.ProcessId | None) -> tuple[hv.Ended | None, str]:
    """Run ``SCRIPT stop`` inside: how it ended, None when not in time (it then still runs), and what it wrote."""
    argv = (spec.stop_script, "stop")
    inside = enter_command(spec, init, argv, group=job.live.group) if init is not None else None
    command = inside or chroot_command(spec, root, argv)
    allowed_s = job.deadline.left(spec.script_deadline_s)
    return run_tool(command, life=job.dir / LIFE_LOCK, status=job.dir / STATUS, deadline_s=allowed_s)


def run_afterwards(spec: ChrootSpec, job: hv.Job, place: Place) -> tuple[hv.Ended | None, str]:
    """Run ``SCRIPT stop`` in namespaces of its own, after those of the instance have ended with its last process.

    What it wrote is only what it adds to the output of the start.
    """
    command = _command(spec, place, (spec.stop_script, "stop"))
    status = job.dir / _LAST_STATUS
    before = place.log.stat().st_size if place.log.exists() else 0
    with _life_lock(job.dir) as life_fd:
        child = launch(command, life_fd=life_fd, status=status, log=place.log)
    try:
        ended = child.wait(job.deadline.left(spec.script_deadline_s))
        init = child.process()
        if init is not None:  # nothing of it stays, whatever it has started
            hv.kill_and_wait(init, subject=job.name, deadline_s=_END_S)
        if child.wait(_END_S) is None:
            raise hv.DeadlineError(
                subject=job.name, waiting_for="end of its stop script", waited_s=_END_S, todo="try again with --force"
            )
        if ended is not None:
            ended = _as_written(ended, hv.read_status(status).ended)
        return ended, tail(place.log)[max(0, before - 65536) :].strip()
    finally:
        child.close()
