"""The CPUs of the node for a guest's threads: set before the guest runs, changed while it runs, and read back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import hvcore.plugin as hv
from hv_kvm.devices.cpu import Cpu
from hv_kvm.machine.cpu_places import CpuPlaces, places, with_pins
from hv_kvm.machine.saved import saved_device, with_values
from hv_kvm.machine.spec import KvmSpec
from hv_kvm.qmp import QmpClient, commands, reach, size_commands
from hv_kvm.run.tuning.saved_first import saved_first

__all__ = ["on_ready", "pin", "place_threads", "refuse_outside"]


@hv.hookimpl
def on_ready(spec: KvmSpec, client: QmpClient, job: hv.Job) -> None:
    """Pin the guest's threads to the CPUs in the spec. Raises `OperationError`.

    One mask is for the whole process: its vCPUs, its input and output, and every thread that it makes later. One for
    each vCPU is for those threads; the kernel places the others.
    """
    for cpu in spec.of(Cpu):
        wanted = places({"mask": cpu.mask, "emulator": cpu.emulator, "iothreads": cpu.iothreads}, spec.vcpus)
        if wanted.pinned:
            place_threads(client, wanted, job)
            job.bind(pins=str(wanted))


def pin(live: hv.Live, job: hv.Job, pins: hv.Pins) -> bool:
    """Pin the threads of the running guest, and keep that in its spec. Whether anything was changed."""
    spec = live.record.spec
    cpu, vcpus = saved_device(spec, "Cpu") or {}, int(spec["vcpus"])
    values = with_pins(job.name, cpu, vcpus, pins)
    wanted, before = places(values, vcpus), places(cpu, vcpus)
    refuse_outside(wanted, job)
    shown = str(wanted) if wanted.pinned else None
    with (
        reach(live.dir, job.deadline.left()) as client,
        saved_first(job, with_values(spec, "Cpu", **values), pins=shown),
    ):
        return place_threads(client, wanted, job, free=before) or wanted != before


def refuse_outside(wanted: CpuPlaces, job: hv.Job) -> None:
    """Raise `OperationError` for CPUs that are not online, or not in the cpuset of the guest's control group."""
    process = job.record.process
    (online,) = hv.cpu_sets(Path("/sys/devices/system/cpu/online").read_text(encoding="ascii").strip())
    allowed = None if process is None else hv.allowed_cpus(process.pid, job.host.cgroups)
    for cpus, what, todo in (
        (online, "are not online on this node", "choose others"),
        (allowed, "are outside the cpuset of its control group", "choose others, or change the cpuset"),
    ):
        outside = sorted(wanted.used - cpus) if cpus is not None else []
        if outside and cpus is not None:
            shown, may = ", ".join(map(str, outside[:8])), ", ".join(map(str, sorted(cpus)))
            raise hv.OperationError(f"{job.name}: CPUs {shown} {what}, which has {may}; {todo}")


def place_threads(client: QmpClient, wanted: CpuPlaces, job: hv.Job, *, free: CpuPlaces | None = None) -> bool:
    """Let each thread of QEMU run on its CPUs only. Whether that changed anything. Raises `OperationError`.

    Threads without a pin are left alone, unless ``free`` had one for them: those may use every CPU again. If a thread
    cannot be pinned, all have the CPUs that they had before.
    """
    process = job.record.process
    if process is None:
        return False
    with hv.verified_pidfd(process) as pidfd:
        if pidfd is None:
            raise hv.OperationError(f"{job.name}: QEMU exited before its vCPUs were pinned; see its log in {job.dir}")
        roles = _roles(client, job)
        before: dict[int, frozenset[int]] = {}
        try:
            for thread, inside in _threads(process.pid).items():
                cpus = _cpus(roles.get(inside, "emulator"), wanted, free)
                if cpus is not None:
                    _pin(process.pid, thread, cpus, before, job)
        except BaseException:
            for thread, cpus in before.items():
                with suppress(OSError):
                    os.sched_setaffinity(thread, cpus)
            raise
        # If QEMU still runs, every number was that of one of its threads.
        if hv.wait_readable(pidfd, 0.0):
            raise hv.OperationError(f"{job.name}: QEMU exited while its vCPUs were pinned; see its log in {job.dir}")
        return bool(before)


def _roles(client: QmpClient, job: hv.Job) -> dict[int, int | str]:
    """What a thread is, by its number in QEMU's pid namespace: the number of a vCPU, or ``iothreads``."""
    found: dict[int, int | str] = dict.fromkeys(
        size_commands.query_iothreads(client, deadline_s=job.deadline.left()).values(), "iothreads"
    )
    vcpus = commands.query_cpus_fast(client, deadline_s=job.deadline.left())
    # Under TCG without threads for each vCPU, several have one.
    return found | {vcpu.thread_id: number for number, vcpu in reversed(list(enumerate(vcpus)))}


def _cpus(role: int | str, wanted: CpuPlaces, free: CpuPlaces | None) -> frozenset[int] | None:
    """The CPUs for a thread of that role; None to leave it alone."""
    found, had = _list_of(role, wanted), "all" if free is None else _list_of(role, free)
    if found == "all":
        return None if had == "all" else frozenset(range(os.cpu_count() or 1))
    return hv.cpu_sets(found)[0]


def _list_of(role: int | str, where: CpuPlaces) -> str:
    if isinstance(role, int):
        return where.vcpus[role] if role < len(where.vcpus) else "all"
    return where.iothreads if role == "iothreads" else where.emulator


def _threads(pid: int) -> dict[int, int]:
    """The number of each thread in its pid namespace, by the host's. The main thread first: it makes most of the others."""
    found = {}
    for name in sorted(os.listdir(f"/proc/{pid}/task"), key=int):
        status = _status(pid, int(name))
        if status is not None:
            found[int(name)] = int(status["NSpid"].split()[-1])
    return found


def _status(pid: int, thread: int) -> Mapping[str, str] | None:
    """The fields of /proc for that thread of that process; None when it has no such thread."""
    try:
        text = Path(f"/proc/{pid}/task/{thread}/status").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def _allowed(status: Mapping[str, str]) -> frozenset[int]:
    (found,) = hv.cpu_sets(status["Cpus_allowed_list"])
    return found or frozenset()


def _pin(pid: int, thread: int, cpus: frozenset[int], before: dict[int, frozenset[int]], job: hv.Job) -> None:
    """Pin one thread, and note what it had. It may have ended meanwhile, unless it is a vCPU's: those live as long as QEMU."""
    status = _status(pid, thread)
    had = None if status is None else _allowed(status)
    if had is None or had == cpus:
        return
    try:
        os.sched_setaffinity(thread, cpus)
    except ProcessLookupError:
        return
    except OSError as error:
        what = f"{job.name}: thread {thread} of QEMU cannot be pinned to its CPUs, got {error.strerror}"
        raise hv.OperationError(f"{what}; check the cpuset of its cgroup") from error
    before[thread] = had
    status = _status(pid, thread)
    if status is not None and _allowed(status) < cpus:
        what = f"{job.name}: thread {thread} may run on CPUs {status['Cpus_allowed_list']}, not on those of its pin"
        raise hv.OperationError(f"{what}; check the cpuset of its cgroup")
