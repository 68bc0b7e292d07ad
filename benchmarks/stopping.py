"""The stop of many guests that each take a second to shut down: all at once, beside one after the other."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import hvcore
from benchmarks.chroots import image_with
from benchmarks.guests import on_disk, on_tmpfs
from benchmarks.measure import Goal, Report, Row, alternate, elapsed_ms

__all__ = ["stops_of_all"]

_MANY: Final = 30
_SAMPLES: Final = 3  # a sample of the stops in turn takes more than half a minute
_SCRIPT: Final = "#!/bin/sh\nif [ $1 = stop ]; then sleep 1; else sleep 1000 & fi\n"


def stops_of_all(repeat: int) -> Iterator[Report]:
    """One report, of chroot instances: their stop script takes a second; nothing without root."""
    where = on_tmpfs() or on_disk()
    if where is None or os.geteuid() != 0:
        return
    with tempfile.TemporaryDirectory(prefix="hvcore-bench-", dir=where) as name:
        place = Path(name)
        node = hvcore.Node(place / "run")
        image = image_with(place, _SCRIPT)
        instances = [_instance(place, image, number) for number in range(_MANY)]
        try:
            yield _report(node, instances, min(repeat, _SAMPLES))
        finally:
            node.stop_all(force=True)


def _instance(place: Path, image: Path, number: int) -> hvcore.Instance:
    own = place / f"{number}.img"
    shutil.copy2(image, own)
    return hvcore.Instance(name=f"web{number}", driver="chroot", disks=(hvcore.Disk(path=str(own)),))


def _report(node: hvcore.Node, instances: list[hvcore.Instance], repeat: int) -> Report:
    def started() -> None:
        for instance in instances:
            node.start(instance)

    def in_turn() -> float:
        started()
        return elapsed_ms(lambda: [node.stop(instance.name) for instance in instances])

    def at_once() -> float:
        started()
        return elapsed_ms(node.stop_all)

    found = alternate({"in turn": in_turn, "at once": at_once}, repeat=repeat, warm_up=0)
    one = Row(name="Node.stop, one after the other", samples=found["in turn"])
    return Report(
        title=f"stop of {_MANY} guests that each take a second to shut down",
        rows=[one, Row(name="Node.stop_all", samples=found["at once"], against=one, goal=Goal(0.25, ratio=True))],
    )
