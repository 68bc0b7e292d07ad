"""The command that confines an instance's process as its `hvcore.model.sandbox.Sandbox` says.

bubblewrap makes the namespaces and the small file system, util-linux's setpriv gives up uid and
capabilities, then the program is executed. Both are in every distribution and audited by others;
nothing security-critical here is our own but the choice of options.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Final

from hvcore.host.confinement.namespaces import HeldNamespaces
from hvcore.model.sandbox import AsCaller, AsRoot, AsUser, Sandbox, View, Who

__all__ = ["Wrapped", "installation", "sandboxed", "system_view"]

# What bubblewrap itself needs while it sets up the sandbox; gone before the program begins.
_SETUP_CAPABILITIES: Final = ("CAP_DAC_OVERRIDE", "CAP_NET_ADMIN", "CAP_SETPCAP", "CAP_SYS_ADMIN", "CAP_SYS_CHROOT")

# bubblewrap needs a directory there itself, so there is one.
_STAGE: Final = "/tmp"  # noqa: S108 - nothing is made in it

# Parts of /proc that root may write to without any capability (core_pattern names a program that the host then runs).
# bubblewrap 0.8 covers what access(2) calls writable, and of the directory /proc/sys that says no.
_READ_ONLY_PROC: Final = ("sys", "sysrq-trigger", "irq", "bus", "fs", "mtrr", "scsi", "acpi")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapped:
    """The command of a sandbox around the options of its outermost bubblewrap, which can be told them later.

    ``before`` replaces itself by exec and ends with ``bwrap``; ``options`` are those of that one; ``after`` begins
    with ``--``.
    """

    before: tuple[str, ...]
    options: tuple[str, ...]
    after: tuple[str, ...]

    @property
    def argv(self) -> tuple[str, ...]:
        """The whole command."""
        return (*self.before, *self.options, *self.after)


def sandboxed(
    sandbox: Sandbox,
    argv: tuple[str, ...],
    status_fd: int,
    life_fd: int | None = None,
    *,
    filter_fd: int | None = None,
    held: HeldNamespaces | None = None,
) -> Wrapped:
    """The command that runs ``argv`` inside the sandbox; bubblewrap reports pid and end on ``status_fd``.

    With a reaper it is the reaper that keeps ``life_fd``, and nothing else in the sandbox gets it. bubblewrap reads
    the sandbox's filter from ``filter_fd``. ``held`` has the namespaces that are there already.
    Without ``--die-with-parent``: guests outlive the program that started them.
    """
    options = ["--json-status-fd", str(status_fd)]
    if sandbox.reaper and life_fd is not None:
        options += ["--sync-fd", str(life_fd)]
    if sandbox.filter is not None and filter_fd is not None:
        options += ["--seccomp", str(filter_fd)]
    view = sandbox.view
    options += _namespaces(sandbox, held)
    options += _file_system(view if view.root is None else replace(view, root=_STAGE))
    options += ["--clearenv"]
    for key, value in sandbox.environment:
        options += ["--setenv", key, value]
    entering = [] if held is None else _entering(held)
    before = (*entering, *_bounding_set(sandbox.who), "bwrap")
    after = ("--", *_privileges(sandbox.who), *argv)
    if view.root is not None:
        # A mount namespace in which every uid can reach the root, which the 0700 of the run directory does not let it, and
        # bubblewrap itself is on a read-only mount: root inside can reach its init's program (/proc/1/exe), make that
        # init another one (ptrace(2)), and then write to what the node executes next. Beside them only what the rest
        # of the command needs: a copy of all of the node's mounts would keep other instances' in use, and bubblewrap
        # fails when one of them goes while it makes that copy. /proc with its flags, or no other could be mounted
        # among the users (mount_namespaces(7)).
        shown = (*system_view(), "--dev", "/dev", "--dev-bind", "/proc", "/proc", "--bind", view.root, _STAGE)
        return Wrapped(before=("bwrap",), options=shown, after=("--", *before, *options, *after))
    return Wrapped(before=before, options=tuple(options), after=after)


def _entering(held: HeldNamespaces) -> list[str]:
    """What joins the namespaces, as their root. By the holder's pid: a descriptor would be inherited inside."""
    kinds = [*(["user"] if held.users else []), *(["net"] if held.network else [])]
    return ["nsenter", *(f"--{kind}=/proc/{held.pid}/ns/{kind}" for kind in kinds), "--"]


def _bounding_set(who: Who) -> list[str]:
    """What gives up the bounding set of a root that keeps its uid: bubblewrap's --cap-drop leaves it full.

    Inheritable first, so that bubblewrap still gets what it needs from exec; it then gives that up itself.
    In two commands, because one setpriv (util-linux 2.38) does it in the wrong order.
    """
    if not isinstance(who, AsRoot):
        return []
    keep = {name.removeprefix("CAP_").lower() for name in who.capabilities}
    setup = keep | {name.removeprefix("CAP_").lower() for name in _SETUP_CAPABILITIES}
    return [
        *("setpriv", "--inh-caps=" + ",".join(("-all", *(f"+{name}" for name in sorted(setup)))), "--"),
        *("setpriv", "--bounding-set=" + ",".join(("-all", *(f"+{name}" for name in sorted(keep)))), "--"),
    ]


def _namespaces(sandbox: Sandbox, held: HeldNamespaces | None) -> list[str]:
    options = ["--unshare-pid", "--unshare-ipc", "--unshare-uts"]
    if isinstance(sandbox.who, AsCaller):
        options.append("--unshare-user")
    if not sandbox.share_network and not (held is not None and held.network):
        options.append("--unshare-net")
    if not sandbox.reaper:
        options.append("--as-pid-1")
    if sandbox.hostname is not None:
        options += ["--hostname", sandbox.hostname]
    if isinstance(sandbox.who, AsRoot):
        options += ["--cap-drop", "ALL"]
        for capability in sandbox.who.capabilities:
            options += ["--cap-add", capability]
    return options


def _file_system(view: View) -> list[str]:
    options = system_view() if view.root is None else ["--bind", view.root, "/"]
    options += ["--dev", "/dev"]
    if view.proc:
        options += ["--proc", "/proc"]
        for name in _READ_ONLY_PROC:
            options += ["--ro-bind-try", f"/proc/{name}", f"/proc/{name}"]
    for kind, pairs in (
        ("--dev-bind", view.devices),
        ("--ro-bind", view.read_only),
        ("--bind", view.writable),
    ):
        for source, target in pairs:
            options += [*_way_to(target), kind, source, target]
    return [*options, "--chdir", "/"]


def system_view() -> list[str]:
    """The options that make bubblewrap show the node's own programs and libraries, read-only, and nothing else."""
    options = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib64"):
        # Debian has these as links since usr-merge; without it they are directories of their own.
        there = Path("/", name)
        if there.is_symlink():
            options += ["--symlink", str(there.readlink()), f"/{name}"]
        elif there.is_dir():
            options += ["--ro-bind", f"/{name}", f"/{name}"]
    return [*options, *_way_to("/etc/ld.so.cache"), "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]


def installation(binary: str) -> list[str]:
    """The directories that a confined program has to see beside /usr; none for a program below /usr.

    Directories of an installation by name, so that nothing else beside them is shown (a home directory, the whole file
    system); the whole directory for a program in the place where it was built.
    """
    path = PurePosixPath(os.path.realpath(binary))
    if path.is_relative_to("/usr"):
        return []
    if path.parent.name != "bin":
        return [str(path.parent if path.parent.name else path)]
    beside = (str(path.parent.parent / name) for name in ("bin", "lib", "lib64", "libexec", "share"))
    return [directory for directory in beside if os.path.isdir(directory)]


def _way_to(target: str) -> list[str]:
    """The directories above ``target``, open to every uid: those that bubblewrap makes by itself are root's alone."""
    parents = [str(parent) for parent in reversed(PurePosixPath(target).parents) if parent.name]
    return [word for parent in parents for word in ("--perms", "0755", "--dir", parent)]


def _privileges(who: Who) -> list[str]:
    if isinstance(who, AsCaller) and os.geteuid() == 0:
        # bubblewrap leaves a root all capabilities of the user namespace; exec with an empty bounding set takes them.
        return ["setpriv", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", "--"]
    if not isinstance(who, AsUser):
        return []
    groups = ["--groups", ",".join(map(str, who.groups))] if who.groups else ["--clear-groups"]
    return [
        *("setpriv", "--reuid", str(who.uid), "--regid", str(who.group), *groups),
        *("--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", "--"),
    ]
