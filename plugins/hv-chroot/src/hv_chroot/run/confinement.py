"""How an instance is confined, and the commands that run a program in it with the same confinement."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import hvcore.plugin as hv
from hv_chroot.run.census import is_ending
from hv_chroot.seccomp import filter_program
from hv_chroot.spec import ChrootSpec
from hvcore.plugin import capability_mask, system_view

__all__ = ["chroot_command", "enter_command", "enter_rooted_command", "prove", "sandbox_of", "site_of"]

_ENTER: Final = Path(__file__).with_name("enter.py")
_ENTER_INSIDE: Final = "/enter.py"
_GROUPS_INSIDE: Final = "/group"  # and a number


def site_of(spec: ChrootSpec, host: hv.Host) -> hv.Site:
    """The node that the instance's resources are for; only root starts an instance, so its confinement is strict."""
    return hv.Site(name=spec.name, host=host, level=hv.Level.STRICT)


def sandbox_of(spec: ChrootSpec, root: str, uids: range | None = None) -> hv.Sandbox:
    """What the instance is allowed: its root as the whole file system, own namespaces, few capabilities.

    ``uids`` are the uids of the node that users inside are mapped to; None: they are the same inside and outside.
    """
    return hv.Sandbox(
        who=hv.AsRoot(capabilities=spec.capabilities, users=uids),
        view=hv.View(root=root, proc=True),
        reaper=True,
        share_network=spec.share_network,
        hostname=spec.hostname,
        filter=_filter(spec),
        environment=spec.environment,
    )


def _filter(spec: ChrootSpec) -> bytes | None:
    return filter_program(os.uname().machine, spec.capabilities) if spec.seccomp else None


def prove(name: str, sandbox: hv.Sandbox, members: Iterable[hv.ProcessId]) -> None:
    """Raises `ConfinementError` when a running process is confined less than requested.

    A process that is exiting has left its namespaces already, and is skipped.
    """
    weak = ((process, text) for process in members for text in hv.weaknesses(sandbox, process.pid))
    found = [f"pid {process.pid}: {text}" for process, text in weak if not is_ending(process)]
    if found:
        raise hv.ConfinementError(f"{name}: is confined less than requested, got {'; '.join(found)}; report this")


def chroot_command(spec: ChrootSpec, root: Path, argv: tuple[str, ...]) -> tuple[str, ...]:
    """The command that runs ``argv`` with that root and the instance's environment, unconfined."""
    return ("env", *_variables(spec), "chroot", "--", str(root), *argv)


def enter_rooted_command(spec: ChrootSpec, process: hv.ProcessId, root: Path, argv: tuple[str, ...]) -> tuple[str, ...]:
    """Like `chroot_command`, in the mount namespace of that process, in which the root can be written to."""
    entering = (f"--mount=/proc/{process.pid}/ns/mnt", f"--root={hv.root_in_mounts_of(process.pid)}")
    return ("nsenter", *entering, "--", *chroot_command(spec, root, argv))


def _variables(spec: ChrootSpec) -> Iterator[str]:
    return (f"{key}={value}" for key, value in spec.environment)


def enter_command(
    spec: ChrootSpec, init: hv.ProcessId, argv: tuple[str, ...], *, group: hv.Group | None, terminal: bool = False
) -> tuple[str, ...]:
    """The command that runs ``argv`` among the processes of that init and in their control ``group``.

    With ``terminal`` the program gets a new terminal. The interpreter is started from a read-only view of the node: a
    file inside the instance can name the program that executes it (``#!/proc/self/exe``), and that program's file could
    then be written through /proc. The view has no instance's file system in it, which it would keep in use.
    """
    python = os.path.realpath(sys.executable)
    view = [*system_view(), "--dev", "/dev", "--ro-bind", "/proc", "/proc"]
    for directory in dict.fromkeys((sys.base_prefix, sys.base_exec_prefix, os.path.dirname(python))):
        if not directory.startswith("/usr/") and directory != "/usr":
            view += ["--ro-bind", directory, directory]
    view += ["--ro-bind", str(_ENTER), _ENTER_INSIDE]
    entrances = () if group is None else group.entrances
    for number, entrance in enumerate(entrances):
        view += ["--bind-try", entrance, f"{_GROUPS_INSIDE}{number}"]
    who = (str(init.pid), str(init.start_ticks), init.boot_id)
    seccomp, mode = base64.b64encode(_filter(spec) or b"").decode(), "terminal" if terminal else "plain"
    how = (f"{capability_mask(spec.capabilities):x}", seccomp, str(len(entrances)), mode, *_variables(spec), "--")
    return (*hv.with_own_root(), "bwrap", *view, "--", python, "-I", "-S", _ENTER_INSIDE, *who, *how, *argv)
