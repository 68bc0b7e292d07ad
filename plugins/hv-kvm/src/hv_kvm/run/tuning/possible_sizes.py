"""The memory and the numbers of processors that a running guest can get, by what its start has set. Pure."""

from __future__ import annotations

from hv_kvm.devices.cpu import Cpu
from hv_kvm.devices.memory import STEP_MIB, HotMemory
from hv_kvm.machine.spec import KvmSpec

__all__ = ["sizes"]


def sizes(spec: KvmSpec) -> dict[str, range]:
    """The values for each field of an instance. A guest without a maximum keeps what it has."""
    found = {}
    for memory in spec.of(HotMemory):
        found["memory_mib"] = range(spec.memory_mib, spec.memory_mib + memory.most_mib + 1, STEP_MIB)
    for cpu in spec.of(Cpu):
        if cpu.most > 1:
            found["vcpus"] = range(1, cpu.most + 1)
    return found
