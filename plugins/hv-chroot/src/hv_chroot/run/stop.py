"""Ending an instance: its own script, then SIGTERM to each of its processes, then the end of its pid namespace."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import hvcore.plugin as hv
from hv_chroot.names import LOG_FILE, OUTPUT, ROOT
from hv_chroot.run.census import rooted
from hv_chroot.run.control_group import thaw
from hv_chroot.run.rooted import end_rooted, terminate_rooted, wait_rooted_gone
from hv_chroot.run.run_script import Place, run_afterwards, run_stop
from hv_chroot.spec import ChrootSpec, uids_of
from hvcore.plugin import processes_in_pid_namespace, verified_pidfd

__all__ = ["stop"]

_AFTER_SCRIPT_S: Final = 1.0  # for what the script has told to end and not waited for
_AFTER_TERM_S: Final = 3.0
_AFTER_TERM_AT_LEAST_S: Final = 0.5  # also when the script has used up the time: to flush what is half written
_AFTER_KILL_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class _Crowd:
    """The instance's processes, whichever way they are known: how to wait for them, to ask, and to kill them."""

    wait_gone: Callable[[float], bool]
    terminate: Callable[[], None]
    kill: Callable[[], object]


def stop(spec: ChrootSpec, live: hv.Live, job: hv.Job, *, force: bool) -> str:
    """End every process of the instance: ``script``, ``term``, ``kill``, or ``gone`` when nothing ran any more.

    The script is run also when nothing runs any more: what it has to put in order is on the disk, not in a process.
    Raises `DeadlineError` when a process hangs in the kernel and does not go even when killed.
    """
    thaw(live)  # what stands still neither runs a script nor, with the freezer of cgroup v1, dies
    root, init = live.dir / ROOT, live.record.process
    if (init is None or not hv.alive(init)) if spec.namespaces else not rooted(root):
        return "gone" if force else _afterwards(spec, live, job)
    crowd = _of_namespace(init, live, job) if init is not None else _of_root(root, job)
    if not force:
        if _by_script(spec, job, root, init, crowd):
            return "script"
        job.progress("sending SIGTERM to its processes")
        crowd.terminate()
        if crowd.wait_gone(max(_AFTER_TERM_AT_LEAST_S, job.deadline.left(at_most=_AFTER_TERM_S))):
            return "term"
        job.progress("killing its processes")
    crowd.kill()
    return "kill"


def _of_namespace(init: hv.ProcessId, live: hv.Live, job: hv.Job) -> _Crowd:
    return _Crowd(
        wait_gone=lambda deadline_s: hv.wait_gone(init, deadline_s),
        terminate=lambda: _terminate(init, live.record.bindings["pid_namespace"]),
        # The kernel ends a pid namespace with its init, and the init last.
        kill=lambda: hv.kill_and_wait(init, subject=job.name, deadline_s=_AFTER_KILL_S),
    )


def _of_root(root: Path, job: hv.Job) -> _Crowd:
    return _Crowd(
        wait_gone=lambda deadline_s: wait_rooted_gone(root, deadline_s),
        terminate=lambda: terminate_rooted(root),
        kill=lambda: end_rooted(root, subject=job.name, deadline_s=_AFTER_KILL_S),
    )


def _by_script(spec: ChrootSpec, job: hv.Job, root: Path, init: hv.ProcessId | None, crowd: _Crowd) -> bool:
    job.progress(f"running {spec.stop_script} stop")
    ended, said = run_stop(spec, job, root, init)
    _tell(spec, job, ended, said)
    return crowd.wait_gone(_AFTER_SCRIPT_S if ended is not None else 0.0)


def _tell(spec: ChrootSpec, job: hv.Job, ended: hv.Ended | None, said: str) -> None:
    if ended is None:
        job.progress(f"{spec.stop_script} stop has not ended in time")
    elif ended.code != 0:
        last = said.splitlines()[-1] if said else "nothing"
        job.progress(f"{spec.stop_script} stop {ended}, it said last {last!r:.200}")


def _afterwards(spec: ChrootSpec, live: hv.Live, job: hv.Job) -> str:
    job.progress(f"running {spec.stop_script} stop, after the end of its last process")
    root, log = live.dir / ROOT, live.dir / OUTPUT / LOG_FILE
    uids = uids_of(live.record)
    if spec.namespaces:
        with hv.hold_namespaces(users=uids, network=False) as held:
            ended, said = run_afterwards(spec, job, Place(root=root, log=log, group=live.group, held=held, uids=uids))
    else:
        ended, said = run_stop(spec, job, root, None)
        end_rooted(root, subject=job.name, deadline_s=_AFTER_KILL_S)
    _tell(spec, job, ended, said)
    return "script" if ended is not None and ended.code == 0 else "gone"


def _terminate(init: hv.ProcessId, namespace: int) -> None:
    for process in processes_in_pid_namespace(namespace):
        if process == init:
            continue
        with verified_pidfd(process) as fd, contextlib.suppress(ProcessLookupError):
            if fd is not None:
                signal.pidfd_send_signal(fd, signal.SIGTERM)
