"""The guest's memory: ordinary memory of the node, or a file system such as hugetlbfs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Final

import hvcore.plugin as hv
from hv_kvm.devices.shared.params import lacking, problem
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.resource import Bindings, MemoryFile, NumaNodes
from hv_kvm.machine.spec import Device, KvmSpec, PciDevice, when_planned
from hvcore.plugin import dataclass

__all__ = ["DEVICES", "PARAMS", "STEP_MIB", "HotMemory", "Memory", "check", "plan", "render", "verify"]

STEP_MIB: Final = 2  # virtio-mem gives and takes memory in such blocks
_VIRTIO_MEM: Final = "virtio-mem-pci"

_NODES: Final = "[0-9]{1,4}(?:-[0-9]{1,4})?"

PARAMS: Final = hv.ParamGroup(
    "memory",
    hv.Param(
        "mem_path",
        hv.directory(),
        help="The directory in which QEMU allocates all memory of the guest at the start: a mounted hugetlbfs, for huge "
        "pages.",
        default_means="ordinary memory of the node, allocated when the guest uses it",
        example="/dev/hugepages",
        changes="launch",
    ),
    hv.Param(
        "memory_overcommit",
        hv.boolean(),
        default=False,
        help="Whether the guest starts even if the node has less memory available than memory_mib. If the guest then uses all of "
        "its memory, the kernel may kill it or other programs.",
        changes="launch",
        example=True,
    ),
    hv.Param(
        "memory_max",
        hv.size_mib(),
        unit="MiB",
        help="How much memory 'hv memory' can give the running guest. The guest needs a driver for virtio-mem.",
        default_means="memory_mib of the instance",
        example="4G",
    ),
    hv.Param(
        "memory_nodes",
        hv.regexp(_NODES, "a NUMA node or a range such as '0' or '0-1'"),
        help="The NUMA nodes of this node that the guest's memory comes from, by memory_policy.",
        default_means="all nodes",
        changes="launch",
        example="0",
    ),
    hv.Param(
        "memory_policy",
        hv.one_of(
            {
                "bind": "Only from these nodes. A guest that needs more is killed.",
                "preferred": "From the one node as long as it has memory.",
                "interleave": "From these nodes in turn.",
            }
        ),
        default="bind",
        help="How the guest's memory is taken from memory_nodes.",
        changes="launch",
        example="interleave",
    ),
    help="Where the guest's memory comes from. Its size is memory_mib of the instance.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory(Device):
    """The guest's memory at its start, from ``path`` if that is set, and from the NUMA ``nodes`` of this node.

    ``more_mib`` is the most that the guest can have beyond it, see `HotMemory`.
    """

    mib: int
    path: str | None
    overcommit: bool = False
    nodes: str | None = None
    policy: str = "bind"
    more_mib: int = 0

    @property
    def file(self) -> MemoryFile | None:
        """An unnamed file: there is nothing to clean up, and the guest's uid needs no access to the directory."""
        if self.path is None:
            return None
        return MemoryFile(key="mem_path", given_by="params.mem_path", directory=self.path, size_mib=self.mib)

    def resources(self, spec: KvmSpec) -> Iterator[hv.Resource[Any]]:
        """The unnamed file in the directory mem_path, if it is set."""
        if self.file is not None:
            yield self.file
        if self.nodes is not None:
            yield NumaNodes(key="memory_nodes", given_by="params.memory_nodes", nodes=self.nodes)


@dataclass(frozen=True, slots=True, kw_only=True)
class HotMemory(PciDevice):
    """Memory that the running guest can have beyond that of its start: at most ``most_mib``, ``asked_mib`` of it now."""

    most_mib: int
    asked_mib: int = 0
    nodes: str | None = None
    policy: str = "bind"

    on_board: ClassVar[bool] = True


DEVICES: Final = (Memory, HotMemory)


@hv.hookimpl
def check(instance: hv.Instance, params: hv.Params) -> Iterator[hv.Problem]:
    """The maximum is at least the memory of the start, in whole blocks, and not of huge pages."""
    most = params["memory_max"]
    if most is not None:
        if most < instance.memory_mib:
            what = f"is less than the instance's {instance.memory_mib} MiB"
            yield problem(params, "memory_max", what, "raise it, or remove it")
        elif (most - instance.memory_mib) % STEP_MIB:
            what = f"must be memory_mib and a multiple of {STEP_MIB} MiB"
            yield problem(params, "memory_max", what, f"use {most + 1}")
        if most > instance.memory_mib and params["mem_path"] is not None:
            yield problem(params, "memory_max", "cannot be used with mem_path", "remove one of them")
    nodes = params["memory_nodes"]
    if params["memory_policy"] == "preferred" and nodes is not None and not nodes.isdecimal():
        yield problem(params, "memory_nodes", "must be one node with memory_policy 'preferred'", "give one")
    low, dash, high = (nodes or "").partition("-")
    if dash and int(low) > int(high):
        yield problem(params, "memory_nodes", "ends before it begins", "correct it")


@hv.hookimpl
def plan(instance: hv.Instance, params: hv.Params) -> Iterator[Device]:
    """The memory."""
    more_mib = max(0, (params["memory_max"] or 0) - instance.memory_mib)
    nodes, policy = params["memory_nodes"], params["memory_policy"]
    yield Memory(
        mib=instance.memory_mib,
        path=params["mem_path"],
        overcommit=params["memory_overcommit"],
        nodes=nodes,
        policy=policy,
        more_mib=more_mib,
    )
    if more_mib:
        yield HotMemory(most_mib=more_mib, nodes=nodes, policy=policy)


@hv.hookimpl
@when_planned(HotMemory)
def verify(facts: Facts) -> Iterator[hv.Problem]:
    """This QEMU must have virtio-mem."""
    yield from lacking(facts, _VIRTIO_MEM, "params.memory_max", "remove it")


@hv.hookimpl
def render(spec: KvmSpec, bindings: Bindings) -> Iterator[Opt]:
    """The size, and where the memory comes from. QEMU opens the file in mem_path by its descriptor: memory takes no fdset."""
    for memory in spec.of(Memory):
        most = f"{memory.mib + memory.more_mib}M" if memory.more_mib else None
        keys = ("memory_max",) if most else ()
        yield Opt(
            name="-m", props={"size": f"{memory.mib}M", "maxmem": most}, params=keys, why="memory_mib of the instance"
        )
        props: Props = {"id": "ram", "size": memory.mib << 20, **_placement(memory)}
        if memory.file is not None:
            props |= {"mem-path": f"/proc/self/fd/{bindings[memory.file]}", "prealloc": True}
            why = f"an unnamed file in {memory.path}"
            yield Opt(name="-object", head="memory-backend-file", props=props, params=("mem_path",), why=why)
            yield Opt(name="-machine", props={"memory-backend": "ram"}, params=("mem_path",))
        elif memory.nodes is not None:
            yield Opt(name="-object", head="memory-backend-ram", props=props, params=("memory_nodes", "memory_policy"))
            yield Opt(name="-machine", props={"memory-backend": "ram"}, params=("memory_nodes",))
    for device in spec.of(HotMemory):
        props = {"id": "hot-ram", "size": device.most_mib << 20, **_placement(device)}
        yield Opt(name="-object", head="memory-backend-ram", props=props, params=("memory_max",))
        props = {"id": "hot-memory", "memdev": "hot-ram", "requested-size": device.asked_mib << 20}
        yield Opt(name="-device", head=_VIRTIO_MEM, props=props | device.address(spec), params=("memory_max",))


def _placement(memory: Memory | HotMemory) -> Props:
    """The properties of a memory backend for the NUMA nodes."""
    if memory.nodes is None:
        return {}
    first, _, last = memory.nodes.partition("-")
    return {"host-nodes": range(int(first), int(last or first) + 1), "policy": memory.policy}
