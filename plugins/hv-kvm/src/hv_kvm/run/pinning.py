"""The CPUs of the node for a guest's vCPUs: set on QEMU's threads before the guest runs, and read back."""

from __future__ import annotations

import os
from pathlib import Path

from hv_kvm.machine.resource import OnlineCpus
from hv_kvm.machine.spec import KvmSpec
from hv_kvm.qmp import QmpClient, commands
from hvcore.plugin import Job, OperationError, cpu_sets, hookimpl, verified_pidfd, wait_readable

__all__ = ["on_ready"]


@hookimpl
def on_ready(spec: KvmSpec, client: QmpClient, job: Job) -> None:
    """Pin the guest's vCPUs to the CPUs in the spec. Raises `OperationError`.

    One mask is for the whole process: its vCPUs, its input and output, and every thread that it makes later. One for
    each vCPU is for those threads; the kernel places the others.
    """
    process = job.record.process
    if process is None:
        return
    for pinned in spec.resources_of(OnlineCpus):
        sets = cpu_sets(pinned.mask)
        with verified_pidfd(process) as pidfd:
            if pidfd is None:
                raise OperationError(f"{job.name}: QEMU exited before its vCPUs were pinned; see its log in {job.dir}")
            threads = _threads(process.pid)
            if len(sets) == 1:
                wanted = dict.fromkeys(threads.values(), sets[0])
            else:
                vcpus = commands.query_cpus_fast(client, deadline_s=job.deadline.left())
                wanted = {threads.get(vcpu.thread_id, 0): cpus for vcpu, cpus in zip(vcpus, sets, strict=True)}
            for thread, cpus in wanted.items():
                if cpus is not None:
                    _pin(process.pid, thread, cpus, job)
            # If QEMU still runs, every number was that of one of its threads.
            if wait_readable(pidfd, 0.0):
                raise OperationError(f"{job.name}: QEMU exited while its vCPUs were pinned; see its log in {job.dir}")


def _threads(pid: int) -> dict[int, int]:
    """The host's number of each thread, by its number in its pid namespace."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/task"):
        status = _status(pid, int(name))
        if status is not None:
            found[int(status["NSpid"].split()[-1])] = int(name)
    return found


def _status(pid: int, thread: int) -> dict[str, str] | None:
    """The fields of /proc for that thread of that process; None when it has no such thread."""
    try:
        text = Path(f"/proc/{pid}/task/{thread}/status").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def _pin(pid: int, thread: int, cpus: frozenset[int], job: Job) -> None:
    """Pin one thread. It may have ended meanwhile, unless it is a vCPU's: those live as long as QEMU."""
    try:
        if _status(pid, thread) is not None:
            os.sched_setaffinity(thread, cpus)
    except ProcessLookupError:
        return
    except OSError as error:
        what = f"{job.name}: thread {thread} of QEMU cannot be pinned to its CPUs, got {error.strerror}"
        raise OperationError(f"{what}; check the cpuset of its cgroup") from error
    status = _status(pid, thread)
    if status is None:
        return
    (allowed,) = cpu_sets(status["Cpus_allowed_list"])
    if allowed != cpus:
        what = f"{job.name}: thread {thread} may run on CPUs {status['Cpus_allowed_list']}, not on those of cpu_mask"
        raise OperationError(f"{what}; check the cpuset of its cgroup")
