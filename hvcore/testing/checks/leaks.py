"""Leaks: things that a start and a stop leave behind. Only the things of this site count."""

from __future__ import annotations

import gc
import os

from hvcore.host.launching.launch import reap
from hvcore.host.processes.process import alive, identify
from hvcore.testing.check import Bench, Level, Skipped, Tier, check, require
from hvcore.testing.isolate import forked
from hvcore.testing.site import held_by_us

__all__: tuple[str, ...] = ()


def _cycle(bench: Bench) -> None:
    bench.start()
    bench.info()
    bench.stop()


@check(Level.MUST, Tier.LIVE)
def leak_fds(bench: Bench) -> None:
    """A cycle of start and stop leaves no descriptor, thread or child in the calling program.

    Why: A host application runs for months. One leaked descriptor, thread or zombie per instance ends it.
    """

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


@check(Level.MUST, Tier.LIVE)
def leak_fds_inherited(bench: Bench) -> None:
    """Its processes hold none of the descriptors of the program that started them, not even inheritable ones.

    Why: A guest that inherits a descriptor of the host application keeps its log, lock or database open and can read
    it.
    """
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


@check(Level.MUST, Tier.LIVE)
def leak_processes_zombies(bench: Bench) -> None:
    """After a stop, none of its processes is alive or a zombie.

    Why: A process that outlives its instance still writes to the disk, which the next instance may already use
    (kata#2198).
    """
    bench.start()
    started = bench.processes()
    bench.stop()
    left = [str(process.pid) for process in started if alive(process)]
    left += [str(process.pid) for process in bench.scope.processes()]
    require(not left, f"after a stop there is process {', '.join(dict.fromkeys(left))}")
    reap()
    children = held_by_us()  # only a child of ours can be left as a zombie by us
    zombies = [str(one.pid) for one in started if identify(one.pid) == one and f"child {one.pid}" in children]
    require(not zombies, f"after a stop process {', '.join(zombies)} is a zombie")


@check(Level.MUST, Tier.LIVE)
def leak_mounts_netns_links_cgroups(bench: Bench) -> None:
    """After a stop, none of its mounts, loop devices, network links or cgroups is left.

    Why: Mounts keep disks busy and links fill bridges (hypeman#222: 1024 taps). Leftover cgroups are noticed when there
    are ten thousand of them.
    """
    _cycle(bench)
    left = bench.scope.kernel_objects()
    require(not left, f"after a stop there is {', '.join(left[:3])}")


@check(Level.MUST, Tier.LIVE)
def leak_files_sockets_shm_tmp(bench: Bench) -> None:
    """After a stop, none of its files, sockets or reservations is left in the run directory or in temporary directories.

    Why: Files in /tmp and /dev/shm and reservations that are not released make the next start fail, or stay for good.
    """
    _cycle(bench)
    left = bench.scope.files()
    require(not left, f"after a stop there is {', '.join(left[:3])}")
