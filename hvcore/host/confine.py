"""How an instance's process is confined: the command that does it, and the proof that it was done.

bubblewrap makes the namespaces and the small file system, util-linux's setpriv gives up uid and
capabilities, then the program is executed. Both are in every distribution and audited by others;
nothing security-critical here is our own but the choice of options.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Final

__all__ = ["Level", "Sandbox", "capability_mask", "sandboxed", "system_view", "weaknesses"]


class Level(StrEnum):
    """``strict``: own uid and no capability, needs root. ``user``: a user namespace of the caller. ``off``: nothing."""

    STRICT = "strict"
    USER = "user"
    OFF = "off"


# Bits of linux/capability.h, for those that a chroot instance keeps.
_CAPABILITIES: Final = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_FOWNER": 3,
    "CAP_FSETID": 4,
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_SETPCAP": 8,
    "CAP_NET_BIND_SERVICE": 10,
    "CAP_SYS_CHROOT": 18,
    "CAP_AUDIT_WRITE": 29,
    "CAP_SETFCAP": 31,
}
# What bubblewrap itself needs while it sets up the sandbox; gone before the program begins.
_SETUP_CAPABILITIES: Final = ("CAP_DAC_OVERRIDE", "CAP_NET_ADMIN", "CAP_SETPCAP", "CAP_SYS_ADMIN", "CAP_SYS_CHROOT")

# Parts of /proc that root may write to without any capability (core_pattern names a program that the host then runs).
# bubblewrap 0.8 covers what access(2) calls writable, and of the directory /proc/sys that says no.
_READ_ONLY_PROC: Final = ("sys", "sysrq-trigger", "irq", "bus", "fs", "mtrr", "scsi", "acpi")


def capability_mask(names: tuple[str, ...]) -> int:
    """Those capabilities as the bits that /proc and capset(2) show them in."""
    return sum(1 << _CAPABILITIES[name] for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """What a confined process is allowed to see and to be.

    ``read_only``, ``writable`` and ``devices`` are (host path, path inside). ``root`` is a directory to take as the
    whole file system; without it only the system's /usr is there. ``capabilities`` are kept, the rest is given up.
    ``uid`` None keeps the caller's; ``gid`` None is the same number as the uid. ``seccomp`` says that the program installs a filter itself, to be proved later.
    """

    level: Level
    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] = ()
    root: str | None = None
    read_only: tuple[tuple[str, str], ...] = ()
    writable: tuple[tuple[str, str], ...] = ()
    devices: tuple[tuple[str, str], ...] = ()
    capabilities: tuple[str, ...] = ()
    share_network: bool = False
    proc: bool = False
    hostname: str | None = None
    reaper: bool = False
    seccomp: bool = False
    environment: tuple[tuple[str, str], ...] = ()


def sandboxed(sandbox: Sandbox, argv: tuple[str, ...], status_fd: int, life_fd: int | None = None) -> tuple[str, ...]:
    """The command that runs ``argv`` inside the sandbox; bubblewrap reports pid and end on ``status_fd``.

    With a reaper it is the reaper that keeps ``life_fd``, and nothing else in the sandbox gets it.
    Without ``--die-with-parent``: guests outlive the program that started them.
    """
    if sandbox.level is Level.OFF:
        return argv
    command = [*_bounding_set(sandbox), "bwrap", "--json-status-fd", str(status_fd)]
    if sandbox.reaper and life_fd is not None:
        command += ["--sync-fd", str(life_fd)]
    command += [*_namespaces(sandbox), *_file_system(sandbox)]
    command += ["--clearenv"]
    for key, value in sandbox.environment:
        command += ["--setenv", key, value]
    return (*command, "--", *_privileges(sandbox), *argv)


def _bounding_set(sandbox: Sandbox) -> list[str]:
    """What gives up the bounding set of a root that keeps its uid: bubblewrap's --cap-drop leaves it full.

    Inheritable first, so that bubblewrap still gets what it needs from exec; it then gives that up itself.
    In two commands, because one setpriv (util-linux 2.38) does it in the wrong order.
    """
    if sandbox.level is not Level.STRICT or sandbox.uid is not None:
        return []
    keep = {name.removeprefix("CAP_").lower() for name in sandbox.capabilities}
    setup = keep | {name.removeprefix("CAP_").lower() for name in _SETUP_CAPABILITIES}
    return [
        *("setpriv", "--inh-caps=" + ",".join(("-all", *(f"+{name}" for name in sorted(setup)))), "--"),
        *("setpriv", "--bounding-set=" + ",".join(("-all", *(f"+{name}" for name in sorted(keep)))), "--"),
    ]


def _namespaces(sandbox: Sandbox) -> list[str]:
    options = ["--unshare-pid", "--unshare-ipc", "--unshare-uts"]
    if sandbox.level is Level.USER:
        options.append("--unshare-user")
    if not sandbox.share_network:
        options.append("--unshare-net")
    if not sandbox.reaper:
        options.append("--as-pid-1")
    if sandbox.hostname is not None:
        options += ["--hostname", sandbox.hostname]
    if sandbox.level is Level.STRICT and sandbox.uid is None:
        options += ["--cap-drop", "ALL"]
        for capability in sandbox.capabilities:
            options += ["--cap-add", capability]
    return options


def _file_system(sandbox: Sandbox) -> list[str]:
    options = system_view() if sandbox.root is None else ["--bind", sandbox.root, "/"]
    options += ["--dev", "/dev"]
    if sandbox.proc:
        options += ["--proc", "/proc"]
        for name in _READ_ONLY_PROC:
            options += ["--ro-bind-try", f"/proc/{name}", f"/proc/{name}"]
    for kind, pairs in (
        ("--dev-bind", sandbox.devices),
        ("--ro-bind", sandbox.read_only),
        ("--bind", sandbox.writable),
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


def _way_to(target: str) -> list[str]:
    """The directories above ``target``, open to every uid: those that bubblewrap makes by itself are root's alone."""
    parents = [str(parent) for parent in reversed(PurePosixPath(target).parents) if parent.name]
    return [word for parent in parents for word in ("--perms", "0755", "--dir", parent)]


def _privileges(sandbox: Sandbox) -> list[str]:
    if sandbox.level is Level.USER and os.geteuid() == 0:
        # bubblewrap leaves a root all capabilities of the user namespace; exec with an empty bounding set takes them.
        return ["setpriv", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", "--"]
    if sandbox.level is not Level.STRICT or sandbox.uid is None:
        return []
    groups = ["--groups", ",".join(map(str, sandbox.groups))] if sandbox.groups else ["--clear-groups"]
    return [
        *("setpriv", "--reuid", str(sandbox.uid), "--regid", str(_gid(sandbox)), *groups),
        *("--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", "--"),
    ]


def _gid(sandbox: Sandbox) -> int | None:
    return sandbox.uid if sandbox.gid is None else sandbox.gid


def weaknesses(sandbox: Sandbox, pid: int) -> list[str]:
    """In what the process is confined less than asked, from /proc, for every one of its threads. Empty is good."""
    if sandbox.level is Level.OFF:
        return []
    found = [f"{kind} namespace is the host's" for kind in _expected_namespaces(sandbox) if _shares(pid, kind)]
    if sandbox.proc and sandbox.uid is None and not _proc_sys_is_read_only(pid):
        found.append("/proc/sys can be written to")
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError as error:
        return [f"/proc/{pid}: cannot be read ({error.strerror})"]
    for thread in threads:
        found += [f"thread {thread}: {text}" for text in _weak_thread(sandbox, f"/proc/{pid}/task/{thread}/status")]
    return found


def _expected_namespaces(sandbox: Sandbox) -> list[str]:
    kinds = ["mnt", "pid", "ipc", "uts"]
    if not sandbox.share_network:
        kinds.append("net")
    if sandbox.level is Level.USER:
        kinds.append("user")
    return kinds


def _shares(pid: int, kind: str) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}")
    except OSError:
        return True


def _proc_sys_is_read_only(pid: int) -> bool:
    try:
        lines = Path(f"/proc/{pid}/mountinfo").read_bytes().split(b"\n")[:-1]
    except OSError:
        return False
    fields = [line.split(b" ") for line in lines]
    return any(field[4] == b"/proc/sys" and b"ro" in field[5].split(b",") for field in fields)


def _weak_thread(sandbox: Sandbox, path: str) -> list[str]:
    try:
        text = Path(path).read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []  # the thread ended meanwhile
    status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    found = []
    if status["NoNewPrivs"].strip() != "1":
        found.append("may gain privileges (NoNewPrivs is not 1)")
    if sandbox.seccomp and status["Seccomp"].strip() != "2":
        found.append("has no seccomp filter")
    allowed = capability_mask(sandbox.capabilities)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        extra = int(status[name], 16) & ~allowed
        if extra:
            found.append(f"{name} holds more than asked, {extra:#x}")
    if sandbox.uid is not None and sandbox.level is Level.STRICT:
        wanted = {"Uid": str(sandbox.uid), "Gid": str(_gid(sandbox))}
        found += [f"{key} is {status[key].split()}" for key in wanted if set(status[key].split()) != {wanted[key]}]
        if {int(group) for group in status["Groups"].split()} - set(sandbox.groups):
            found.append(f"belongs to groups {status['Groups'].strip()}")
    return found
