"""The command that confines an instance's process as its `hvcore.model.sandbox.Sandbox` says.

bubblewrap makes the namespaces and the small file system, then util-linux's setpriv gives up uid and capabilities, then
the program is executed. Both are audited and in every distribution; the only security-critical part here is the choice of
options.
"""

from __future__ import annotations

import functools
import os
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Final

from hvcore.frozen import dataclass
from hvcore.host.confinement.namespaces import HeldNamespaces
from hvcore.model.sandbox import AsCaller, AsRoot, AsUser, Sandbox, View, Who

__all__ = ["Wrapped", "installation", "sandboxed", "system_view"]

# bubblewrap needs these to set up the sandbox, and drops them before the program starts.
_SETUP_CAPABILITIES: Final = ("CAP_DAC_OVERRIDE", "CAP_NET_ADMIN", "CAP_SETPCAP", "CAP_SYS_ADMIN", "CAP_SYS_CHROOT")

_STAGE: Final = "/tmp"  # noqa: S108 - nothing is made in it, and bubblewrap needs it anyway

# Parts of /proc that root can write to without any capability (core_pattern names a program that the host then runs).
# bubblewrap 0.8 covers what access(2) reports as writable, and access(2) reports the directory /proc/sys as read-only.
_READ_ONLY_PROC: Final = ("sys", "sysrq-trigger", "irq", "bus", "fs", "mtrr", "scsi", "acpi")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapped:
    """A command in three parts, so that the outermost bubblewrap can read its options later.

    ``before`` ends with ``bwrap``, ``options`` are the options of that one, ``after`` begins with ``--``.
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
    """The command that runs ``argv`` inside the sandbox; bubblewrap reports pid and exit code on ``status_fd``.

    With a reaper, only the reaper gets ``life_fd``. bubblewrap reads the sandbox's filter from ``filter_fd``. The sandbox
    joins the namespaces in ``held``. Guests outlive the program that started them, so there is no ``--die-with-parent``.
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
    joining = []
    if held is not None:  # by the holder's pid: a descriptor would be inherited inside
        kinds = [*(["user"] if held.users else []), *(["net"] if held.network else [])]
        joining = ["nsenter", *(f"--{kind}=/proc/{held.pid}/ns/{kind}" for kind in kinds), "--"]
    before = (*joining, *_bounding_set(sandbox.who), "bwrap")
    after = ("--", *_privileges(sandbox.who), *argv)
    if view.root is not None:
        # A bubblewrap around the bubblewrap: its mount namespace lets every uid reach the root despite the 0700 of the
        # run directory. In it the inner bubblewrap is on a read-only mount: root inside can reach its init's program
        # (/proc/1/exe), replace that init (ptrace(2)), and then write to a program that the node executes next.
        # Nothing else of the node is mounted there: copies of other instances' mounts would keep those in use, and
        # bubblewrap fails if a mount goes while it makes the copy. /proc keeps its flags, or the user namespace could
        # not mount another one (mount_namespaces(7)).
        shown = (*system_view(), "--dev", "/dev", "--dev-bind", "/proc", "/proc", "--bind", view.root, _STAGE)
        return Wrapped(before=("bwrap",), options=shown, after=("--", *before, *options, *after))
    return Wrapped(before=before, options=tuple(options), after=after)


def _bounding_set(who: Who) -> list[str]:
    """Two commands that limit the bounding set of a root that keeps its uid: bubblewrap's --cap-drop leaves it full.

    The inheritable set comes first, from which bubblewrap gets its own capabilities at exec and later drops them. One
    setpriv for both (util-linux 2.38) does it in the wrong order.
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
    for directory in view.empty:
        options += [*_parents_of(directory), "--perms", "0755", "--dir", directory]
    for kind, pairs in (("--dev-bind", view.devices), ("--ro-bind", view.read_only), ("--bind", view.writable)):
        for source, target in pairs:
            options += [*_parents_of(target), kind, source, target]
    return [*options, "--chdir", "/"]


def system_view() -> list[str]:
    """Options for bubblewrap that show the node's programs and libraries read-only, and nothing else."""
    options = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib64"):
        # Links since Debian's usr-merge, directories before.
        if os.path.islink(f"/{name}"):
            options += ["--symlink", os.readlink(f"/{name}"), f"/{name}"]
        elif os.path.isdir(f"/{name}"):
            options += ["--ro-bind", f"/{name}", f"/{name}"]
    return [*options, *_parents_of("/etc/ld.so.cache"), "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]


def installation(binary: str) -> list[str]:
    """The directories that a confined program needs beside /usr; none for a program below /usr.

    For PREFIX/bin the directories of an installation in PREFIX, by name, so that a home directory is not shown. For any
    other place, such as a build directory, the program's directory.
    """
    path = PurePosixPath(os.path.realpath(binary))
    if path.is_relative_to("/usr"):
        return []
    if path.parent.name != "bin":
        return [str(path.parent if path.parent.name else path)]
    beside = (str(path.parent.parent / name) for name in ("bin", "lib", "lib64", "libexec", "share"))
    return [directory for directory in beside if os.path.isdir(directory)]


@functools.lru_cache(maxsize=256)  # most are the same at each start
def _parents_of(target: str) -> tuple[str, ...]:
    """Options that make the directories above ``target`` open to every uid; bubblewrap makes them for root only."""
    parents = [str(parent) for parent in reversed(PurePosixPath(target).parents) if parent.name]
    return tuple(word for parent in parents for word in ("--perms", "0755", "--dir", parent))


def _privileges(who: Who) -> list[str]:
    if isinstance(who, AsCaller) and os.geteuid() == 0:
        # bubblewrap leaves root all capabilities of the user namespace; exec with an empty bounding set drops them.
        return ["setpriv", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", "--"]
    if not isinstance(who, AsUser):
        return []
    groups = ["--groups", ",".join(map(str, who.groups))] if who.groups else ["--clear-groups"]
    return [
        *("setpriv", "--reuid", str(who.uid), "--regid", str(who.group), *groups),
        *("--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", "--"),
    ]
