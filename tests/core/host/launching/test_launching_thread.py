"""A launched program gets its personality, timer slack, session keyring and PATH from hvcore, whatever the caller has."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from hvcore.host.launching.launch import launch, life_lock
from hvcore.host.launching.launching_thread import from_planned_thread
from hvcore.host.libc import libc_call, system_call
from hvcore.plugin import AsUser, Command, Ended, Sandbox, View

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="the sandbox of another user needs root")
X86 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of the system calls are those of x86_64")
_ADD_KEY, _KEYCTL, _SESSION_KEYRING, _SEARCH, _JOIN = 248, 250, -3, 10, 1
_NO_RANDOMIZE, _TIMERSLACK, _GET_TIMERSLACK = 0x0040000, 29, 30
# The program prints its personality, its timer slack, whether it finds the caller's key, and its PATH.
PROGRAM: Final = f"""
import ctypes, os
libc = ctypes.CDLL(None)
print(libc.personality(0xffffffff))
print(libc.prctl({_GET_TIMERSLACK}, 0, 0, 0, 0))
print(libc.syscall({_KEYCTL}, {_SEARCH}, {_SESSION_KEYRING}, b"user", b"hvcore-test", 0) > 0)
print(os.environ.get("PATH"))
"""
SANDBOXES = [
    pytest.param(None, id="off"),
    pytest.param(Sandbox(who=AsUser(1_880_000_000), view=View(proc=True)), id="strict", marks=ROOT),
]


def strange() -> None:
    """A caller below ``setarch -R``, with a login session and with late timers."""
    libc_call("personality", _NO_RANDOMIZE)
    libc_call("prctl", _TIMERSLACK, 5_000_000, 0, 0, 0)
    with suppress(OSError):  # a container may refuse it, and then there is no key to inherit
        system_call(_KEYCTL, _JOIN, None)
        system_call(_ADD_KEY, b"user", b"hvcore-test", b"secret", 6, _SESSION_KEYRING)
    os.environ["PATH"] = f"/home/somebody/bin:{os.environ['PATH']}"


def seen(folder: Path, sandbox: Sandbox | None) -> None:
    python = os.path.realpath("/usr/bin/python3")
    with life_lock(folder / "alive") as life_fd:
        command = Command(argv=(python, "-I", "-S", "-c", PROGRAM), sandbox=sandbox)
        child = launch(command, life_fd=life_fd, status=folder / "status", log=folder / "log")
    assert child.wait(20) == Ended(code=0)
    child.close()


@X86
@pytest.mark.parametrize("sandbox", SANDBOXES)
def test_a_program_inherits_nothing_of_its_callers_session(
    tmp_path: Path, in_child: Callable[..., int], sandbox: Sandbox | None
) -> None:
    if not os.access("/usr/bin/python3", os.X_OK):
        pytest.skip("needs /usr/bin/python3, which a sandbox shows")

    def launched() -> None:
        strange()
        seen(tmp_path, sandbox)

    assert in_child(launched) == 0
    personality, slack, has_key, path = (tmp_path / "log").read_text().split("\n")[:4]
    assert (personality, slack, has_key) == ("0", "50000", "False")
    assert "somebody" not in path


@X86
def test_the_caller_keeps_what_it_has(in_child: Callable[..., int]) -> None:
    def check() -> None:
        strange()
        assert from_planned_thread(lambda: libc_call("personality", 0xFFFFFFFF)) == 0
        assert libc_call("personality", 0xFFFFFFFF) == _NO_RANDOMIZE
        assert libc_call("prctl", _GET_TIMERSLACK, 0, 0, 0, 0) == 5_000_000

    assert in_child(check) == 0


def test_an_error_of_the_call_is_that_of_the_caller() -> None:
    def fails() -> None:
        raise FileNotFoundError(2, "no", sys.executable)

    with pytest.raises(FileNotFoundError):
        from_planned_thread(fails)


def test_a_program_is_found_in_the_path_of_the_caller_and_gets_its_own(
    tmp_path: Path, in_child: Callable[..., int]
) -> None:
    program = tmp_path / "bin" / "hvcore-test-program"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho $PATH\n")
    program.chmod(0o755)

    def launched() -> None:
        os.environ["PATH"] = f"{program.parent}:{os.environ['PATH']}"
        with life_lock(tmp_path / "alive") as life_fd:
            command = Command(argv=(program.name,), sandbox=None)
            child = launch(command, life_fd=life_fd, status=tmp_path / "status", log=tmp_path / "log")
        assert child.wait(20) == Ended(code=0)
        child.close()

    assert in_child(launched) == 0
    assert (tmp_path / "log").read_text() == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
