"""A start until QMP answers, and a forced stop until the process has ended, each beside the bare QEMU."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Final, Self

from benchmarks.clocks import parts_of
from benchmarks.guests import Bare, Bench, bench, file_system_of, on_disk, on_tmpfs
from benchmarks.measure import Goal, Report, Row, alternate, elapsed_ms

__all__ = ["starts", "stops"]

_NAME: Final = "web1"

# The parts of a start. The time that one spends in another counts for the other.
_PARTS: Final = {
    "check": "hvcore.plugins.loaded_driver:LoadedDriver.check",
    "verify against the node": "hvcore.plugins.loaded_driver:LoadedDriver.verify",
    "record, four durable writes": "hvcore.state.store:Store.save",
    "facts of the QEMU binary": "hv_kvm.run.startup.start:probe.facts_of",
    "claim and open the disk": "hv_kvm.resources.image:ImageKind.acquire",
    "look for a twin in /proc": "hv_kvm.run.startup.start:hv.launched_for",
    "render": "hv_kvm.run.startup.start:rendered",
    "spawn": "hvcore.state.job:Job.launch",
    "bubblewrap, setpriv and QEMU until the greeting": "hv_kvm.run.startup.start:connect",
    "query-status": "hv_kvm.run.startup.start:commands.query_status",
    "identify the process": "hv_kvm.run.startup.start:_record_process",
    "confinement read back": "hv_kvm.run.startup.ready:weaknesses",
}


def starts(repeat: int) -> Iterator[Report]:
    """One report for a run directory on tmpfs, as on every Linux node, and one for a disk."""
    for where in (on_tmpfs(), on_disk()):
        if where is not None:
            with bench(where) as made:
                yield _start(made, repeat)


def _start(made: Bench, repeat: int) -> Report:
    numbers = itertools.count()
    instance = made.instance()

    def ours() -> float:
        took = elapsed_ms(lambda: made.kvm.start(instance, paused=True))
        made.node.stop(_NAME, force=True)
        return took

    found = alternate(
        {
            "bare": lambda: Bare(made, next(numbers)).run()[0],
            "sandboxed": lambda: Bare(made, next(numbers), sandbox=True).run()[0],
            "ours": ours,
        },
        repeat=repeat,
    )
    bare = Row(name="bare QEMU, same argv, as the caller", samples=found["bare"])
    rows = [
        bare,
        Row(name="the same below bubblewrap and setpriv", samples=found["sandboxed"], against=bare),
        Row(name="Node.start(paused=True)", samples=found["ours"], against=bare, goal=Goal(1.25, ratio=True)),
    ]
    kind = file_system_of(made.directory)
    return Report(
        title=f"start until QMP answers query-status; run directory on {kind}",
        rows=rows,
        parts=parts_of(_PARTS, ours, repeat=repeat, rest="everything else"),
        parts_of="Node.start, median ms",
        notes=("both run the test guest under software emulation, stopped before its first instruction",),
    )


def stops(repeat: int) -> Iterator[Report]:
    """One report, with the run directory on tmpfs where there is one."""
    where = on_tmpfs() or on_disk()
    if where is not None:
        with bench(where) as made:
            yield _stop(made, repeat)


def _stop(made: Bench, repeat: int) -> Report:
    numbers = itertools.count()
    instance = made.instance()
    returned: list[float] = []

    def ours() -> float:
        made.kvm.start(instance)
        made.wait_booted(_NAME)
        pid = made.node.info(_NAME).pid
        if pid is None:
            raise RuntimeError(f"{_NAME}: not running")
        watcher.watch(pid)
        begun = time.perf_counter()
        made.node.stop(_NAME, force=True)
        returned.append((time.perf_counter() - begun) * 1000)
        return (watcher.gone() - begun) * 1000

    with Watcher() as watcher:
        found = alternate({"bare": lambda: Bare(made, next(numbers)).run()[1], "ours": ours}, repeat=repeat)
    bare = Row(name="bare: SIGKILL until it has ended", samples=found["bare"])
    return Report(
        title=f"forced stop of a running guest; run directory on {file_system_of(made.directory)}",
        rows=[
            bare,
            Row(name="Node.stop(force=True) until it has ended", samples=found["ours"], against=bare, goal=Goal(10)),
            Row(name="Node.stop(force=True) until it returns", samples=returned[-repeat:], against=bare),
        ],
        notes=("ours first asks QEMU to quit, kills it only if it does not, and then releases all resources",),
    )


# In another process: a thread would wait for the interpreter's lock, and a fork would make the caller's pages
# copy-on-write during the measurement.
_WATCH: Final = """
import os, select, sys, time
for line in sys.stdin:
    poll = select.poll()
    poll.register(os.pidfd_open(int(line)), select.POLLIN)
    print("ready", flush=True)
    poll.poll(60_000)
    print(time.perf_counter(), flush=True)
"""


class Watcher:
    """Another process that reports when a process ended, by `time.perf_counter`, whose clock they share."""

    def __init__(self) -> None:
        argv = [sys.executable, "-I", "-c", _WATCH]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._process.communicate()

    def watch(self, pid: int) -> None:
        """Wait for the end of ``pid`` from now on."""
        self._say(f"{pid}\n")
        if self._answer() != "ready":
            raise RuntimeError(f"pid {pid}: cannot be watched")

    def _say(self, text: str) -> None:
        if self._process.stdin is not None:
            self._process.stdin.write(text)

    def _answer(self) -> str:
        return self._process.stdout.readline().strip() if self._process.stdout is not None else ""

    def gone(self) -> float:
        """Wait for its end: the time, in seconds."""
        return float(self._answer())
