"""The machine as /proc and /sys show it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvcore.host.machine import read_machine
from hvcore.model.node_facts import HugePages, NumaNode


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A machine with two sockets, four CPUs in three cores, two NUMA nodes."""
    files = {
        "proc/meminfo": "MemTotal: 2097152 kB\nMemFree: 1024 kB\nMemAvailable: 1048576 kB\nSwapTotal: 0 kB\n",
        "proc/cpuinfo": "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n",
        "sys/devices/system/cpu/online": "0-1,4,6\n",
        "sys/devices/system/node/online": "0-1\n",
        "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages": "4\n",
        "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages": "1\n",
    }
    for cpu, package, core in ((0, 0, 0), (1, 0, 0), (4, 0, 1), (6, 1, 0)):
        files[f"sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id"] = f"{package}\n"
        files[f"sys/devices/system/cpu/cpu{cpu}/topology/core_id"] = f"{core}\n"
    for node in (0, 1):
        files[f"sys/devices/system/node/node{node}/cpulist"] = "0-1\n"
        files[f"sys/devices/system/node/node{node}/meminfo"] = (
            f"Node {node} MemTotal: 1048576 kB\nNode {node} MemFree: 2048 kB\n"
        )
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_sockets_cores_numa_nodes_and_huge_pages_are_counted(tree: Path) -> None:
    found = read_machine(tree / "proc", tree / "sys")
    assert (found.cpu_model, found.cpus, found.cores, found.sockets) == ("Some CPU @ 2 GHz", 4, 3, 2)
    assert (found.memory_total_mib, found.memory_free_mib, found.swap_total_mib) == (2048, 1024, 0)
    assert found.numa == tuple(
        NumaNode(number=number, cpus="0-1", memory_total_mib=1024, memory_free_mib=2) for number in (0, 1)
    )
    assert found.huge_pages == (HugePages(size_kib=2048, total=4, free=1),)


def test_an_old_kernel_and_an_empty_tree_are_no_error(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 4096 kB\nMemFree: 2048 kB\n")
    found = read_machine(tmp_path, tmp_path)
    assert (found.memory_total_mib, found.memory_free_mib, found.numa) == (4, 2, ())
    assert found.cpus >= 1


def test_this_machine_can_be_read() -> None:
    found = read_machine()
    assert found.memory_total_mib > found.memory_free_mib > 0
    assert found.cpus >= found.cores >= found.sockets >= 1
