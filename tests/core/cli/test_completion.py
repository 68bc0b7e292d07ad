"""The completion scripts, in the shells that they are for."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pytest

HERE: Final = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "PYTHONDONTWRITEBYTECODE": "1",
    "TERM": "dumb",
}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A home, and a node with nothing on it."""
    return {**HERE, "HOME": str(tmp_path), "ZDOTDIR": str(tmp_path), "HVCORE_RUN_DIR": str(tmp_path / "run")}


def needs(shell: str) -> str:
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed")
    return path


def output_lines(command: list[str], environment: dict[str, str]) -> list[str]:
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
    assert run.stderr == ""
    return run.stdout.splitlines()


@pytest.mark.parametrize(("line", "words"), [("hv sta", ["start"]), ("hv stop --f", ["--force"])])
def test_bash_completes(line: str, words: list[str], environment: dict[str, str]) -> None:
    place = len(line.split()) - 1
    script = f"""
        eval "$(hv completion bash)" && complete -p hv >/dev/null || exit 1
        COMP_WORDS=({line}) COMP_CWORD={place}
        _hv_completion hv && printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    assert output_lines([needs("bash"), "--norc", "-c", script], environment) == words


@pytest.mark.parametrize(("line", "words"), [("hv sta", ["start"]), ("hv stop --f", ["--force"])])
def test_fish_completes(line: str, words: list[str], environment: dict[str, str]) -> None:
    script = f"hv completion fish | source; complete -C '{line}'"
    lines = output_lines([needs("fish"), "--no-config", "-c", script], environment)
    assert [text.partition("\t")[0] for text in lines] == words


@pytest.mark.parametrize(("line", "whole"), [("hv sta", "hv start "), ("hv stop --f", "hv stop --force ")])
def test_zsh_completes(line: str, whole: str, environment: dict[str, str]) -> None:
    """zsh completes only when it is interactive."""
    zsh = needs("zsh")
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(zsh, ["zsh", "-f", "-i"], environment)
    try:
        os.write(
            terminal, b"autoload -U compinit && compinit -u -D && eval \"$(hv completion zsh)\" && print re''ady\n"
        )
        until(b"ready\r\n", terminal)
        os.write(terminal, f"{line}\t".encode())
        until(whole.encode(), terminal)
    finally:
        os.close(terminal)  # a hang-up, which ends it
        os.waitpid(pid, 0)


def until(mark: bytes, terminal: int, deadline_s: float = 20.0) -> None:
    """Wait for something on a terminal."""
    give_up, seen = time.monotonic() + deadline_s, b""
    while mark not in seen:
        assert select.select([terminal], [], [], max(0.0, give_up - time.monotonic()))[0], f"no {mark!r} in {seen!r}"
        seen += os.read(terminal, 4096)
