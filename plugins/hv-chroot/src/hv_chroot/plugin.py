"""The driver class: what the core calls, in the order in which an instance meets it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Final

import hvcore
from hv_chroot import params as parameters
from hv_chroot.census import census, namespace_of
from hv_chroot.confinement import enter_command, prove, sandbox_of
from hv_chroot.describe import describe
from hv_chroot.examine import examine
from hv_chroot.mounting import ROOT, mount_disk, mount_output
from hv_chroot.root import plain_directories, program_problem
from hv_chroot.script import run_start
from hv_chroot.spec import ChrootSpec, decide
from hv_chroot.stopping import stop
from hv_chroot.verify import verify
from hvcore import STATUS, processes_in_pid_namespace

__all__ = ["ChrootDriver"]

_SHELL: Final = "/bin/sh"
_INIT_ENDS_S: Final = 1.0
_MADE_BY_US: Final = ("dev", "proc")


class ChrootDriver:
    """The driver class that the entry point names."""

    name: ClassVar[str] = "chroot"
    plugins: ClassVar[tuple[tuple[str, object], ...]] = (("chroot", parameters),)
    hookspecs: ClassVar[tuple[object, ...]] = ()

    def __init__(self, hooks: hvcore.Hooks) -> None:
        self._hooks = hooks

    def plan(self, instance: hvcore.Instance, params: hvcore.Params) -> ChrootSpec:
        """The spec, from values alone."""
        return decide(instance, params)

    def verify(self, spec: ChrootSpec, host: hvcore.Host) -> Iterable[hvcore.Problem]:
        """Privileges, tools and the disk."""
        return verify(spec, host)

    def examine(self, host: hvcore.Host) -> Iterable[hvcore.Finding]:
        """Privileges, tools, loop devices."""
        return examine(host)

    def describe(self, spec: ChrootSpec, host: hvcore.Host) -> hvcore.Plan:
        """Claim, mount, launch, confinement, and the launch argument by argument."""
        return describe(spec, host)

    def start(self, spec: ChrootSpec, job: hvcore.Job) -> None:
        """Mount the disk, run the start script on it, and prove how what it left is confined."""
        job.intend(hvcore.Entry(kind=hvcore.DISK))
        job.progress(f"claiming {spec.disk}")
        job.claim_disk(spec.disk, read_only=spec.read_only)
        # Once it is ours, nobody else may be found to use it when we let go; a read-only one has other readers.
        mount = hvcore.Entry(kind=hvcore.MOUNT, data={} if spec.read_only else {"disk": spec.disk})
        job.intend(mount, hvcore.Entry(kind=hvcore.PROCESS))
        job.progress(f"mounting {spec.disk}")
        root = mount_disk(spec, job)
        problem = program_problem(root, spec.init_script)
        if problem is not None:
            todo = "put it on the disk, or set params.init_script"
            raise hvcore.OperationError(f"{job.name}: {spec.init_script!r} on disk {spec.disk!r} {problem}; {todo}")
        problem = plain_directories(root, _MADE_BY_US, may_be_made=not spec.read_only)
        if problem is not None:
            raise hvcore.OperationError(f"{job.name}: on disk {spec.disk!r} {problem}; make it an empty directory")
        log = mount_output(job)
        job.progress(f"running {spec.init_script} start")
        init, monitor = run_start(spec, job, root, log)
        if init is not None:
            _remember(spec, job, init, monitor)

    def adopt(self, live: hvcore.Live, job: hvcore.Job) -> bool:
        """True when the start script had ended well before anybody could write that down, and something runs."""
        status = hvcore.read_status(live.dir / STATUS)
        if status.pid is None or status.ended is None or status.ended.code != 0:
            return False
        init = hvcore.identify(status.pid)
        if init is None or namespace_of(init.pid) != status.pid_namespace or census(init) is None:
            return False
        _remember(_spec(live), job, init, None)
        return True

    def observe(self, live: hvcore.Live) -> hvcore.Observation:
        """Running while anything of it runs, with the figures of all its processes together."""
        init = live.record.process
        found = census(init) if init is not None else None
        if init is None or found is None:
            return hvcore.Observation(state=hvcore.State.SHUTDOWN, reason="no process left")
        return hvcore.Observation(
            state=hvcore.State.RUNNING,
            pid=init.pid,
            resident_mib=found.resident_mib,
            cpu_seconds=found.cpu_seconds,
            uptime_s=found.uptime_s,
            details={"processes": found.processes},
        )

    def stop(self, live: hvcore.Live, job: hvcore.Job, *, force: bool) -> str:
        """The stop script, then SIGTERM, then the end of the namespace; which of them it took."""
        return stop(_spec(live), live, job, force=force)

    def console(self, live: hvcore.Live) -> hvcore.Console:
        """A shell among its processes. Raises `OperationError` when it has none."""
        init = live.record.process
        problem = program_problem(live.dir / ROOT, _SHELL)
        if problem is not None or init is None:
            what = f"{_SHELL} on its disk {problem or 'has nobody to run beside'}"
            raise hvcore.OperationError(f"{live.record.name}: no console, {what}; put a shell there")
        command = enter_command(_spec(live), init, (_SHELL, "-i"), terminal=True)
        return hvcore.Console(name=live.record.name, argv=command)


def _spec(live: hvcore.Live) -> ChrootSpec:
    return hvcore.decode(ChrootSpec, live.record.spec)


def _remember(spec: ChrootSpec, job: hvcore.Job, init: hvcore.ProcessId, monitor: hvcore.ProcessId | None) -> None:
    """Prove the confinement of all that lives, and note the init as the instance's process."""
    namespace, now = namespace_of(init.pid), census(init)
    if namespace is None or now is None or (now.processes == 0 and hvcore.wait_gone(init, _INIT_ENDS_S)):
        return  # the script has left nothing, and then the init ends too
    prove(job.name, sandbox_of(spec, ""), (init, *processes_in_pid_namespace(namespace)))
    job.bind(pid_namespace=namespace)
    job.started(init, monitor)
