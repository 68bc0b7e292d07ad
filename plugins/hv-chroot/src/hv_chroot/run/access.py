"""Ways into an instance: a shell, any other program, and what it has written."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import hvcore.plugin as hv
from hv_chroot.names import LOG_FILE, OUTPUT, ROOT
from hv_chroot.resources.root_files import program_problem
from hv_chroot.run.confinement import enter_command
from hv_chroot.run.control_group import is_frozen
from hv_chroot.run.rooted import chroot_command
from hv_chroot.spec import spec_of

__all__ = ["Enterable"]

_SHELL: Final = "/bin/sh"


class Enterable:
    """The abilities of the driver that lead inside."""

    def console(self, live: hv.Live) -> hv.Console:
        """A shell among its processes. Raises `OperationError` when it has none, or they stand still."""
        if is_frozen(live):
            what = "no console while it is paused: a shell in it would stand still too"
            raise hv.OperationError(f"{live.record.name}: {what}; resume it first")
        problem = program_problem(live.dir / ROOT, _SHELL)
        if problem is not None:
            raise hv.OperationError(f"{live.record.name}: no console, {_SHELL} inside {problem}; put a shell there")
        return hv.Console(name=live.record.name, argv=_inside(live, (_SHELL, "-i"), terminal=True))

    def execution(self, live: hv.Live, argv: tuple[str, ...], *, terminal: bool) -> tuple[str, ...]:
        """Among its processes, confined like them. Raises `OperationError` when there are none."""
        return _inside(live, argv, terminal=terminal)

    def log(self, live: hv.Live) -> Path:
        """What its scripts have written, and what they left running."""
        return live.dir / OUTPUT / LOG_FILE


def _inside(live: hv.Live, argv: tuple[str, ...], *, terminal: bool) -> tuple[str, ...]:
    """The command that runs ``argv`` among its processes, confined like them. Raises `OperationError` without any."""
    spec, init = spec_of(live.record), live.record.process
    if not spec.namespaces:
        return chroot_command(spec, live.dir / ROOT, argv)
    if init is None:
        raise hv.OperationError(f"{live.record.name}: has no process to run {argv[0]} beside; start it again")
    return enter_command(spec, init, argv, group=live.group, terminal=terminal)
