"""How long a start holds each lock while 32 start at once, each a process, with a tap at a bridge and a forwarded port."""

from __future__ import annotations

import collections
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

import hvcore
from benchmarks.guests import Bench, bench, on_disk, on_tmpfs
from benchmarks.measure import Goal, Report, Row

__all__ = ["locks"]

_COUNT: Final = 32
_START_S: Final = 600.0
_LONGEST_MS: Final = 100
_PROCESSOR: Final = "processor time while it held"
_OF_ALL: Final = "of the whole node"
_OWN: Final = "of its instance"


def locks() -> Iterator[Report]:
    """One report. The calling thread is in a network with the bridge ``br0``.

    Raises `ValueError` if two guests share something of the node.
    """
    where = on_tmpfs() or on_disk()
    if where is None:
        return
    with bench(where) as made:
        made.kvm.start(made.instance("first"))  # probes the binary once
        made.node.stop("first", force=True)
        found = _started(made, [_instance(made, number) for number in range(_COUNT)])
        shared = _shared(made.node.instances())
    if shared:
        raise ValueError(f"guests share {', '.join(shared)}")
    rows = [
        Row(name=f"{what} a lock {kind}, the longest of {len(times)}", samples=[max(times)], goal=goal)
        for (what, kind), times in sorted(found.items())
        for goal in (None if kind == _OWN and what != "waited for" else Goal(_LONGEST_MS),)
    ]
    yield Report(
        title=f"locks while {_COUNT} guests start at once, each in a process",
        rows=rows,
        notes=("the lock of an instance is held for its own start, and no other instance needs it",),
    )


def _instance(made: Bench, number: int) -> hvcore.Instance:
    nics = (hvcore.Nic(mode="bridged", link="br0"), hvcore.Nic(mode="bridged", link="br0"))
    if shutil.which("passt") is not None:
        nics = (nics[0], hvcore.Nic(mode="user", forward=("127.0.0.1:0:22",)))
    return replace(made.instance(f"web{number}"), nics=nics)


Times = dict[tuple[str, str], list[float]]


def _started(made: Bench, instances: list[hvcore.Instance]) -> Times:
    """Milliseconds by what was measured and the kind of lock, from all starts. Every start has to succeed."""
    begin, go = os.pipe()
    children = []
    for instance in instances:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.close(go)
                os.read(begin, 1)  # ends for all when the parent closes its end
                times = _recorded(lambda: made.kvm.start(instance, deadline_s=_START_S))  # noqa: B023 - called here
                os.write(write, json.dumps(times).encode())
                status = 0
            finally:
                os._exit(status)
        os.close(write)
        children.append((pid, read))
    os.close(begin)
    os.close(go)
    found: Times = collections.defaultdict(list)
    for pid, read in children:
        with open(read, "rb") as pipe:
            data = pipe.read()
        if os.waitpid(pid, 0)[1] != 0:
            raise OSError("a start failed")
        for what, kind, took in json.loads(data):
            found[what, kind].append(took)
    return found


def _recorded(act: Callable[[], object]) -> list[tuple[str, str, float]]:
    """``(what was measured, kind, milliseconds)`` of each lock of the act. Locks that a guest keeps are not among them."""
    took: list[tuple[str, str, float]] = []
    since: dict[int, tuple[str, float, float]] = {}
    waits: dict[str, float] = {}
    real = fcntl.flock

    def flock(file: Any, operation: int) -> None:
        fd = file if isinstance(file, int) else file.fileno()
        if operation & fcntl.LOCK_UN:
            if fd in since:
                kind, begun, used = since.pop(fd)
                took.append(("held", kind, (time.perf_counter() - begun) * 1000))
                took.append((_PROCESSOR, kind, (time.thread_time() - used) * 1000))
            real(file, operation)
            return
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        kind = _OWN if path.parent.name in ("locks", "instances") else _OF_ALL
        begun = time.perf_counter()
        try:
            real(file, operation)
        except BlockingIOError:
            waits.setdefault(str(path), begun)
            raise
        now = time.perf_counter()
        took.append(("waited for", kind, (now - waits.pop(str(path), begun)) * 1000))
        since[fd] = kind, now, time.thread_time()

    fcntl.flock = cast("Any", flock)
    try:
        act()
    finally:
        fcntl.flock = cast("Any", real)
    return took


def _shared(infos: list[hvcore.InstanceInfo]) -> list[str]:
    """What two guests have both: the name of an interface, a MAC address, a uid, a port."""
    every = {
        "a name": [one.name for info in infos for one in info.interfaces if one.name],
        "a MAC address": [nic.mac for info in infos for nic in info.nics],
        "a uid": [info.details["uid"] for info in infos],
        "a port": [port for info in infos for port in info.details.get("forwards", ())],
    }
    return [what for what, values in every.items() if len(set(values)) != len(values)]
