"""What code does to the node, by Python's own audit events. For forked children only: a hook cannot be taken out again."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

__all__ = ["CHANGES", "IMPURE", "act_at", "deeds"]

IMPURE: Final = (
    "open",
    "os.",
    "shutil.",
    "socket.",
    "subprocess.",
    "tempfile.",
    "glob.",
    "time.sleep",
    "ctypes.dlopen",
)
"""Events, by how they begin, that pure code does not raise."""

CHANGES: Final = frozenset(
    {
        *("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate", "os.chmod"),
        *("os.chown", "os.listdir", "subprocess.Popen", "os.kill"),
    }
)
"""Events at which a crash is worth trying: what changes the node, or comes right after it was changed."""

_CODE: Final = (".py", ".pyc", ".so", ".pth", "__pycache__", ".dist-info", ".egg-info")


def deeds(work: Callable[[], object], *, events: tuple[str, ...] = IMPURE) -> list[str]:
    """What the work did, as ``event: argument``. It is done twice: what is imported the first time is not its deed."""
    work()
    found: list[str] = []
    watching = True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event.startswith(events) and not _is_code(arguments):
            found.append(f"{event}: {', '.join(_shown(word) for word in arguments[:2])}")

    sys.addaudithook(hook)
    work()
    watching = False
    return found


def _is_code(arguments: tuple[Any, ...]) -> bool:
    return bool(arguments) and isinstance(arguments[0], str) and arguments[0].endswith(_CODE)


def _shown(word: object) -> str:
    return repr(word)[:120]


def act_at(number: int, act: Callable[[], None], directory: Path) -> Callable[[], int]:
    """From now on, in this process, do ``act`` before the n-th change below the directory; how many there were.

    Starting a program counts as a change wherever it is.
    """
    seen = 0
    place = str(directory)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event not in CHANGES:
            return
        paths = (os.fsdecode(word) for word in arguments if isinstance(word, str | bytes | os.PathLike))
        if event in {"subprocess.Popen", "os.kill"} or any(place in path for path in paths):
            seen += 1
            if seen == number:
                act()

    sys.addaudithook(hook)
    return lambda: seen
