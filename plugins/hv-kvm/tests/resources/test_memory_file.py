"""Memory in a file of the node."""

from __future__ import annotations

from pathlib import Path

from hv_kvm.machine.resource import MemoryFile
from hv_kvm.resources.memory_file import MemoryFileKind
from hvcore.plugin import Host, Level, Site


def test_memory_that_does_not_fit_its_directory_is_a_problem(tmp_path: Path) -> None:
    def found(size_mib: int, directory: str = str(tmp_path)) -> list[str]:
        wanted = MemoryFile(key="mem_path", directory=directory, size_mib=size_mib)
        host = Host(run_dir=tmp_path, privileged=False, uid_pool=range(0))
        site = Site(name="web1", host=host, level=Level.USER)
        return [str(problem) for problem in MemoryFileKind().verify(wanted, site)]

    assert found(1) == []
    assert "free, the instance needs" in found(1 << 40)[0]
    assert "cannot be used" in found(1, "/nowhere")[0]
