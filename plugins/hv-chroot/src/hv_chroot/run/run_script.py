"""Running the instance's own scripts: ``start`` at its launch, ``stop`` among its processes or after their end."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import hvcore.plugin as hv
from hv_chroot.resources.mount_calls import Allowed, cloned_tree
from hv_chroot.run.confinement import chroot_command, enter_command, sandbox_of
from hv_chroot.run.observe import oom_killed
from hv_chroot.spec import ChrootSpec
from hvcore.plugin import LIFE_LOCK, STATUS, Child, dataclass, in_own_mounts, launch, life_lock, rooted, run_tool, tail

__all__ = ["Place", "run_afterwards", "run_start", "run_stop"]

_RAISE: Final = "find out what the script waits for, or raise params.script_deadline"
_LAST_STATUS: Final = "stop-status"  # not STATUS, which keeps how the start ended
_END_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a script runs: the mounted root, the file for its output, the namespaces that exist before it."""

    root: Path
    log: Path
    group: hv.Group | None = None
    held: hv.HeldNamespaces | None = None
    uids: range | None = None


def run_start(spec: ChrootSpec, job: hv.Job, place: Place) -> tuple[hv.ProcessId | None, hv.ProcessId | None]:
    """Launch the instance with ``SCRIPT start`` and wait until the script has exited with 0, and only for that.

    The instance's init, None without namespaces or when the script left no process; and the process that waited for the
    script. Raises `LaunchError` or `DeadlineError` with the last of the output.
    """
    begun = time.monotonic()
    argv = (spec.init_script, "start")
    with closing(_launched(spec, job, place, argv, job.dir / STATUS)) as child:
        monitor = child.monitor()
        allowed_s = job.deadline.left(spec.script_deadline_s)
        if spec.namespaces:
            child.spare(allowed_s)
        ended = child.wait(allowed_s)
        if ended is None:
            lines = tail(place.log).strip().splitlines()
            todo = f'its last output was "{lines[-1]:.200}"; {_RAISE}' if lines else f"it has no output; {_RAISE}"
            waiting_for = f"end of {spec.init_script} start"
            raise hv.DeadlineError(subject=job.name, waiting_for=waiting_for, waited_s=allowed_s, todo=todo)
        # Bubblewrap ends with the script; its init stays for what the script has left.
        written = hv.read_status(job.dir / STATUS).ended
        ended = _as_written(ended, written)
        if ended.code != 0:
            how = f"{spec.init_script} start {ended} after {time.monotonic() - begun:.1f} s"
            said = tail(place.log)
            if spec.namespaces and written is None:
                how = f"cannot set up the confinement, bubblewrap {ended}"
                if f"bwrap: execvp {spec.init_script}: " in said:
                    how = f"{spec.init_script} start cannot be executed; check its first line, its interpreter and its mode"
            killed = oom_killed(job.live)
            if killed is not None:
                how = f"{spec.init_script} start failed, {killed}; raise params.memory_limit, or let it use less"
            raise hv.LaunchError(name=job.name, how=how, output=said, argv=_argv(spec, place, argv))
        if spec.namespaces:
            child.spare(0.0, reaper=True)
        return child.process() if spec.namespaces else None, monitor


def run_stop(spec: ChrootSpec, job: hv.Job, root: Path, init: hv.ProcessId | None) -> tuple[hv.Ended | None, str]:
    """Run ``SCRIPT stop`` inside: how it ended, None when not in time (it then still runs), and its output."""
    argv = (spec.stop_script, "stop")
    inside = enter_command(spec, init, argv, group=job.live.group) if init is not None else None
    command = inside or chroot_command(spec, root, argv)
    allowed_s = job.deadline.left(spec.script_deadline_s)

    def run() -> tuple[hv.Ended | None, str]:
        return run_tool(command, life=job.dir / LIFE_LOCK, status=job.dir / STATUS, deadline_s=allowed_s)

    if inside is not None:
        return run()
    # The mounts that the start script has made are in the namespace of its processes.
    while (like := next((process.pid for process in rooted(root)), None)) is not None:
        try:
            return in_own_mounts(job.dir, run, like=like)
        except (FileNotFoundError, ProcessLookupError):
            if os.path.lexists(f"/proc/{like}/ns/mnt"):  # it has not exited meanwhile
                raise
    return in_own_mounts(job.dir, run)


def run_afterwards(spec: ChrootSpec, job: hv.Job, place: Place) -> tuple[hv.Ended | None, str]:
    """Run ``SCRIPT stop`` in new namespaces, after those of the instance have ended: how it ended, and its output."""
    status = job.dir / _LAST_STATUS
    before = place.log.stat().st_size if place.log.exists() else 0
    with closing(_launched(spec, job, place, (spec.stop_script, "stop"), status)) as child:
        ended = child.wait(job.deadline.left(spec.script_deadline_s))
        end_s = max(_END_S, job.deadline.left())  # a busy node may need longer than an idle one
        init = child.made(end_s)  # on a busy node, the script's deadline may end before its launch
        if init is not None:  # with every process that the script has started
            hv.kill_and_wait(init, subject=job.name, deadline_s=end_s)
        if child.wait(end_s) is None:
            waiting_for, todo = "end of its stop script", "try again with --force"
            raise hv.DeadlineError(subject=job.name, waiting_for=waiting_for, waited_s=end_s, todo=todo)
        if ended is not None:
            ended = _as_written(ended, hv.read_status(status).ended)
        return ended, tail(place.log)[max(0, before - 65536) :].strip()


def _launched(spec: ChrootSpec, job: hv.Job, place: Place, argv: tuple[str, str], status: Path) -> Child:
    sandbox = sandbox_of(spec, str(place.root), place.uids) if spec.namespaces else None
    command = hv.Command(argv=_argv(spec, place, argv), sandbox=sandbox, held=place.held, group=place.group)
    with _life_lock(job.dir) as life_fd:
        return in_own_mounts(job.dir, lambda: launch(command, life_fd=life_fd, status=status, log=place.log))


def _argv(spec: ChrootSpec, place: Place, argv: tuple[str, str]) -> tuple[str, ...]:
    return argv if spec.namespaces else chroot_command(spec, place.root, argv)


def _as_written(ended: hv.Ended, written: hv.Ended | None) -> hv.Ended:
    """How the script ended. If the host application has reaped our child, the exit code comes from bubblewrap's status file."""
    return written if written is not None and ended == hv.Ended() else ended


@contextmanager
def _life_lock(directory: Path) -> Iterator[int]:
    """The life lock in that directory, opened through a read-only mount that no path leads to.

    The init keeps it open, and root inside can open an open file of the init again (/proc/1/fd). Without this mount it
    could do so for writing, and fill the run directory.
    """
    flags = os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    os.close(os.open(directory / LIFE_LOCK, flags, 0o600))
    with (
        cloned_tree(str(directory), Allowed(write=False)) as tree,
        life_lock(Path(f"/proc/self/fd/{tree}", LIFE_LOCK)) as life_fd,
    ):
        yield life_fd
