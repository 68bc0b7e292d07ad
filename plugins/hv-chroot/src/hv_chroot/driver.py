"""The driver class: what the core calls, in the order in which an instance meets it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Final

import hvcore.plugin as hv
from hv_chroot import kinds
from hv_chroot.families import isolation, limits, network, root, script
from hv_chroot.names import ROOT
from hv_chroot.resources.root_files import program_problem
from hv_chroot.run.access import Enterable
from hv_chroot.run.census import census, namespace_of
from hv_chroot.run.control_group import freeze, thaw
from hv_chroot.run.describe import describe
from hv_chroot.run.observe import observe
from hv_chroot.run.start import remember, start
from hv_chroot.run.stop import stop
from hv_chroot.run.verify import examine, verify
from hv_chroot.spec import ChrootSpec, decide, spec_of
from hvcore.plugin import STATUS

__all__ = ["ChrootDriver"]

_FAMILIES: Final = (
    ("script", script),
    ("root", root),
    ("confine", isolation),
    ("limits", limits),
    ("network", network),
    ("resources", kinds),
)


class ChrootDriver(Enterable):
    """The driver class that the entry point names."""

    name: ClassVar[str] = "chroot"
    plugins: ClassVar[tuple[tuple[str, object], ...]] = _FAMILIES
    hookspecs: ClassVar[tuple[object, ...]] = ()
    observe = staticmethod(observe)

    def __init__(self, hooks: hv.Hooks) -> None:
        self._hooks = hooks

    def plan(self, instance: hv.Instance, params: hv.Params) -> ChrootSpec:
        """The spec, from values alone."""
        return decide(instance, params)

    def verify(self, spec: ChrootSpec, host: hv.Host) -> Iterable[hv.Problem]:
        """Privileges, tools and the disk."""
        return verify(self._hooks, spec, host)

    def examine(self, host: hv.Host) -> Iterable[hv.Finding]:
        """Privileges, tools, loop devices."""
        return examine(host)

    def describe(self, spec: ChrootSpec, host: hv.Host) -> hv.Plan:
        """Claim, mount, launch, confinement, and the launch argument by argument."""
        return describe(self._hooks, spec, host)

    def start(self, spec: ChrootSpec, job: hv.Job) -> None:
        """Mount its root, run the start script in it, and prove how what it left is confined."""
        start(spec, job)

    def adopt(self, live: hv.Live, job: hv.Job) -> bool:
        """True when the start script had ended well before anybody could write that down, and something runs.

        Without namespaces nobody has written down how it ended: such a start is undone.
        """
        status = hv.read_status(live.dir / STATUS)
        if status.pid is None or status.ended is None or status.ended.code != 0:
            return False
        init = hv.identify(status.pid)
        if init is None or namespace_of(init.pid) != status.pid_namespace or census(init) is None:
            return False
        remember(spec_of(live.record), job, init, None)
        return True

    def owes_stop(self, live: hv.Live) -> bool:
        """True: its stop script may have to put something in order, also when its last process has ended."""
        return program_problem(live.dir / ROOT, spec_of(live.record).stop_script) is None

    def stop(self, live: hv.Live, job: hv.Job, *, force: bool) -> str:
        """The stop script, then SIGTERM, then the end of the namespace; which of them it took."""
        return stop(spec_of(live.record), live, job, force=force)

    def pause(self, live: hv.Live, job: hv.Job) -> None:
        """Let all its processes stand still, by the freezer."""
        freeze(live, job)

    def resume(self, live: hv.Live, job: hv.Job) -> None:
        """Let them go on."""
        thaw(live)
