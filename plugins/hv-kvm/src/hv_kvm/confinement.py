"""The sandbox of one launch, from the confinement that the spec wants."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hv_kvm.machine.resource import HostNetwork, MemoryFile, SecurityModel, Shown
from hv_kvm.machine.spec import KvmSpec
from hv_kvm.resources.guest_directory import GUEST_DIR
from hvcore.plugin import AsCaller, AsUser, Host, Level, Sandbox, Site, View, installation

__all__ = ["kvm_groups", "level_of", "sandbox_in_record", "sandbox_of", "site_of"]


def level_of(spec: KvmSpec, host: Host) -> Level:
    """The level of confinement on this node.

    ``auto`` means the level that security_model needs; else ``strict`` for root and ``user`` for other users.
    """
    models = {resource.model for resource in spec.resources_of(SecurityModel)}
    if models & {"user", "pool"}:
        return Level.STRICT
    if spec.confinement == "auto":
        return Level.STRICT if host.privileged and "none" not in models else Level.USER
    return Level(spec.confinement)


def site_of(spec: KvmSpec, host: Host) -> Site:
    """The node and the confinement that the guest's resources are for."""
    return Site(name=spec.name, host=host, level=level_of(spec, host))


def sandbox_of(spec: KvmSpec, user: AsUser | None, *, guest_dir: Path, shown: Iterable[Shown], kvm: bool) -> Sandbox:
    """The sandbox of QEMU: /usr, a private /dev, the guest's directory, and the files of the spec."""
    read_only = [(file.source, file.path) for file in shown if os.path.exists(file.source)]
    read_only += [(path, path) for path in installation(spec.qemu)]
    view = View(
        read_only=tuple(read_only),
        writable=((str(guest_dir), GUEST_DIR),),
        devices=(("/dev/kvm", "/dev/kvm"),) if kvm else (),
    )
    return _sandbox(spec, user or AsCaller(), view)


def sandbox_in_record(spec: KvmSpec, bindings: Mapping[str, Any]) -> Sandbox | None:
    """The sandbox of a running guest, as far as /proc can prove it; None for a guest that is not confined."""
    level = Level(bindings["confinement"])
    if level is Level.OFF:
        return None
    who: AsUser | AsCaller = AsCaller()
    if level is Level.STRICT:
        who = AsUser(bindings["uid"], bindings.get("gid"), tuple(bindings["groups"]))
    return _sandbox(spec, who, View())


def _sandbox(spec: KvmSpec, who: AsUser | AsCaller, view: View) -> Sandbox:
    # An unnamed file is opened again by its descriptor, which needs a /proc.
    view = replace(view, proc=bool(spec.resources_of(MemoryFile)))
    return Sandbox(who=who, view=view, share_network=bool(spec.resources_of(HostNetwork)), seccomp=True)


def kvm_groups() -> tuple[int, ...]:
    """The groups whose members may open /dev/kvm, for a user other than root."""
    group = os.stat("/dev/kvm").st_gid
    return (group,) if group else ()
