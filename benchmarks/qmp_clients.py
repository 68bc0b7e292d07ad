"""One QMP command on an open connection, by hvcore's client and by qemu.qmp, the client of the QEMU project."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import Goal, Report, Row, alternate, elapsed_ms
from hv_kvm.qmp import QmpClient, connect

__all__ = ["commands_of_clients"]

_QEMU: Final = "/usr/bin/qemu-system-x86_64"
_PACKAGE: Final = "qemu.qmp"
_COMMANDS: Final = 20  # in one sample
_ANSWER_S: Final = 30.0


def commands_of_clients(repeat: int) -> Iterator[Report]:
    """One report. Without qemu.qmp, it is installed into a temporary directory; a note says if that fails."""
    with tempfile.TemporaryDirectory() as name, _monitors(Path(name)) as (ours, theirs):
        module, note = _installed(Path(name, "site"))
        with connect(str(ours), deadline_s=_ANSWER_S) as client:
            candidates = {"ours": lambda: elapsed_ms(lambda: _many(client)) / _COMMANDS}
            if module is not None:
                candidates["theirs"] = _Theirs(module, str(theirs)).sample
            found = alternate(candidates, repeat=repeat)
            for candidate in candidates.values():
                if isinstance(owner := getattr(candidate, "__self__", None), _Theirs):
                    owner.close()
            with _by_hand(str(theirs)) as stream:
                bare = alternate({"bare": lambda: elapsed_ms(lambda: _bare(stream)) / _COMMANDS}, repeat=repeat)["bare"]
    base = Row(name="query-status, written and read by hand", samples=bare)
    rows = [base, Row(name="query-status, hvcore", samples=found["ours"], against=base)]
    if "theirs" in found:
        theirs_row = Row(name="query-status, qemu.qmp", samples=found["theirs"], against=base)
        first = Row(name="query-status, hvcore", samples=found["ours"], against=theirs_row, goal=Goal(1, ratio=True))
        rows = [base, theirs_row, first]
    notes = (f"each sample is the mean of {_COMMANDS} commands on one connection", *([note] if note else []))
    yield Report(title="one QMP command", rows=rows, notes=notes)


@contextmanager
def _monitors(directory: Path) -> Iterator[tuple[Path, Path]]:
    """A QEMU without a machine, with two monitors."""
    paths = directory / "a", directory / "b"
    words = [word for path in paths for word in ("-qmp", f"unix:{path},server=on,wait=off")]
    bare = [_QEMU, "-machine", "none", "-nodefaults", "-no-user-config", "-display", "none", "-S"]
    with subprocess.Popen([*bare, *words, "-pidfile", str(directory / "pid")]) as process:
        try:
            _listening(paths)
            yield paths
        finally:
            process.kill()


def _listening(paths: tuple[Path, Path]) -> None:
    """QEMU makes the sockets in their order; each listens as soon as its path can be connected to."""
    for path in paths:
        while True:
            with socket.socket(socket.AF_UNIX) as tried:
                try:
                    tried.connect(str(path))
                    break
                except (FileNotFoundError, ConnectionRefusedError):
                    os.sched_yield()


def _installed(directory: Path) -> tuple[Any, str]:
    """The module qemu.qmp, or None with the reason."""
    try:
        return importlib.import_module(_PACKAGE), ""
    except ImportError:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(directory), _PACKAGE]
        done = subprocess.run(pip, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            return None, f"{_PACKAGE} could not be installed, so it is not compared"
        sys.path.insert(0, str(directory))
        return importlib.import_module(_PACKAGE), ""


def _many(client: QmpClient) -> None:
    for _ in range(_COMMANDS):
        client.execute("query-status", deadline_s=_ANSWER_S)


@contextmanager
def _by_hand(path: str) -> Iterator[Any]:
    with socket.socket(socket.AF_UNIX) as plain:
        plain.connect(path)
        with plain.makefile("rwb", buffering=0) as stream:
            stream.read(4096)  # the greeting
            stream.write(b'{"execute":"qmp_capabilities"}\n')
            stream.read(4096)
            yield stream


def _bare(stream: Any) -> None:
    for _ in range(_COMMANDS):
        stream.write(b'{"execute":"query-status"}\n')
        line = b""
        while not line.endswith(b"\n"):
            line += stream.read(4096)
        json.loads(line)


class _Theirs:
    """A session of qemu.qmp in its own event loop."""

    def __init__(self, module: Any, path: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = module.QMPClient("benchmark")
        self._loop.run_until_complete(self._client.connect(path))

    def sample(self) -> float:
        """Milliseconds of one command."""
        return elapsed_ms(lambda: self._loop.run_until_complete(self._many())) / _COMMANDS

    async def _many(self) -> None:
        for _ in range(_COMMANDS):
            await self._client.execute("query-status")

    def close(self) -> None:
        """End the session."""
        self._loop.run_until_complete(self._client.disconnect())
        self._loop.close()
