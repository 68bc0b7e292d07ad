"""A process that dies, or is refused, at the n-th change of a directory, by Python's own audit events."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fixture_types import InChild

EVENTS = frozenset(
    {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.truncate", "os.listdir"}
)


def at_event(number: int, act: Callable[[], None], run_dir: Path) -> Callable[[], int]:
    """From now on, in this process, do ``act`` before the n-th change below the run directory; how many there were."""
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event not in EVENTS or not any(str(run_dir) in os.fsdecode(word) for word in arguments if is_path(word)):
            return
        seen += 1
        if seen == number:
            act()

    sys.addaudithook(hook)
    return lambda: seen


def is_path(word: object) -> bool:
    return isinstance(word, str | bytes | os.PathLike)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def count(in_child: InChild, work: Callable[[], object], run_dir: Path) -> int:
    """How many changes an operation makes."""
    read, write = os.pipe()

    def counted() -> None:
        seen = at_event(-1, die, run_dir)
        work()
        os.write(write, str(seen()).encode())

    assert in_child(counted) == 0
    os.close(write)
    number = int(os.read(read, 20))
    os.close(read)
    return number
