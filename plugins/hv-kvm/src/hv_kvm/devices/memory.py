"""The guest's memory: ordinary memory of the node, or a file system such as hugetlbfs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import hvcore.plugin as hv
from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.resource import Bindings, MemoryFile
from hv_kvm.machine.spec import Device, KvmSpec
from hvcore.plugin import dataclass

__all__ = ["DEVICES", "PARAMS", "Memory", "plan", "render"]

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
    help="Where the guest's memory comes from. Its size is memory_mib of the instance.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory(Device):
    """All of the guest's memory, from ``path`` if that is set."""

    mib: int
    path: str | None
    overcommit: bool = False

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


DEVICES: Final = (Memory,)


@hv.hookimpl
def plan(instance: hv.Instance, params: hv.Params) -> Iterator[Device]:
    """The memory."""
    yield Memory(mib=instance.memory_mib, path=params["mem_path"], overcommit=params["memory_overcommit"])


@hv.hookimpl
def render(spec: KvmSpec, bindings: Bindings) -> Iterator[Opt]:
    """The size, and the unnamed file in mem_path. QEMU opens the file again by its descriptor, because memory takes no fdset."""
    yield Opt(name="-m", props={"size": f"{spec.memory_mib}M"}, why="memory_mib of the instance")
    for memory in spec.of(Memory):
        if memory.file is not None:
            props: Props = {"id": "ram", "size": memory.mib << 20}
            props |= {"mem-path": f"/proc/self/fd/{bindings[memory.file]}", "prealloc": True}
            why = f"an unnamed file in {memory.path}"
            yield Opt(name="-object", head="memory-backend-file", props=props, params=("mem_path",), why=why)
            yield Opt(name="-machine", props={"memory-backend": "ram"}, params=("mem_path",))
