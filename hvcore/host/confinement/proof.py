"""The proof that a process is confined as its sandbox says, read back from /proc."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from hvcore.host.mount_table import parse_mountinfo
from hvcore.host.processes.process import ending
from hvcore.model.sandbox import AsCaller, AsRoot, AsUser, Sandbox, Who, capability_mask

__all__ = ["has_filter", "weaknesses"]

_NS_GET_PARENT: Final = 0xB702  # linux/nsfs.h
_DEEPEST: Final = 33  # user_namespaces(7): at most 32 below the first


def weaknesses(sandbox: Sandbox | None, pid: int) -> list[str]:
    """Everything in which the process, or one of its threads, is confined less than ``sandbox`` says. Empty is good.

    For a process that has exited or is exiting, only that: nothing can be proved then.
    """
    found = [] if sandbox is None else _weak_process(sandbox, pid)
    return [f"process {pid} has already exited"] if found and ending(pid) else found


def has_filter(pid: int) -> bool:
    """Whether the process has a seccomp filter. False if the process has exited."""
    try:
        return "\nSeccomp:\t2\n" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def _weak_process(sandbox: Sandbox, pid: int) -> list[str]:
    found = [f"{kind} namespace is the host's" for kind in _expected_namespaces(sandbox) if _shares(pid, kind)]
    users = _users(sandbox.who)
    if users is not None:
        found += _weak_users(users, pid)
    if sandbox.view.proc and not isinstance(sandbox.who, AsUser) and not _proc_is_safe(pid):
        found.append("/proc/sys can be written to")
    inner = sandbox.own_users and _user_namespaces(pid) > (0 if isinstance(sandbox.who, AsUser) else 1)
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError as error:
        return [f"/proc/{pid}: cannot be read ({error.strerror})"]
    for thread in threads:
        path = f"/proc/{pid}/task/{thread}/status"
        found += [f"thread {thread}: {text}" for text in _weak_thread(sandbox, path, in_own_users=inner)]
    return found


def _expected_namespaces(sandbox: Sandbox) -> list[str]:
    kinds = ["mnt", "pid", "ipc", "uts"]
    if not sandbox.share_network:
        kinds.append("net")
    if isinstance(sandbox.who, AsCaller) or _users(sandbox.who) is not None:
        kinds.append("user")
    return kinds


def _users(who: Who) -> range | None:
    return who.users if isinstance(who, AsRoot) else None


def _weak_users(users: range, pid: int) -> list[str]:
    wanted = [[0, users.start, len(users)]]
    found = []
    for kind in ("uid", "gid"):
        try:
            lines = Path(f"/proc/{pid}/{kind}_map").read_text().splitlines()
        except OSError as error:
            return [f"/proc/{pid}: cannot be read ({error.strerror})"]
        if [list(map(int, line.split())) for line in lines] != wanted:
            found.append(f"{kind}_map is {' '.join(lines).split()}")
    return found


def _shares(pid: int, kind: str) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}")
    except OSError:
        return True


def _user_namespaces(pid: int) -> int:
    """How many user namespaces deeper than ours the process is; 0 if that cannot be found out."""
    ours = os.stat("/proc/self/ns/user")
    try:
        fd = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    for depth in range(_DEEPEST):
        try:
            if os.path.samestat(os.fstat(fd), ours):
                return depth
            parent = fcntl.ioctl(fd, _NS_GET_PARENT)
        except OSError:  # it is not below ours
            return 0
        finally:
            os.close(fd)
        fd = parent
    os.close(fd)
    return 0


def _proc_is_safe(pid: int) -> bool:
    """Whether the process has a read-only /proc/sys, or no /proc."""
    try:
        mounts = parse_mountinfo(Path(f"/proc/{pid}/mountinfo").read_bytes())
    except OSError:
        return False
    shown = {mount.point: mount.read_only for mount in mounts}
    return "/proc" not in shown or shown.get("/proc/sys", False)


def _weak_thread(sandbox: Sandbox, path: str, *, in_own_users: bool) -> list[str]:
    try:
        text = Path(path).read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []  # the thread has exited meanwhile
    status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    found = []
    if status["NoNewPrivs"].strip() != "1":
        found.append("may gain privileges (NoNewPrivs is not 1)")
    if (sandbox.seccomp or sandbox.filter is not None) and status["Seccomp"].strip() != "2":
        found.append("has no seccomp filter")
    who = sandbox.who
    allowed = capability_mask(who.capabilities) if isinstance(who, AsRoot) else 0
    # In a user namespace that the process made itself, its bounding set is of that namespace, and full.
    checked = ("CapInh", "CapPrm", "CapEff", "CapAmb", *(() if in_own_users else ("CapBnd",)))
    for name in () if in_own_users and sandbox.own_rights else checked:
        extra = int(status[name], 16) & ~allowed
        if extra:
            found.append(f"{name} has more capabilities than allowed, {extra:#x}")
    if isinstance(who, AsUser):
        wanted = {"Uid": str(who.uid), "Gid": str(who.group)}
        found += [f"{key} is {status[key].split()}" for key in wanted if set(status[key].split()) != {wanted[key]}]
        if {int(group) for group in status["Groups"].split()} - set(who.groups):
            found.append(f"belongs to groups {status['Groups'].strip()}")
    return found
