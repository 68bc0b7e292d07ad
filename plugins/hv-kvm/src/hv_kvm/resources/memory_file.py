"""The file for a guest's memory: in a hugetlbfs, for example, where a missing page kills the guest."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hv_kvm.machine.resource import GUEST_USER, MemoryFile
from hvcore.plugin import Held, OperationError, Problem, ResourceKind, Site, Step, Turn

__all__ = ["MemoryFileKind"]

_POOLS: Final = Path("/sys/kernel/mm/hugepages")


class MemoryFileKind(ResourceKind[MemoryFile, str], name="memory-file", turn=Turn.FILE):
    """Not in the ledger: the file has no name, and ends with its last user."""

    def verify(self, resource: MemoryFile, site: Site) -> Iterator[Problem]:
        """The directory must have room for the whole file, in whole pages."""
        path, got = resource.where, repr(resource.directory)
        try:
            page_bytes, free_mib = os.statvfs(resource.directory).f_bsize, _free_mib(resource.directory)
        except OSError as error:
            todo = "give the directory of a mounted hugetlbfs or tmpfs"
            yield Problem(path=path, what=f"cannot be used ({error.strerror})", got=got, todo=todo)
            return
        if (resource.size_mib << 20) % page_bytes:
            what = f"has pages of {page_bytes >> 20} MiB, and the instance's {resource.size_mib} MiB is not a multiple of that"
            yield Problem(path=path, what=what, got=got, todo="change memory_mib")
        elif free_mib < resource.size_mib:
            what = f"has {free_mib} MiB free, the instance needs {resource.size_mib} MiB"
            yield Problem(path=path, what=what, got=got, todo="reserve more (vm.nr_hugepages)")

    def describe(self, resource: MemoryFile, site: Site) -> Iterator[Step]:
        """The size of the file, and its directory."""
        yield Step(kind="file", what=f"make an unnamed file of {resource.size_mib} MiB in {resource.directory}")

    def acquire(self, resource: MemoryFile, held: Held) -> str:
        """Its descriptor. Raises `OperationError`."""
        user = held[GUEST_USER]
        try:
            fd = os.open(resource.directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
            passed = held.add(fd)
            os.truncate(fd, resource.size_mib << 20)
            if user is not None:
                os.fchown(fd, user.uid, user.uid)
        except OSError as error:
            unsupported = error.errno == errno.EOPNOTSUPP
            reason = "its file system has no unnamed files (O_TMPFILE)" if unsupported else error.strerror
            what = f"{held.owner.name}: cannot make a file of {resource.size_mib} MiB in {resource.directory!r}, got {reason}"
            raise OperationError(f"{what}; choose another directory") from error
        return passed


def _free_mib(directory: str) -> int:
    found = os.statvfs(directory)
    free_bytes = found.f_bavail * found.f_bsize
    pool = _POOLS / f"hugepages-{found.f_bsize >> 10}kB"
    if not pool.is_dir():
        return free_bytes >> 20
    # Pages that are reserved and not used yet count in both files.
    pages = int((pool / "free_hugepages").read_text()) - int((pool / "resv_hugepages").read_text())
    left = pages * found.f_bsize
    return (min(left, free_bytes) if found.f_blocks else left) >> 20
