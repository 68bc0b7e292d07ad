"""What this node can do for any driver: the programs of the launch, namespaces, cgroups, uids. Tried, not guessed."""

from __future__ import annotations

import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hvcore.host.confinement.own_root import with_own_root
from hvcore.host.environment import Host
from hvcore.host.reservations import Reservations
from hvcore.model.finding import Finding, Severity
from hvcore.model.limits import LIMITED

__all__ = ["abilities", "how_to_install", "program"]

_TRIAL_S: Final = 10.0
_FEW_UIDS: Final = 16
_FEW_REASONS: Final = 2  # it is one for each hierarchy, and the same most often


def how_to_install(package: str) -> str:
    """The command that installs a Debian package, or its name on another system."""
    return f"apt-get install {package}" if shutil.which("apt-get") else f"install {package}"


def program(name: str, package: str, *version: str) -> Finding:
    """Whether a program is installed; with ``version``, the option that prints it, that it runs, and which one it is."""
    path = shutil.which(name)
    if path is None:
        what = "is not installed on this node"
        return Finding(subject=name, severity=Severity.PROBLEM, what=what, todo=how_to_install(package))
    if not version:
        return Finding(subject=name, severity=Severity.OK, what=path)
    said = _tried([path, *version])
    if said is None:
        todo = f"{how_to_install(package)} again, or look at what it says"
        return Finding(subject=name, severity=Severity.PROBLEM, what=f"{path} does not run", todo=todo)
    return Finding(subject=name, severity=Severity.OK, what=(said.splitlines() or [path])[0][:120])


def abilities(host: Host) -> Iterator[Finding]:
    """Everything that launches need, and what some drivers need."""
    yield program("bwrap", "bubblewrap", "--version")
    yield program("setpriv", "util-linux", "--version")
    if shutil.which("bwrap") is not None:
        yield _sandbox("sandbox", [])
        yield _user_namespaces(host)
    yield _cgroups(host)
    yield from _uids(host)


def _sandbox(subject: str, more: list[str]) -> Finding:
    argv = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--unshare-pid", *more, "true"]
    if _tried([*with_own_root(), *argv]) is not None:  # as a launch does it
        return Finding(subject=subject, severity=Severity.OK, what="bubblewrap makes one")
    return Finding(
        subject=subject,
        severity=Severity.PROBLEM,
        what="bubblewrap cannot make one: no instance can be started confined",
        todo=f"look at what it says: {' '.join(argv)}",
    )


def _user_namespaces(host: Host) -> Finding:
    found = _sandbox("user namespaces", ["--unshare-user"])
    if found.severity is Severity.OK:
        return found
    switch = Path("/proc/sys/kernel/unprivileged_userns_clone")
    todo = "sysctl kernel.unprivileged_userns_clone=1" if _is_zero(switch) else "see user_namespaces(7)"
    # Root confines with a uid of the pool instead.
    severity = Severity.NOTE if host.privileged else Severity.PROBLEM
    what = "cannot be made: confinement at level 'user' does not work"
    return Finding(subject=found.subject, severity=severity, what=what, todo=todo)


def _is_zero(path: Path) -> bool:
    try:
        return path.read_text().strip() == "0"
    except OSError:
        return False


def _cgroups(host: Host) -> Finding:
    groups = host.cgroups
    lacking = [name for name in LIMITED if groups.place(name) is None]
    version = "version 1" if groups.unified is None else "version 2"
    if groups.usable and not lacking:
        return Finding(subject="control groups", severity=Severity.OK, what=f"{version}, with {', '.join(LIMITED)}")
    what = f"{version}, lacks {', '.join(lacking)}" if groups.usable else "none that can be used"
    more = ["..."] if len(groups.refused) > _FEW_REASONS else []
    reason = f" ({'; '.join([*groups.refused[:_FEW_REASONS], *more])})" if groups.refused else ""
    return Finding(
        subject="control groups",
        severity=Severity.NOTE,
        what=f"{what}{reason}: limits that need them are refused",
        todo="see the cgroup mounts in /proc/mounts; systemd.unified_cgroup_hierarchy=1 boots with version 2",
    )


def _uids(host: Host) -> Iterator[Finding]:
    pool = host.uid_pool
    subject = f"uids {pool.start}-{pool.stop - 1}"
    taken = [int(key) for key in Reservations(host.run_dir / "reservations" / "uid").items() if key.isdecimal()]
    free = len(pool) - sum(uid in pool for uid in taken)
    severity = Severity.PROBLEM if not free else Severity.NOTE if free < _FEW_UIDS else Severity.OK
    todo = None if free >= _FEW_UIDS else "stop instances, or give Node a larger uid_pool"
    yield Finding(subject=subject, severity=severity, what=f"{free} of {len(pool)} are free for guests", todo=todo)
    users = sorted(user.pw_name for user in pwd.getpwall() if user.pw_uid in pool)
    if users:
        what = f"are also those of {', '.join(users[:5])}, who may then reach into guests"
        todo = "give those users other uids, or give Node another uid_pool"
        yield Finding(subject=subject, severity=Severity.PROBLEM, what=what, todo=todo)


def _tried(argv: list[str]) -> str | None:
    """What the program printed, or None when it failed."""
    try:
        ended = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TRIAL_S, check=False
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return ended.stdout if ended.returncode == 0 else None
