"""Starting an instance: claim and mount its root, run its script, and prove how the processes left are confined."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

import hvcore.plugin as hv
from hv_chroot.names import ROOT, WAITS
from hv_chroot.resource import SCRIPT_OUTPUT, namespaces_of, resources_of
from hv_chroot.resources.root_files import plain_directories, script_problem
from hv_chroot.run.census import census, members, namespace_of
from hv_chroot.run.confinement import prove, sandbox_of
from hv_chroot.run.run_script import Place, run_start
from hv_chroot.spec import ChrootSpec, uids_of

__all__ = ["first_run", "remember", "root_problem", "start"]

_INIT_ENDS_S: Final = 1.0
_MADE_BY_US: Final = ("dev", "proc")


def start(spec: ChrootSpec, job: hv.Job) -> None:
    """Start it and return when the start script has exited with 0. Raises `HvError`; the ledger has what was acquired.

    An instance that is started paused only gets its disks. `first_run` does the rest.
    """
    # The claims first, apart: the ledger's entry of the mounts says that the disk is ours and is unused after a release.
    job.acquire(*(claim for claim in resources_of(spec) if isinstance(claim, hv.DiskClaim)))
    if job.record.paused:
        job.bind(**{WAITS: True})
    else:
        _run(spec, job)


def first_run(spec: ChrootSpec, job: hv.Job) -> None:
    """Run an instance that was started paused. If that fails, nothing of it runs, and it is paused again."""
    job.release()  # its claims, which are locked only while an operation or a mount has them
    try:
        start(spec, job)
    except BaseException:
        with contextlib.suppress(hv.HvError):  # the failure of the start is the one to report
            job.release()
        job.update(paused=True)
        raise
    job.update(bindings={key: value for key, value in job.record.bindings.items() if key != WAITS})


def _run(spec: ChrootSpec, job: hv.Job) -> None:
    inside = namespaces_of(spec)
    resources = tuple(resources_of(spec))
    handles = job.acquire(*resources)
    uids = None if inside.users is None else handles[inside.users]
    if uids is not None:
        job.bind(uids=uids.start)
    root, log = Path(job.dir / ROOT), Path(handles[SCRIPT_OUTPUT])
    _check_root(spec, root, job)
    job.progress(f"running {spec.init_script} start")
    place = Place(root=root, log=log, group=job.live.group, held=handles[inside], uids=uids)
    init, monitor = run_start(spec, job, place)
    if init is not None:
        remember(spec, job, init, monitor)


def _check_root(spec: ChrootSpec, root: Path, job: hv.Job) -> None:
    problem = root_problem(spec, root)
    if problem is not None:
        what, todo = problem
        raise hv.OperationError(f"{job.name}: {what}; {todo}")


def root_problem(spec: ChrootSpec, root: Path) -> tuple[str, str] | None:
    """What keeps an instance from starting in that root, and what to do: its script, and directories for mounts."""
    problem = script_problem(root, spec.init_script, dict(spec.environment)["PATH"])
    if problem is not None:
        return f"{spec.init_script!r} on {spec.source} {problem[0]}", problem[1]
    if spec.namespaces:
        may_be_made = spec.source_is_written or spec.overlay != "none"
        missing = plain_directories(root, _MADE_BY_US, may_be_made=may_be_made)
        if missing is not None:
            return f"on {spec.source} {missing}", "make it an empty directory"
    return None


def remember(spec: ChrootSpec, job: hv.Job, init: hv.ProcessId, monitor: hv.ProcessId | None) -> None:
    """Prove the confinement of its running processes, and record the init as the instance's process."""
    namespace, now = namespace_of(init.pid), census(init)
    if namespace is None or now is None or (now.processes == 0 and hv.wait_gone(init, _INIT_ENDS_S)):
        return  # the script has left no process, and then the init exits too
    prove(job.name, sandbox_of(spec, "", uids_of(job.record)), members(init))
    job.bind(pid_namespace=namespace)
    job.started(init, monitor)
