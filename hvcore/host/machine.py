"""The machine that this node is, from /proc and /sys: memory, processors, NUMA nodes, huge pages."""

from __future__ import annotations

import os
import re
from pathlib import Path

from hvcore.frozen import dataclass
from hvcore.model.node_facts import HugePages, NumaNode
from hvcore.params.host_types import cpu_sets

__all__ = ["Machine", "read_machine"]

_KIB_PER_MIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Its processors and its memory in MiB."""

    cpu_model: str
    cpus: int
    sockets: int
    cores: int
    memory_total_mib: int
    memory_free_mib: int
    swap_total_mib: int
    swap_free_mib: int
    numa: tuple[NumaNode, ...]
    huge_pages: tuple[HugePages, ...]


def read_machine(proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> Machine:
    """The machine below these directories. What the kernel does not show is 0 or empty."""
    memory = _meminfo(_text(proc / "meminfo"))
    online = _cpus(_text(sys / "devices/system/cpu/online"))
    places = {
        tuple(
            _text(sys / f"devices/system/cpu/cpu{cpu}/topology/{name}") for name in ("physical_package_id", "core_id")
        )
        for cpu in online
    }
    model = re.search(r"^(?:model name|cpu model|cpu)\s*:\s*(.+)$", _text(proc / "cpuinfo"), re.MULTILINE)
    return Machine(
        cpu_model=model[1].strip() if model else "",
        cpus=len(online) or os.cpu_count() or 1,
        sockets=len({package for package, _ in places}) or 1,
        cores=len(places) or 1,
        memory_total_mib=memory.get("MemTotal", 0),
        # Before Linux 3.14 there is no MemAvailable.
        memory_free_mib=memory.get("MemAvailable", memory.get("MemFree", 0)),
        swap_total_mib=memory.get("SwapTotal", 0),
        swap_free_mib=memory.get("SwapFree", 0),
        numa=tuple(_numa(sys / "devices/system/node")),
        huge_pages=tuple(_huge_pages(sys / "kernel/mm/hugepages")),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _cpus(text: str) -> tuple[int, ...]:
    return tuple(sorted(cpu_sets(text)[0] or ())) if re.fullmatch("[0-9,-]+", text) else ()


def _meminfo(text: str) -> dict[str, int]:
    """The rows of a file such as /proc/meminfo, in MiB."""
    found = re.findall(r"(\w+):\s+(\d+) kB", text)
    return {key: int(value) // _KIB_PER_MIB for key, value in found}


def _numa(top: Path) -> list[NumaNode]:
    found = []
    for number in _cpus(_text(top / "online")):
        memory = _meminfo(_text(top / f"node{number}/meminfo"))
        found.append(
            NumaNode(
                number=number,
                cpus=_text(top / f"node{number}/cpulist"),
                memory_total_mib=memory.get("MemTotal", 0),
                memory_free_mib=memory.get("MemFree", 0),
            )
        )
    return found


def _huge_pages(top: Path) -> list[HugePages]:
    found = []
    for path in top.glob("hugepages-*kB"):
        total, free = _text(path / "nr_hugepages"), _text(path / "free_hugepages")
        if total.isdecimal() and free.isdecimal():
            size_kib = int(path.name.removeprefix("hugepages-").removesuffix("kB"))
            found.append(HugePages(size_kib=size_kib, total=int(total), free=int(free)))
    return sorted(found, key=lambda pages: pages.size_kib)
