"""Open vSwitch by its program ovs-vsctl(8): one process and one transaction for each request, each with a deadline."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from hvcore.errors import NodeError

__all__ = ["OVS_PACKAGE", "OVS_START", "OVS_VSCTL", "OvsError", "Run", "ask", "dead_switch", "run_here"]

OVS_VSCTL: Final = "ovs-vsctl"
OVS_PACKAGE: Final = "openvswitch-switch"
OVS_START: Final = "start it: systemctl start openvswitch-switch"
_SWITCH: Final = "ovs-vswitchd"
_GRACE_S: Final = 2.0  # after the program's own deadline

Run = Callable[[tuple[str, ...], float], tuple[int | None, str]]
"""Runs a command for that many seconds: its exit code, None if it did not end, and what it wrote."""


class OvsError(NodeError):
    """Open vSwitch did not do it. ``what`` and ``todo`` are the two halves of the text."""

    def __init__(self, what: str, todo: str) -> None:
        super().__init__(f"Open vSwitch {what}; {todo}")
        self.what, self.todo = what, todo


def ask(run: Run, socket: str, *words: str, deadline_s: float, wait: bool = False) -> str:
    """What ovs-vsctl writes for these words. With ``wait``, the switch has made the changes. Raises `OvsError`."""
    if shutil.which(OVS_VSCTL) is None:
        raise OvsError("is not installed on this node (no ovs-vsctl)", f"install it (Debian: {OVS_PACKAGE})")
    seconds = max(1, math.ceil(deadline_s))
    options = (f"--timeout={seconds}", f"--db=unix:{socket}", "--format=json", *(() if wait else ("--no-wait",)))
    code, output = run((OVS_VSCTL, *options, "--", *words), seconds + _GRACE_S)
    if code == 0:
        # With an exit code of 0 it also reports what the switch could not do.
        return output
    if code in (None, -signal.SIGALRM, 128 + signal.SIGALRM):
        what = f"did not answer within {seconds} s" + (f": {_SWITCH} does not run" if wait else "")
        raise OvsError(what, "see 'systemctl status openvswitch-switch'")
    said = (
        [line for line in output.splitlines() if line.startswith(OVS_VSCTL)] or output.splitlines() or [f"exit {code}"]
    )
    text = said[0].removeprefix(f"{OVS_VSCTL}: ")[:300]
    if "database connection failed" in text:
        raise OvsError(f"does not run, got {text!r}", OVS_START)
    raise OvsError(f"refused, got {text!r}", "see 'ovs-vsctl show'")


def run_here(argv: tuple[str, ...], deadline_s: float) -> tuple[int | None, str]:
    """Run a command that changes nothing."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=deadline_s,
            check=False,
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
        )
    except subprocess.TimeoutExpired:
        return None, ""
    return done.returncode, done.stdout.decode("utf-8", "backslashreplace")


def dead_switch(socket: str) -> str | None:
    """Why the switch beside that database does not run; None if it does, or if that cannot be known from here."""
    folder = Path(socket).parent
    if not _runs(folder / "ovsdb-server.pid", "ovsdb-server") or _runs(folder / f"{_SWITCH}.pid", _SWITCH):
        return None  # another installation may have these files in another place
    return f"{_SWITCH} does not run"


def _runs(pid_file: Path, program: str) -> bool:
    with suppress(OSError, ValueError):
        pid = int(pid_file.read_text(encoding="ascii"))
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip() == program
    return False
