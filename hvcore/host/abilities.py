"""What this node can do for any driver: the programs of a launch, namespaces, cgroups, uids. Each is tried."""

from __future__ import annotations

import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hvcore.host.confinement.own_root import with_own_root
from hvcore.host.environment import Host
from hvcore.host.files import tail
from hvcore.host.reservations import Reservations
from hvcore.model.answers import Finding, Severity
from hvcore.model.limits import LIMITED

__all__ = ["abilities", "how_to_install", "program"]

_TRIAL_S: Final = 10.0
_FEW_UIDS: Final = 16
_FEW_REASONS: Final = 2  # one for each hierarchy, and mostly the same


def how_to_install(package: str) -> str:
    """The command that installs a Debian package, or its name on another system."""
    return f"apt-get install {package}" if shutil.which("apt-get") else f"install {package}"


def program(name: str, package: str, *version: str) -> Finding:
    """Whether a program is installed; with ``version``, the option that prints its version, whether it runs, and which."""
    path = shutil.which(name)
    if path is None:
        todo, what = how_to_install(package), "is not installed on this node"
        return Finding(subject=name, severity=Severity.PROBLEM, what=what, todo=todo)
    output = _output([path, *version]) if version else path
    if output is None:
        todo = f"{how_to_install(package)} again, or run it to see its error"
        return Finding(subject=name, severity=Severity.PROBLEM, what=f"{path} does not run", todo=todo)
    return Finding(subject=name, severity=Severity.OK, what=(output.splitlines() or [path])[0][:120])


def abilities(host: Host) -> Iterator[Finding]:
    """Everything that launches need, and things that only some drivers need."""
    yield program("bwrap", "bubblewrap", "--version")
    yield program("setpriv", "util-linux", "--version")
    if shutil.which("bwrap") is not None:
        yield _sandbox()
        yield _user_namespaces(host)
    yield _cgroups(host)
    yield from _uids(host)


def _bubblewrap(*options: str) -> list[str]:
    return ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--unshare-pid", *options, "true"]


def _sandbox() -> Finding:
    argv = _bubblewrap()
    if _output([*with_own_root(), *argv]) is not None:  # as a launch runs it
        return Finding(subject="sandbox", severity=Severity.OK, what="bubblewrap works")
    what, todo = "bubblewrap fails: no instance can be started confined", f"run this to see its error: {' '.join(argv)}"
    return Finding(subject="sandbox", severity=Severity.PROBLEM, what=what, todo=todo)


def _user_namespaces(host: Host) -> Finding:
    subject = "user namespaces"
    if _output([*with_own_root(), *_bubblewrap("--unshare-user")]) is not None:
        return Finding(subject=subject, severity=Severity.OK, what="bubblewrap can create them")
    disabled = tail(Path("/proc/sys/kernel/unprivileged_userns_clone")).strip() == "0"
    todo = "sysctl kernel.unprivileged_userns_clone=1" if disabled else "see user_namespaces(7)"
    # Root confines with a uid of the pool instead.
    severity = Severity.NOTE if host.privileged else Severity.PROBLEM
    what = "cannot be created: confinement at level 'user' does not work"
    return Finding(subject=subject, severity=severity, what=what, todo=todo)


def _cgroups(host: Host) -> Finding:
    groups = host.cgroups
    lacking = [name for name in LIMITED if groups.place(name) is None]
    version = "version 1" if groups.unified is None else "version 2"
    if groups.usable and not lacking:
        return Finding(subject="control groups", severity=Severity.OK, what=f"{version}, with {', '.join(LIMITED)}")
    what = f"{version}, lacks {', '.join(lacking)}" if groups.usable else "not usable"
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
    todo = None if free >= _FEW_UIDS else "stop instances, or set a larger uid_pool in node.toml"
    yield Finding(subject=subject, severity=severity, what=f"{free} of {len(pool)} are free for guests", todo=todo)
    users = sorted(user.pw_name for user in pwd.getpwall() if user.pw_uid in pool)
    if users:
        what = f"also belong to {', '.join(users[:5])}, who can therefore access guests"
        todo = "give those users other uids, or set another uid_pool in node.toml"
        yield Finding(subject=subject, severity=Severity.PROBLEM, what=what, todo=todo)


def _output(argv: list[str]) -> str | None:
    """What the program printed; None if it failed."""
    try:
        return subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TRIAL_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
