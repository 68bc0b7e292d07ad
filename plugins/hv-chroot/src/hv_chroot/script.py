"""Running the instance's own script: ``start`` when it is launched, ``stop`` in the midst of its processes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import hvcore
from hv_chroot.confinement import enter_command, sandbox_of
from hv_chroot.spec import ChrootSpec
from hvcore import LIFE_LOCK, STATUS, launch, life_lock, run_tool, tail

__all__ = ["run_start", "run_stop"]

_RAISE: Final = "see what it waits for, or raise params.script_deadline"


def run_start(
    spec: ChrootSpec, job: hvcore.Job, root: Path, log: Path
) -> tuple[hvcore.ProcessId | None, hvcore.ProcessId | None]:
    """Launch the instance with ``SCRIPT start`` and wait until the script, and only that, has ended well.

    The instance's init, None when the script left nothing running, and the process that waited for the script, which
    is gone. What the script wrote is in ``log``.
    Raises `LaunchError` or `DeadlineError` with the last of that.
    """
    command = hvcore.Command(argv=(spec.init_script, "start"), sandbox=sandbox_of(spec, str(root)))
    begun = time.monotonic()
    with life_lock(job.dir / LIFE_LOCK) as life_fd:
        child = launch(command, life_fd=life_fd, status=job.dir / STATUS, log=log)
    try:
        monitor = child.monitor()
        allowed_s = job.deadline.left(spec.script_deadline_s)
        ended = child.wait(allowed_s)
        if ended is None:
            raise _too_slow(spec, job, log, allowed_s)
        # Bubblewrap ends with the script; its init stays for what the script has left.
        written = hvcore.read_status(job.dir / STATUS).ended
        if ended.code != 0:
            how = f"{spec.init_script} start {ended} after {time.monotonic() - begun:.1f} s"
            if written is None:
                how = f"its confinement could not be set up, bubblewrap {ended}"
            raise hvcore.LaunchError(name=job.name, how=how, output=tail(log), argv=command.argv)
        return child.process(), monitor
    finally:
        child.close()


def _too_slow(spec: ChrootSpec, job: hvcore.Job, log: Path, waited_s: float) -> hvcore.DeadlineError:
    said = tail(log).strip().splitlines()
    todo = f'it said last "{said[-1]:.200}"; {_RAISE}' if said else f"it said nothing; {_RAISE}"
    waiting_for = f"end of {spec.init_script} start"
    return hvcore.DeadlineError(subject=job.name, waiting_for=waiting_for, waited_s=waited_s, todo=todo)


def run_stop(spec: ChrootSpec, job: hvcore.Job, init: hvcore.ProcessId) -> tuple[hvcore.Ended | None, str]:
    """Run ``SCRIPT stop`` inside: how it ended, None when not in time (it then still runs), and what it wrote."""
    command = enter_command(spec, init, (spec.init_script, "stop"), terminal=False)
    allowed_s = job.deadline.left(spec.script_deadline_s)
    return run_tool(command, life=job.dir / LIFE_LOCK, status=job.dir / STATUS, deadline_s=allowed_s)
