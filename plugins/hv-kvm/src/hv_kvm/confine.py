"""From the confinement that was asked for to the sandbox of one launch."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from hv_kvm.devices.security import Security
from hv_kvm.spec import KvmSpec
from hvcore import Host, Level, Sandbox

__all__ = ["FIXED", "GUEST_DIR", "identity_of", "inside", "installation", "level_of", "sandbox_of"]

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


def identity_of(spec: KvmSpec) -> tuple[int, int] | None:
    """Uid and gid of the user that the guest is to run as; None when it is to have one of the pool, or the caller's.

    Raises KeyError when this node has no such user.
    """
    for security in spec.of(Security):
        if security.user is not None:
            found = pwd.getpwnam(security.user)
            return found.pw_uid, found.pw_gid
    return None


def inside(spec: KvmSpec, level: Level) -> dict[str, str]:
    """The path of each shown file as QEMU sees it."""
    if level is Level.OFF:
        return spec.shows
    return {name: FIXED.get(name, f"/{name}") for name in spec.shows}


def sandbox_of(
    spec: KvmSpec,
    level: Level,
    *,
    identity: tuple[int, int] | None,
    guest_dir: Path,
    shown: Mapping[str, str],
    kvm: bool,
) -> Sandbox:
    """What QEMU may see and be: /usr, a private /dev, its own directory, and the files of its spec."""
    places = inside(spec, level)
    read_only = [(source, places[name]) for name, source in shown.items() if os.path.exists(source)]
    read_only += [(path, path) for path in installation(spec.qemu)]
    return Sandbox(
        level=level,
        uid=identity[0] if identity else None,
        gid=identity[1] if identity else None,
        groups=_kvm_groups() if kvm and level is Level.STRICT else (),
        read_only=tuple(read_only),
        writable=((str(guest_dir), GUEST_DIR),),
        devices=(("/dev/kvm", "/dev/kvm"),) if kvm else (),
        share_network=spec.host_network,
        proc=bool(spec.temporaries),  # a file without a name is opened again by its descriptor
        seccomp=True,
    )


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


def _kvm_groups() -> tuple[int, ...]:
    group = os.stat("/dev/kvm").st_gid
    return (group,) if group else ()
