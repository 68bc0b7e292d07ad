"""The confinement of an instance's process, as values. `hvcore.host.confinement` applies and checks it. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, TypeAlias

from hvcore.frozen import dataclass

__all__ = ["CAPABILITIES", "AsCaller", "AsRoot", "AsUser", "Level", "Sandbox", "View", "Who", "capability_mask"]

# In the order of their bits, linux/capability.h as of Linux 5.9.
CAPABILITIES: Final = tuple(
    f"CAP_{name}"
    for name in (  # noqa: SIM905 - as a list it has a line for each
        "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE "
        "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT "
        "SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE "
        "AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ "
        "PERFMON BPF CHECKPOINT_RESTORE"
    ).split()
)


class Level(StrEnum):
    """``strict``: its own uid and no capability, needs root. ``user``: a user namespace of the caller. ``off``: none."""

    STRICT = "strict"
    USER = "user"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class AsUser:
    """As one uid of the node, without capabilities. ``gid`` None is the same number. Only root can start it."""

    uid: int
    gid: int | None = None
    groups: tuple[int, ...] = ()

    @property
    def group(self) -> int:
        """The gid of the process."""
        return self.uid if self.gid is None else self.gid


@dataclass(frozen=True, slots=True, kw_only=True)
class AsRoot:
    """As root, with only these ``capabilities``. Only root can start it.

    ``users`` are the uids of the node that the uids from 0 on inside mean, in a user namespace that is held ready.
    Without them, root inside is root of the node.
    """

    capabilities: tuple[str, ...] = ()
    users: range | None = None


@dataclass(frozen=True, slots=True)
class AsCaller:
    """As the caller, in a user namespace, without capabilities. Every user can start it."""


Who: TypeAlias = AsUser | AsRoot | AsCaller
"""The user of a confined process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The file system as a confined process sees it: the system's /usr, its own /dev, and the paths given here.

    ``read_only``, ``writable`` and ``devices`` are (host path, path inside). ``root`` is a directory that replaces /usr as
    the whole file system. It is shown, with everything mounted below it, from a place that every user can reach; every
    other path must be accessible to all users. ``proc`` mounts the sandbox's own /proc. ``empty`` are directories inside
    without anything in them.
    """

    root: str | None = None
    read_only: tuple[tuple[str, str], ...] = ()
    writable: tuple[tuple[str, str], ...] = ()
    devices: tuple[tuple[str, str], ...] = ()
    proc: bool = False
    empty: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """The user, the view and the rights of a confined process. It starts in ``/``.

    ``seccomp`` says that the program installs a filter itself, which is checked later; ``filter`` is one that bubblewrap
    installs, as an array of struct sock_filter. ``share_network`` leaves the process in the node's network, ``hostname``
    is its host name, ``environment`` are all its variables, as (name, value): none is inherited, not even PATH.

    ``own_users`` says that the program makes a user namespace itself, in which the kernel shows a full bounding set. With
    ``own_rights`` it keeps capabilities there, which are rights over nothing of the node.

    It is the first process of its pid namespace. Without a handler for a signal, it is only affected by SIGKILL and
    SIGSTOP, not even by SIGTERM (pid_namespaces(7)). When it exits, all others in the namespace are killed. With
    ``reaper``, bubblewrap is that first process, as the caller's uid: `Child.process` is then the reaper, which
    `weaknesses` finds too weak, and which lives as long as any process in the namespace.
    """

    who: Who
    view: View = View()
    share_network: bool = False
    hostname: str | None = None
    reaper: bool = False
    seccomp: bool = False
    own_users: bool = False
    own_rights: bool = False
    filter: bytes | None = None
    environment: tuple[tuple[str, str], ...] = ()


def capability_mask(names: tuple[str, ...]) -> int:
    """The capabilities as bits, as /proc and capset(2) have them."""
    return sum(1 << CAPABILITIES.index(name) for name in names)
