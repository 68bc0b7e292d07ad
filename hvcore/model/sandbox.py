"""How an instance's process is confined, as values. `hvcore.host.confinement` does it, and proves it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

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
    """``strict``: own uid and no capability, needs root. ``user``: a user namespace of the caller. ``off``: nothing."""

    STRICT = "strict"
    USER = "user"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class AsUser:
    """As one uid of the node's without any capability. ``gid`` None is the same number. Only root can start it."""

    uid: int
    gid: int | None = None
    groups: tuple[int, ...] = ()

    @property
    def group(self) -> int:
        """The gid that it runs with."""
        return self.uid if self.gid is None else self.gid


@dataclass(frozen=True, slots=True, kw_only=True)
class AsRoot:
    """As root, with these ``capabilities`` and no other. Only root can start it.

    ``users`` are the node's uids that 0 and the following inside stand for, in a user namespace that is held ready;
    without them root inside is the node's.
    """

    capabilities: tuple[str, ...] = ()
    users: range | None = None


@dataclass(frozen=True, slots=True)
class AsCaller:
    """As the caller, in a user namespace, without any capability. Everybody can start it."""


Who: TypeAlias = AsUser | AsRoot | AsCaller
"""Who a confined process is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a confined process sees of the file system: the system's /usr, a /dev of its own, and what is named here.

    ``read_only``, ``writable`` and ``devices`` are (host path, path inside). ``root`` is a directory to take as the
    whole file system instead of /usr. It, with what is mounted below it, is shown from a place that every user can
    reach; any other path must then be open to everybody. ``proc`` mounts a /proc of its own.
    """

    root: str | None = None
    read_only: tuple[tuple[str, str], ...] = ()
    writable: tuple[tuple[str, str], ...] = ()
    devices: tuple[tuple[str, str], ...] = ()
    proc: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """What a confined process is, what it sees, and what it is allowed.

    ``seccomp`` says that the program installs a filter itself, to be proved later; ``filter`` is one that bubblewrap
    installs, as an array of struct sock_filter. ``share_network`` leaves it in the node's network, ``hostname`` is
    what it calls itself, ``environment`` are all its variables, as (name, value): nothing is inherited, not even a
    PATH. It begins in ``/``.

    It is the first process of its pid namespace: a signal that it has no handler for does nothing but SIGKILL and
    SIGSTOP (pid_namespaces(7)), SIGTERM too, and when it ends, all others in there are killed. With ``reaper``
    bubblewrap is that first process, as the caller's uid: `Child.process` is then the reaper, which `weaknesses` finds
    too weak, and it lives as long as anything in there does.
    """

    who: Who
    view: View = View()
    share_network: bool = False
    hostname: str | None = None
    reaper: bool = False
    seccomp: bool = False
    filter: bytes | None = None
    environment: tuple[tuple[str, str], ...] = ()


def capability_mask(names: tuple[str, ...]) -> int:
    """Those capabilities as the bits that /proc and capset(2) show them in."""
    return sum(1 << CAPABILITIES.index(name) for name in names)
