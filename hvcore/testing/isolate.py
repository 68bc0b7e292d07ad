"""Work in another process: a forked child that may be killed, and an interpreter of its own."""

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hvcore.testing.verdict import Failed

__all__ = ["Fate", "forked", "interpreted"]

_DEADLINE_S: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What became of a forked child: the signal that ended it (0: none), what its work returned, or what it raised."""

    signal: int = 0
    value: Any = None
    error: str | None = None

    def result(self) -> Any:
        """What the work returned. Raises `Failed` when it raised or was killed."""
        if self.signal:
            raise Failed(f"a child was killed by {signal.Signals(self.signal).name}")
        if self.error is not None:
            raise Failed(self.error)
        return self.value


def forked(work: Callable[[], Any], *, deadline_s: int = _DEADLINE_S) -> Fate:
    """Do the work in a forked child and tell what became of it. What it returns has to be plain data."""
    read, write = os.pipe()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):
            stream.flush()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        _in_child(work, write, deadline_s)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        data = pipe.read()
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        return Fate(signal=os.WTERMSIG(status))
    value, error = pickle.loads(data) if data else (None, "a child ended without a result")  # noqa: S301 - our child's
    return Fate(value=value, error=error)


def _place(error: BaseException) -> str:
    """The file and line where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "no place"


def _in_child(work: Callable[[], Any], write: int, deadline_s: int) -> None:
    code = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(deadline_s)
        try:
            answer: tuple[Any, str | None] = (work(), None)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the parent is told and must not go on twice
            answer = (None, f"{type(error).__name__}: {error} ({_place(error)})")
        with os.fdopen(write, "wb") as pipe:
            pipe.write(pickle.dumps(answer))
        code = 0
    finally:
        os._exit(code)


def interpreted(verb: str, *words: str, env: Mapping[str, str] | None = None, deadline_s: float = _DEADLINE_S) -> Any:
    """What ``hvcore/testing/probe.py VERB WORDS`` prints as JSON, in a new interpreter with our search path.

    Raises `Failed` with the end of what it wrote to stderr when it fails.
    """
    probe = Path(__file__).with_name("probe.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **(env or {})}
    command = [sys.executable, "-P", str(probe), verb, *words]
    try:
        ended = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=deadline_s
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"not done in a new interpreter within {deadline_s:g} s: {verb}") from None
    if ended.returncode != 0:
        said = ended.stderr.strip().splitlines()[-1:] or ["nothing"]
        raise Failed(f"failed in a new interpreter: {verb}: {said[0]}")
    try:
        return json.loads(ended.stdout)
    except ValueError:
        raise Failed(f"ended in a new interpreter before it gave an answer: {verb}") from None
