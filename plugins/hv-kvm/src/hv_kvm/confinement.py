"""From the confinement that was asked for to the sandbox of one launch."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

from hv_kvm.devices.security import Security
from hv_kvm.machine.spec import KvmSpec
from hvcore.plugin import AsCaller, AsUser, Host, Level, Sandbox, View

__all__ = [
    "FIXED",
    "GUEST_DIR",
    "inside",
    "installation",
    "kvm_groups",
    "level_of",
    "sandbox_in_record",
    "sandbox_of",
    "user_of",
]

# Where the guest's directory is inside the sandbox: at the top, because directories on the way would be root's alone.
GUEST_DIR: Final = "/guest"
FIXED: Final = {
    "resolv.conf": "/etc/resolv.conf",
    "hosts": "/etc/hosts",
    "ca-certificates.crt": "/etc/ssl/certs/ca-certificates.crt",
}
"""Files of the node that libraries look for in one place only, by name; a node may be without them."""


def level_of(spec: KvmSpec, host: Host) -> Level:
    """What ``auto`` means on this node: ``strict`` for root, ``user`` for others; but as security_model asks."""
    models = {security.model for security in spec.of(Security)}
    if models & {"user", "pool"}:
        return Level.STRICT
    if spec.confinement == "auto":
        return Level.STRICT if host.privileged and "none" not in models else Level.USER
    return Level(spec.confinement)


def user_of(spec: KvmSpec) -> AsUser | None:
    """The user that the guest is to run as; None when it is to have a uid of the pool, or the caller's.

    Raises KeyError when this node has no such user.
    """
    for security in spec.of(Security):
        if security.user is not None:
            found = pwd.getpwnam(security.user)
            return AsUser(found.pw_uid, found.pw_gid)
    return None


def inside(spec: KvmSpec, level: Level) -> dict[str, str]:
    """The path of each shown file as QEMU sees it."""
    return spec.shows if level is Level.OFF else {name: _inside(name) for name in spec.shows}


def _inside(name: str) -> str:
    return FIXED.get(name, f"/{name}")


def sandbox_of(
    spec: KvmSpec, who: AsUser | AsCaller, *, guest_dir: Path, shown: Mapping[str, str], kvm: bool
) -> Sandbox:
    """What QEMU may see and be: /usr, a private /dev, its own directory, and the files of its spec."""
    read_only = [(source, _inside(name)) for name, source in shown.items() if os.path.exists(source)]
    read_only += [(path, path) for path in installation(spec.qemu)]
    view = View(
        read_only=tuple(read_only),
        writable=((str(guest_dir), GUEST_DIR),),
        devices=(("/dev/kvm", "/dev/kvm"),) if kvm else (),
        proc=bool(spec.temporaries),  # a file without a name is opened again by its descriptor
    )
    return Sandbox(who=who, view=view, share_network=spec.host_network, seccomp=True)


def sandbox_in_record(spec: KvmSpec, bindings: Mapping[str, Any]) -> Sandbox | None:
    """What can be proved of the sandbox that a guest was started in; None for one that is not confined."""
    level = Level(bindings["confinement"])
    if level is Level.OFF:
        return None
    who: AsUser | AsCaller = AsCaller()
    if level is Level.STRICT:
        who = AsUser(bindings["uid"], bindings.get("gid"), tuple(bindings["groups"]))
    return Sandbox(who=who, view=View(proc=bool(spec.temporaries)), share_network=spec.host_network, seccomp=True)


def installation(binary: str) -> list[str]:
    """What has to be there beside /usr for a program that was installed elsewhere: its own libraries, modules, firmware.

    Directories of an installation by name, so that of what else is there (a home directory, the whole file
    system) nothing is shown; all of the directory for one in the place where it was built.
    """
    path = PurePosixPath(os.path.realpath(binary))
    if path.is_relative_to("/usr"):
        return []
    if path.parent.name != "bin":
        return [str(path.parent if path.parent.name else path)]
    beside = (str(path.parent.parent / name) for name in ("bin", "lib", "lib64", "libexec", "share"))
    return [directory for directory in beside if os.path.isdir(directory)]


def kvm_groups() -> tuple[int, ...]:
    """The groups whose members may open /dev/kvm, for a user who is not root."""
    group = os.stat("/dev/kvm").st_gid
    return (group,) if group else ()
