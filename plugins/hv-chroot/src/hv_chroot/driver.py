"""The driver class, its families and its kinds of resources."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Final

import hvcore.plugin as hv
from hv_chroot.families import isolation, limits, network, root, script
from hv_chroot.names import LOG_FILE, OUTPUT, ROOT, WAITS
from hv_chroot.resources.live_bind import LiveBindKind
from hv_chroot.resources.namespaces import NamespacesKind
from hv_chroot.resources.root_files import program_problem
from hv_chroot.resources.root_mount import OutputKind, RootKind
from hv_chroot.run.attaching import AttachesBinds
from hv_chroot.run.census import census, namespace_of
from hv_chroot.run.confinement import enter_command, enter_rooted_command
from hv_chroot.run.describe import describe
from hv_chroot.run.observe import freeze, is_frozen, observe, thaw
from hv_chroot.run.rooted import RootedKind
from hv_chroot.run.start import first_run, remember, start
from hv_chroot.run.stop import stop
from hv_chroot.run.usage import usage
from hv_chroot.run.verify import examine, verify
from hv_chroot.spec import ChrootSpec, decide, spec_of
from hvcore.plugin import STATUS, rooted

__all__ = ["RESOURCE_KINDS", "ChrootDriver"]

RESOURCE_KINDS: Final = (NamespacesKind(), RootKind(), LiveBindKind(), OutputKind(), RootedKind())

_SHELL: Final = "/bin/sh"


class ChrootDriver(AttachesBinds):
    """The driver class that the entry point names."""

    name: ClassVar[str] = "chroot"
    plugins: ClassVar[tuple[tuple[str, object], ...]] = (
        ("script", script),
        ("root", root),
        ("confine", isolation),
        ("limits", limits),
        ("network", network),
        ("resources", sys.modules[__name__]),
    )
    hookspecs: ClassVar[tuple[object, ...]] = ()
    examine = staticmethod(examine)
    start = staticmethod(start)
    observe = staticmethod(observe)
    pause = staticmethod(freeze)
    usage = staticmethod(usage)

    def __init__(self, hooks: hv.Hooks) -> None:
        self._hooks = hooks

    def plan(self, instance: hv.Instance, params: hv.Params) -> ChrootSpec:
        """The spec, from the instance and its parameters only."""
        return decide(instance, params)

    def verify(self, spec: ChrootSpec, host: hv.Host) -> Iterable[hv.Problem]:
        """Privileges, tools and the disk."""
        return verify(self._hooks, spec, host)

    def describe(self, spec: ChrootSpec, host: hv.Host) -> hv.Plan:
        """The steps of a start, and the launch argument by argument."""
        return describe(self._hooks, spec, host)

    def adopt(self, live: hv.Live, job: hv.Job) -> bool:
        """True when the start script of an interrupted start exited with 0 and left processes.

        Without namespaces no exit status is written, so such a start is undone.
        """
        status = hv.read_status(live.dir / STATUS)
        if status.pid is None or status.ended is None or status.ended.code != 0:
            return False
        init = hv.identify(status.pid)
        if init is None or namespace_of(init.pid) != status.pid_namespace or census(init) is None:
            return False
        remember(spec_of(live.record), job, init, None)
        return True

    def needs_stop(self, live: hv.Live) -> bool:
        """Whether the stop script exists: it may have to clean up also when the last process has ended."""
        return program_problem(live.dir / ROOT, spec_of(live.record).stop_script) is None

    def stop(self, live: hv.Live, job: hv.Job, *, force: bool) -> str:
        """The stop script, then SIGTERM, then the end of the namespace; which of them ended the last process."""
        return stop(spec_of(live.record), live, job, force=force)

    def resume(self, live: hv.Live, job: hv.Job) -> None:
        """Let the frozen processes of the instance continue; start an instance that has not run yet."""
        if live.record.bindings.get(WAITS):
            first_run(spec_of(live.record), job)
        else:
            thaw(live)

    def console(self, live: hv.Live) -> hv.Console:
        """A shell among its processes. Raises `OperationError` when the root has none, or they are frozen."""
        if is_frozen(live):
            what = "no console while the instance is paused: a shell in it would be frozen too"
            raise hv.OperationError(f"{live.record.name}: {what}; resume it first")
        if live.record.bindings.get(WAITS):
            raise hv.OperationError(f"{live.record.name}: no console, the instance has not run yet; resume it first")
        problem = program_problem(live.dir / ROOT, _SHELL)
        if problem is not None:
            raise hv.OperationError(
                f"{live.record.name}: no console, {_SHELL} in the root {problem}; put a shell there"
            )
        return hv.Console(name=live.record.name, argv=self.execution(live, (_SHELL, "-i"), terminal=True))

    def execution(self, live: hv.Live, argv: tuple[str, ...], *, terminal: bool) -> tuple[str, ...]:
        """A command that runs ``argv`` among the instance's processes, confined like them.

        Raises `OperationError` if the instance has no process.
        """
        spec, init = spec_of(live.record), live.record.process
        if not spec.namespaces:
            init = next(iter(rooted(live.dir / ROOT)), None)
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            if init is not None and not spec.namespaces:
                return enter_rooted_command(spec, init, live.dir / ROOT, argv)
            if init is not None:
                return enter_command(spec, init, argv, group=live.group, terminal=terminal)
        raise hv.OperationError(
            f"{live.record.name}: has no process left, so {argv[0]} cannot run in it; start it again"
        )

    def log(self, live: hv.Live) -> Path:
        """The output of its scripts and of the processes that they left."""
        return live.dir / OUTPUT / LOG_FILE
