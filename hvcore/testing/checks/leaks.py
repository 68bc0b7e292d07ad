"""Leaks: what there is after a start and a stop that was not there before. Only our own scope is compared."""

from __future__ import annotations

import gc
import os

from hvcore.host.launching.launch import reap
from hvcore.host.processes.process import alive, identify
from hvcore.testing.bench import Bench
from hvcore.testing.check import Level, Skipped, Tier, check, require
from hvcore.testing.isolate import forked
from hvcore.testing.residue import held_by_us

__all__: tuple[str, ...] = ()


def _cycle(bench: Bench) -> None:
    bench.start()
    bench.info()
    bench.stop()


@check(
    Level.MUST,
    Tier.LIVE,
    why="A host application runs for months. A descriptor, a thread or a zombie for each instance is its end.",
)
def leak_fds(bench: Bench) -> None:
    """A cycle leaves no descriptor, no thread and no child in the program that does it."""

    def work() -> list[str]:
        _cycle(bench)
        before = held_by_us()
        _cycle(bench)
        _cycle(bench)
        gc.collect()
        reap()
        return sorted(held_by_us() - before)

    held = forked(work).result()
    require(not held, f"a cycle leaves {', '.join(held[:3])}")


@check(
    Level.MUST,
    Tier.LIVE,
    why="A guest that inherits a descriptor of the host application holds its log, its lock or its database open, and can "
    "read it.",
)
def leak_fds_inherited(bench: Bench) -> None:
    """Its processes have none of the descriptors of the program that started them, not even inheritable ones."""
    marker = bench.directory / "marker"
    marker.write_text("host application")

    def work() -> list[str]:
        fd = os.open(marker, os.O_RDONLY)
        os.set_inheritable(fd, True)
        bench.start()
        holders = [process.pid for process in bench.processes() if _holds(process.pid, str(marker))]
        os.close(fd)
        return [str(pid) for pid in holders]

    holders = forked(work).result()
    if not bench.processes():
        raise Skipped("its instances have no process")
    require(not holders, f"pid {', '.join(holders)} has a descriptor of the program that started it")


def _holds(pid: int, path: str) -> bool:
    try:
        return any(os.readlink(f"/proc/{pid}/fd/{fd}") == path for fd in os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return False


@check(
    Level.MUST,
    Tier.LIVE,
    why="A process that outlives its instance still writes to its disk, under the next one that uses it (kata#2198).",
)
def leak_processes_zombies(bench: Bench) -> None:
    """After a stop none of its processes lives, and none is a zombie."""
    bench.start()
    started = bench.processes()
    bench.stop()
    left = [str(process.pid) for process in started if alive(process)]
    left += [str(process.pid) for process in bench.scope.processes()]
    require(not left, f"after a stop there is process {', '.join(dict.fromkeys(left))}")
    reap()
    zombies = [str(process.pid) for process in started if identify(process.pid) == process and _is_ours(process.pid)]
    require(not zombies, f"after a stop nobody has collected process {', '.join(zombies)}")


def _is_ours(pid: int) -> bool:
    """Whether it is a child of this process, which nobody else can collect."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return int(file.read().rpartition(")")[2].split()[1]) == os.getpid()
    except OSError:
        return False


@check(
    Level.MUST,
    Tier.LIVE,
    why="Mounts keep disks busy, links fill bridges (hypeman#222: 1024 taps), cgroups are never counted until they are ten "
    "thousand.",
)
def leak_mounts_netns_links_cgroups(bench: Bench) -> None:
    """After a stop there is no mount, loop device, network link or cgroup of it."""
    _cycle(bench)
    left = bench.scope.kernel_things()
    require(not left, f"after a stop there is {', '.join(left[:3])}")


@check(
    Level.MUST,
    Tier.LIVE,
    why="Files in /tmp and /dev/shm and reservations that nobody releases are found by the next start, or by nobody.",
)
def leak_files_sockets_shm_tmp(bench: Bench) -> None:
    """After a stop there is no file, socket or reservation of it, in the run directory or in temporary directories."""
    _cycle(bench)
    left = bench.scope.files()
    require(not left, f"after a stop there is {', '.join(left[:3])}")
