"""Ending an instance: its own script, then SIGTERM to each of its processes, then the end of its pid namespace."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import hvcore.plugin as hv
from hv_chroot.names import LOG_FILE, OUTPUT, ROOT, WAITS
from hv_chroot.run.observe import thaw
from hv_chroot.run.rooted import kill_rooted, wait_rooted_gone
from hv_chroot.run.run_script import Place, run_afterwards, run_stop
from hv_chroot.spec import ChrootSpec, uids_of
from hvcore.plugin import processes_in_pid_namespace, rooted, verified_pidfd

__all__ = ["stop"]

_AFTER_SCRIPT_S: Final = 1.0  # for processes that the script has signalled and not waited for
_AFTER_TERM_S: Final = 3.0
_AFTER_TERM_AT_LEAST_S: Final = 0.5  # also when the script has used up the time: to flush what is half written
_AFTER_KILL_S: Final = 10.0  # at least


def stop(spec: ChrootSpec, live: hv.Live, job: hv.Job, *, force: bool) -> str:
    """End every process of the instance: ``script``, ``term``, ``kill``, or ``gone`` when none was left.

    The script also runs when no process is left, because it may have to clean up files.
    Raises `DeadlineError` when a process hangs in the kernel and does not end even when killed.
    """
    if live.record.bindings.get(WAITS):
        return "gone"
    thaw(live)  # a frozen process runs no script, and with the freezer of cgroup v1 it does not die
    root, init = live.dir / ROOT, live.record.process
    if (init is None or not hv.alive(init)) if spec.namespaces else not rooted(root):
        return "gone" if force else _afterwards(spec, live, job, root)

    def wait_gone(deadline_s: float) -> bool:
        return wait_rooted_gone(root, deadline_s) if init is None else hv.wait_gone(init, deadline_s)

    if not force:
        job.progress(f"running {spec.stop_script} stop")
        ended, output = run_stop(spec, job, root, init)
        _report(spec, job, ended, output)
        if wait_gone(_AFTER_SCRIPT_S if ended is not None else 0.0):
            return "script"
        job.progress("sending SIGTERM to its processes")
        found = rooted(root) if init is None else processes_in_pid_namespace(live.record.bindings["pid_namespace"])
        _terminate(process for process in found if process != init)
        if wait_gone(max(_AFTER_TERM_AT_LEAST_S, job.deadline.left(at_most=_AFTER_TERM_S))):
            return "term"
        job.progress("killing its processes")
    if init is None:
        kill_rooted(root, subject=job.name, deadline_s=job.deadline.left(at_least=_AFTER_KILL_S))
    else:  # the kernel ends a pid namespace with its init, and the init last
        hv.kill_and_wait(init, subject=job.name, deadline_s=job.deadline.left(at_least=_AFTER_KILL_S))
    return "kill"


def _terminate(processes: Iterable[hv.ProcessId]) -> None:
    for process in processes:
        with verified_pidfd(process) as fd, contextlib.suppress(ProcessLookupError):
            if fd is not None:
                signal.pidfd_send_signal(fd, signal.SIGTERM)


def _report(spec: ChrootSpec, job: hv.Job, ended: hv.Ended | None, output: str) -> None:
    if ended is None:
        job.remarks.append(f"{spec.stop_script} stop did not exit in time")
    elif ended.code != 0:
        last = f"its last output was {output.splitlines()[-1]!r:.200}" if output else "it has no output"
        job.remarks.append(f"{spec.stop_script} stop {ended}, {last}")


def _afterwards(spec: ChrootSpec, live: hv.Live, job: hv.Job, root: Path) -> str:
    job.progress(f"running {spec.stop_script} stop, after the end of its last process")
    if spec.namespaces:
        log, uids = live.dir / OUTPUT / LOG_FILE, uids_of(live.record)
        with hv.hold_namespaces(users=uids, network=False) as held:
            ended, output = run_afterwards(spec, job, Place(root=root, log=log, group=live.group, held=held, uids=uids))
    else:
        ended, output = run_stop(spec, job, root, None)
        kill_rooted(root, subject=job.name, deadline_s=job.deadline.left(at_least=_AFTER_KILL_S))
    _report(spec, job, ended, output)
    return "script" if ended is not None and ended.code == 0 else "gone"
