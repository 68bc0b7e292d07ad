"""Whether there is room for a guest's memory in a directory: on a hugetlbfs a page that is missing kills the guest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hv_kvm.machine.spec import Temporary
from hvcore.plugin import Problem

__all__ = ["temporary_problem"]

_POOLS: Final = Path("/sys/kernel/mm/hugepages")


def temporary_problem(wanted: Temporary) -> Iterator[Problem]:
    """Why the file cannot be made as large as it has to be, if so."""
    path = f"params.{wanted.name}"
    try:
        page_bytes, free_mib = os.statvfs(wanted.directory).f_bsize, _free_mib(wanted.directory)
    except OSError as error:
        yield Problem(path=path, what=f"cannot be used ({error.strerror})", got=repr(wanted.directory))
        return
    if (wanted.size_mib << 20) % page_bytes:
        what = f"has pages of {page_bytes >> 20} MiB, and the instance's {wanted.size_mib} MiB are no multiple of that"
        yield Problem(path=path, what=what, got=repr(wanted.directory), todo="change memory_mib")
    elif free_mib < wanted.size_mib:
        what = f"has {free_mib} MiB free, the instance needs {wanted.size_mib} MiB"
        yield Problem(path=path, what=what, got=repr(wanted.directory), todo="reserve more (vm.nr_hugepages)")


def _free_mib(directory: str) -> int:
    found = os.statvfs(directory)
    free_bytes = found.f_bavail * found.f_bsize
    pool = _POOLS / f"hugepages-{found.f_bsize >> 10}kB"
    if not pool.is_dir():
        return free_bytes >> 20
    # What is promised to others and not yet used counts as free in the one file and not in the other.
    pages = int((pool / "free_hugepages").read_text()) - int((pool / "resv_hugepages").read_text())
    left = pages * found.f_bsize
    return (min(left, free_bytes) if found.f_blocks else left) >> 20
