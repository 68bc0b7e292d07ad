"""Checks of this node: what keeps it from running a spec, and the findings of ``hv doctor`` about QEMU and KVM."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from hv_kvm.confinement import site_of
from hv_kvm.machine.resource import Image
from hv_kvm.machine.spec import Device, KvmSpec
from hv_kvm.qemu.accelerator import kvm_works
from hv_kvm.qemu.probe import ProbeError, facts_of, probe
from hv_kvm.run.startup.room import memory_problems, room_problems
from hv_kvm.run.startup.user_networks import with_user_networks
from hvcore.plugin import (
    DiskId,
    Finding,
    Hooks,
    Host,
    Params,
    Problem,
    Severity,
    disks_overlap,
    how_to_install,
    identify_disk,
)

__all__ = ["examine", "problems_on", "same_disk_twice", "version"]

_KVM: Final = "/dev/kvm"


def problems_on(hooks: Hooks, spec: KvmSpec, host: Host) -> Iterator[Problem]:
    """Everything that keeps this node from running the spec. Acquires nothing."""
    spec = with_user_networks(spec)
    site = site_of(spec, host)
    yield from hooks.kinds.problems(spec.resources, site)
    yield from same_disk_twice(spec)
    yield from memory_problems(spec, site)
    yield from room_problems(spec, site)
    try:
        facts = facts_of(spec, host)
    except ProbeError as error:
        yield Problem(path="params.kvm_path", what="is not a usable QEMU", got=repr(spec.qemu), todo=str(error))
        return
    for _, problem in hooks.items("verify", Problem, spec=spec, facts=facts):
        yield problem
    if spec.kvm == "enabled":
        verdict = kvm_works(spec.qemu, cache_dir=str(host.cache_dir))
        if not verdict.usable:
            todo = 'unset kvm_flag, or set kvm_flag = "disabled" for software emulation'
            yield Problem(path="params.kvm_flag", what=verdict.reason, got="'enabled'", todo=todo)


def same_disk_twice(spec: KvmSpec, *, of: Device | None = None) -> Iterator[Problem]:
    """Files that the guest would have twice, by any paths, when it may write to one of them: QEMU refuses that.

    ``of`` looks only at the files of that device, which is the last one.
    """
    wanted = None if of is None else {resource.key for resource in of.resources(spec)}
    seen: list[tuple[Image, DiskId]] = []
    for image in spec.resources_of(Image):
        try:
            disk = identify_disk(image.path)
        except OSError:
            continue  # it does not exist, or is a SCSI device
        for other, others in seen if wanted is None or image.key in wanted else ():
            if disks_overlap(disk, others) and (image.write or other.write):
                what = f"is the same disk as {other.where}, and one of the two can be written"
                todo = "give each its own file; a partition and a loop device share their disk"
                yield Problem(path=image.where, what=what, got=repr(image.path), todo=todo)
                break
        seen.append((image, disk))


def version(host: Host, params: Params) -> str:
    """The version of this node's QEMU. Raises `ProbeError`."""
    cache_dir = str(host.cache_dir) if host.run_dir.is_dir() else None
    return f"QEMU {probe(params['kvm_path'], cache_dir=cache_dir).version}"


def examine(binary: str, host: Host) -> Iterator[Finding]:
    """The findings about the QEMU at ``binary``, the default of this node."""
    if not os.path.exists(binary):
        todo = f"{how_to_install('qemu-system-x86')}, or set kvm_path for this node"
        yield Finding(subject=binary, severity=Severity.PROBLEM, what="is not installed on this node", todo=todo)
        return
    cache_dir = str(host.cache_dir) if host.run_dir.is_dir() else None
    try:
        facts = probe(binary, cache_dir=cache_dir)
    except ProbeError as error:
        yield Finding(subject=binary, severity=Severity.PROBLEM, what=str(error))
        return
    machines = len(facts.machines)
    yield Finding(subject=binary, severity=Severity.OK, what=f"QEMU {facts.version}, {machines} machine types")
    verdict = kvm_works(binary, cache_dir=cache_dir)
    if verdict.usable:
        yield Finding(subject=_KVM, severity=Severity.OK, what=verdict.reason)
    else:
        what = f"{verdict.reason}, so guests are emulated (slow)"
        todo = "enable virtualisation in the firmware, or nested virtualisation if this node is a virtual machine; then load kvm_intel or kvm_amd"
        if os.path.exists(_KVM) and not os.access(_KVM, os.R_OK | os.W_OK):
            todo = "give this user access to it, usually with: usermod -aG kvm USER"
        yield Finding(subject=_KVM, severity=Severity.NOTE, what=what, todo=todo)
