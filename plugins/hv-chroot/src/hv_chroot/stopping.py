"""Ending an instance: its own script, then SIGTERM to each of its processes, then the end of its pid namespace."""

from __future__ import annotations

import contextlib
import signal
from typing import Final

import hvcore
from hv_chroot.script import run_stop
from hv_chroot.spec import ChrootSpec
from hvcore import processes_in_pid_namespace, verified_pidfd

__all__ = ["stop"]

_AFTER_SCRIPT_S: Final = 1.0  # for what the script has told to end and not waited for
_AFTER_TERM_S: Final = 3.0
_AFTER_TERM_AT_LEAST_S: Final = 0.5  # also when the script has used up the time: to flush what is half written
_AFTER_KILL_S: Final = 10.0


def stop(spec: ChrootSpec, live: hvcore.Live, job: hvcore.Job, *, force: bool) -> str:
    """End every process of the instance: ``script``, ``term``, ``kill``, or ``gone`` when nothing ran any more.

    Raises `DeadlineError` when a process hangs in the kernel and does not go even when killed.
    """
    init = live.record.process
    if init is None:
        return "gone"
    if not force:
        if _by_script(spec, job, init):
            return "script"
        job.progress("sending SIGTERM to its processes")
        _terminate(init, live.record.bindings["pid_namespace"])
        if hvcore.wait_gone(init, max(_AFTER_TERM_AT_LEAST_S, job.deadline.left(at_most=_AFTER_TERM_S))):
            return "term"
        job.progress("killing its processes")
    # The kernel ends a pid namespace with its init, and the init last.
    hvcore.kill_and_wait(init, subject=job.name, deadline_s=_AFTER_KILL_S)
    return "kill"


def _by_script(spec: ChrootSpec, job: hvcore.Job, init: hvcore.ProcessId) -> bool:
    job.progress(f"running {spec.init_script} stop")
    ended, said = run_stop(spec, job, init)
    if ended is None:
        job.progress(f"{spec.init_script} stop has not ended in time")
        return hvcore.wait_gone(init, 0.0)
    if ended.code != 0:
        last = said.splitlines()[-1] if said else "nothing"
        job.progress(f"{spec.init_script} stop {ended}, it said last {last!r:.200}")
    return hvcore.wait_gone(init, _AFTER_SCRIPT_S)


def _terminate(init: hvcore.ProcessId, namespace: int) -> None:
    for process in processes_in_pid_namespace(namespace):
        if process == init:
            continue
        with verified_pidfd(process) as fd, contextlib.suppress(ProcessLookupError):
            if fd is not None:
                signal.pidfd_send_signal(fd, signal.SIGTERM)
