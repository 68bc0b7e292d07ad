"""Where on the node a guest's processors run: set on QEMU's threads before the guest runs, and read back. Impure."""

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
    """Let the guest's processors run where the spec says and nowhere else. Raises `OperationError`.

    One mask is for the whole process: its processors, its input and output, and every thread that it makes later.
    One for each processor is for those threads; the others stay where the kernel puts them.
    """
    process = job.record.process
    if process is None:
        return
    for cpus_asked in spec.asks(OnlineCpus):
        sets = cpu_sets(cpus_asked.mask)
        with verified_pidfd(process) as pidfd:
            if pidfd is None:
                raise OperationError(
                    f"{job.name}: QEMU ended before its processors were pinned; see its log in {job.dir}"
                )
            threads = _threads(process.pid)
            if len(sets) == 1:
                wanted = dict.fromkeys(threads.values(), sets[0])
            else:
                vcpus = commands.query_cpus_fast(client, deadline_s=job.deadline.left())
                wanted = {threads.get(vcpu.thread_id, 0): cpus for vcpu, cpus in zip(vcpus, sets, strict=True)}
            for thread, cpus in wanted.items():
                if cpus is not None:
                    _pin(process.pid, thread, cpus, job)
            # While it lived its threads were its own, and the number of none was somebody else's.
            if wait_readable(pidfd, 0.0):
                raise OperationError(
                    f"{job.name}: QEMU ended while its processors were pinned; see its log in {job.dir}"
                )


def _threads(pid: int) -> dict[int, int]:
    """The host's number of each thread, by the number that it has in its own pid namespace."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/task"):
        status = _status(pid, int(name))
        if status is not None:
            found[int(status["NSpid"].split()[-1])] = int(name)
    return found


def _status(pid: int, thread: int) -> dict[str, str] | None:
    """What /proc says of that thread of that process; None when it has no such thread."""
    try:
        text = Path(f"/proc/{pid}/task/{thread}/status").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def _pin(pid: int, thread: int, cpus: frozenset[int], job: Job) -> None:
    """One thread. One that has ended meanwhile is fine, unless it is a processor's: those live as long as QEMU."""
    try:
        if _status(pid, thread) is not None:
            os.sched_setaffinity(thread, cpus)
    except ProcessLookupError:
        return
    except OSError as error:
        raise OperationError(
            f"{job.name}: thread {thread} cannot be pinned, got {error.strerror}; look at its cgroup"
        ) from error
    status = _status(pid, thread)
    if status is None:
        return
    (allowed,) = cpu_sets(status["Cpus_allowed_list"])
    if allowed != cpus:
        what = f"{job.name}: thread {thread} may run on CPUs {status['Cpus_allowed_list']}, and not where cpu_mask says"
        raise OperationError(f"{what}; look at the cpuset of its cgroup")
