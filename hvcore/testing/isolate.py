"""Work in another process: in a forked child that may be killed, or in a new interpreter. And what such work does."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from hvcore.frozen import dataclass

__all__ = ["IMPURE", "Ending", "Failed", "act_at", "effects", "forked", "interpreted"]

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
"""Audit events, by how they begin, that pure code does not raise."""

_CHANGES: Final = frozenset(
    {
        *("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate", "os.chmod"),
        *("os.chown", "os.listdir", "subprocess.Popen", "os.kill"),
    }
)  # events at which a crash is worth trying: a change of the node, or the next event after one
_WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CODE: Final = (".py", ".pyc", ".so", ".pth", "__pycache__", ".dist-info", ".egg-info")
_DEADLINE_S: Final = 60


class Failed(AssertionError):  # noqa: N818 - the outcome of the check
    """The driver does not do what the check requires."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a forked child ended: the signal that killed it (0: none), what its work returned, or what it raised."""

    signal: int = 0
    value: Any = None
    error: str | None = None

    def result(self) -> Any:
        """What the work returned. Raises `Failed` if it raised or was killed."""
        if self.signal:
            raise Failed(f"a child was killed by {signal.Signals(self.signal).name}")
        if self.error is not None:
            raise Failed(self.error)
        return self.value


def forked(work: Callable[[], Any]) -> Ending:
    """Do the work in a forked child and return how that ended. The work has to return plain data."""
    read, write = os.pipe()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):
            stream.flush()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        _in_child(work, write)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        data = pipe.read()
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        return Ending(signal=os.WTERMSIG(status))
    value, error = pickle.loads(data) if data else (None, "a child ended without a result")  # noqa: S301 - our child's
    return Ending(value=value, error=error)


def _in_child(work: Callable[[], Any], write: int) -> None:
    code = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_DEADLINE_S)
        try:
            answer: tuple[Any, str | None] = (work(), None)
        except BaseException as error:  # noqa: BLE001 - the parent gets it; the child must not go on as the parent
            frames = traceback.extract_tb(error.__traceback__)
            place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "no place"
            answer = (None, f"{type(error).__name__}: {error} ({place})")
        with os.fdopen(write, "wb") as pipe:
            pipe.write(pickle.dumps(answer))
        code = 0
    finally:
        os._exit(code)


def interpreted(verb: str, *words: str, env: Mapping[str, str] | None = None) -> Any:
    """The JSON that ``hvcore/testing/probe.py VERB WORDS`` prints, in a new interpreter with our search path.

    Raises `Failed` with the last line of its stderr if the script fails.
    """
    probe = Path(__file__).with_name("probe.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **(env or {})}
    command = [sys.executable, "-P", str(probe), verb, *words]
    try:
        ended = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=_DEADLINE_S
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"not done in a new interpreter within {_DEADLINE_S} s: {verb}") from None
    if ended.returncode != 0:
        said = ended.stderr.strip().splitlines()[-1:] or ["nothing"]
        raise Failed(f"failed in a new interpreter: {verb}: {said[0]}")
    try:
        return json.loads(ended.stdout)
    except ValueError:
        raise Failed(f"ended in a new interpreter before it gave an answer: {verb}") from None


def effects(work: Callable[[], object], *, events: tuple[str, ...] = IMPURE) -> list[str]:
    """Audit events that the work raises, as ``event: argument``. For forked children: an audit hook cannot be removed.

    The work is done twice and only the second time counts, so that imports do not.
    """
    work()
    found: list[str] = []
    watching = True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        code = bool(arguments) and isinstance(arguments[0], str) and arguments[0].endswith(_CODE)
        if watching and event.startswith(events) and not code:
            found.append(f"{event}: {', '.join(f'{word!r:.120}' for word in arguments[:2])}")

    sys.addaudithook(hook)
    work()
    watching = False
    return found


def act_at(number: int, act: Callable[[], None], directory: Path) -> Callable[[], int]:
    """From now on, in this forked child, do ``act`` before the n-th change below the directory; how many there were.

    Starting a program and sending a signal count as changes everywhere. Of reads in a row only the first counts: how
    often a driver reads a file until its program is ready depends on how busy the node is.
    """
    seen, after_read = 0, False
    place = str(directory)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen, after_read
        if event not in _CHANGES:
            return
        paths = (os.fsdecode(word) for word in arguments if isinstance(word, str | bytes | os.PathLike))
        if event not in {"subprocess.Popen", "os.kill"} and not any(place in path for path in paths):
            return
        before, after_read = after_read, _is_read(event, arguments)
        if not (before and after_read):
            seen += 1
            if seen == number:
                act()

    sys.addaudithook(hook)
    return lambda: seen


def _is_read(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether the audit event changes nothing: a listing, or a file that is opened for reading."""
    return event == "os.listdir" or (event == "open" and not (arguments[2] or 0) & _WRITES)
