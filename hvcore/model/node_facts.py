"""The node as a whole: its memory, processors and drivers, and what its instances have of them. Pure."""

from __future__ import annotations

from typing import Any

from hvcore.frozen import dataclass
from hvcore.plain import plain_fields

__all__ = ["DriverFacts", "HugePages", "NodeFacts", "NumaNode"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NumaNode:
    """One NUMA node: its CPUs as a list such as ``0-3``, and its memory."""

    number: int
    cpus: str
    memory_total_mib: int
    memory_free_mib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HugePages:
    """The huge pages of one size."""

    size_kib: int
    total: int
    free: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverFacts:
    """One installed driver: its distribution and version, the version of its hypervisor, and its abilities.

    ``files`` are the files of this node that the node's values and the defaults of its parameters name. An instance behaves
    the same on every node if these are the same. ``problem`` says why the driver cannot be used.
    """

    name: str
    distribution: str
    version: str
    hypervisor: str | None = None
    capabilities: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """This node now. ``to_json`` has stable keys.

    ``memory_free_mib`` is what programs can still get (MemAvailable). ``instances_resident_mib`` is what the running
    instances use, ``instances_memory_mib`` and ``instances_vcpus`` what they may have together. ``files`` are those of
    hvcore itself that should be the same on all nodes.
    """

    name: str
    hvcore: str
    kernel: str
    cpu_model: str
    cpus: int
    sockets: int
    cores: int
    load: tuple[float, ...]
    memory_total_mib: int
    memory_free_mib: int
    swap_total_mib: int
    swap_free_mib: int
    instances: int
    instances_vcpus: int
    instances_memory_mib: int
    instances_resident_mib: int
    numa: tuple[NumaNode, ...] = ()
    huge_pages: tuple[HugePages, ...] = ()
    files: tuple[str, ...] = ()
    drivers: tuple[DriverFacts, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The facts as plain JSON types."""
        return plain_fields(self)
