"""What this node's QEMU can do for a spec: facts, accelerator, pinned machine type. Impure, cached, never acquires."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hv_kvm.machine.facts import Facts, resolve_machine
from hv_kvm.machine.spec import KvmSpec
from hv_kvm.qemu.accelerator import kvm_works
from hv_kvm.qemu.probe import probe
from hvcore.plugin import Host

__all__ = ["Accel", "accel_for", "accel_of", "facts_of", "pin"]


@dataclass(frozen=True, slots=True)
class Accel:
    """The accelerator, ``kvm`` or ``tcg``, and why that one."""

    name: str
    why: str


def facts_of(spec: KvmSpec, host: Host) -> Facts:
    """What the spec's QEMU can do. Raises `ProbeError`."""
    return probe(spec.qemu, cache_dir=str(host.cache_dir))


def accel_of(spec: KvmSpec, host: Host) -> Accel:
    """The accelerator that the guest gets on this node."""
    return accel_for(spec.qemu, spec.kvm, host)


def accel_for(qemu: str, kvm: str, host: Host) -> Accel:
    """KVM if it is ``enabled``, or if it is ``auto`` and a trial guest really ran under it; else software emulation."""
    if kvm == "disabled":
        return Accel("tcg", "kvm_flag is disabled")
    if kvm == "enabled":
        return Accel("kvm", "kvm_flag is enabled")
    verdict = kvm_works(qemu, cache_dir=str(host.cache_dir))
    return Accel("kvm" if verdict.usable else "tcg", verdict.reason)


def pin(spec: KvmSpec, facts: Facts) -> KvmSpec:
    """The spec with its machine type resolved: an alias means another machine after the next upgrade of QEMU."""
    return replace(spec, machine=resolve_machine(facts, spec.machine) or spec.machine)
