"""Starting an instance: claim its root, mount it, run its script, and prove how what that left is confined."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import hvcore.plugin as hv
from hv_chroot.resources.mounts import mount_output, mount_root, owners_of
from hv_chroot.resources.root_files import plain_directories, program_problem
from hv_chroot.resources.veth import connect, intended
from hv_chroot.run.census import census, members, namespace_of
from hv_chroot.run.confinement import prove, sandbox_of
from hv_chroot.run.control_group import freeze, limits_of
from hv_chroot.run.rooted import ROOTED
from hv_chroot.run.run_script import Place, run_start
from hv_chroot.spec import ChrootSpec, uids_of

__all__ = ["remember", "start"]

_INIT_ENDS_S: Final = 1.0
_MADE_BY_US: Final = ("dev", "proc")


def start(spec: ChrootSpec, job: hv.Job) -> None:
    """Start it and return when its script has ended well. Raises `HvError`; what was acquired is in the ledger."""
    _claim(spec, job)
    uids = _take_uids(spec, job)
    job.intend(_mounts(spec), *intended(spec, job), *_processes(spec))
    job.take_group(limits_of(spec))
    with hv.hold_namespaces(users=uids, network=bool(spec.interfaces)) as held:
        connect(spec, job, held)
        job.progress(f"mounting {spec.source}")
        with owners_of(held, uids) as owners:
            root = mount_root(spec, job, owners)
        _look_inside(spec, root, job)
        log = mount_output(job)
        job.progress(f"running {spec.init_script} start")
        started = run_start(spec, job, Place(root=root, log=log, group=job.live.group, held=held, uids=uids))
    if started.init is not None:
        remember(spec, job, started.init, started.monitor)
    if job.record.paused:
        freeze(job.live, job)


def _claim(spec: ChrootSpec, job: hv.Job) -> None:
    kinds = (hv.DISK, hv.UID_RANGE) if spec.users else (hv.DISK,)
    job.intend(*(hv.Entry(kind=kind) for kind in kinds))
    source = spec.disk or spec.directory or ""
    job.progress(f"claiming {source}")
    job.claim_disk(source, read_only=not spec.source_is_written)
    if spec.overlay_directory is not None:
        job.claim_disk(spec.overlay_directory)


def _take_uids(spec: ChrootSpec, job: hv.Job) -> range | None:
    if not spec.users:
        return None
    uids = job.take_uid_range()
    job.bind(uids=uids.start)
    return uids


def _mounts(spec: ChrootSpec) -> hv.Entry:
    # Once it is ours, nobody else may be found to use it when we let go; one that is only read has other readers.
    alone = spec.disk is not None and spec.source_is_written
    return hv.Entry(kind=hv.MOUNT, data={"disk": spec.disk} if alone else {})


def _processes(spec: ChrootSpec) -> tuple[hv.Entry, ...]:
    process = hv.Entry(kind=hv.PROCESS)
    return (process,) if spec.namespaces else (hv.Entry(kind=ROOTED), process)


def _look_inside(spec: ChrootSpec, root: Path, job: hv.Job) -> None:
    problem = program_problem(root, spec.init_script)
    if problem is not None:
        todo = "put it there, or set params.init_script"
        raise hv.OperationError(f"{job.name}: {spec.init_script!r} on {spec.source} {problem}; {todo}")
    if spec.namespaces:
        may_be_made = spec.source_is_written or spec.overlay != "none"
        problem = plain_directories(root, _MADE_BY_US, may_be_made=may_be_made)
        if problem is not None:
            raise hv.OperationError(f"{job.name}: on {spec.source} {problem}; make it an empty directory")


def remember(spec: ChrootSpec, job: hv.Job, init: hv.ProcessId, monitor: hv.ProcessId | None) -> None:
    """Prove the confinement of all that lives, and note the init as the instance's process."""
    namespace, now = namespace_of(init.pid), census(init)
    if namespace is None or now is None or (now.processes == 0 and hv.wait_gone(init, _INIT_ENDS_S)):
        return  # the script has left nothing, and then the init ends too
    prove(job.name, sandbox_of(spec, "", uids_of(job.record)), members(init))
    job.bind(pid_namespace=namespace)
    job.started(init, monitor)
