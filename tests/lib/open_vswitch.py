"""Open vSwitch for a test: a database and a switch in the network namespace of the test, with files in its folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

__all__ = ["NEEDS_OVS", "OpenVSwitch", "open_vswitch"]

_SCHEMA: Final = "/usr/share/openvswitch/vswitch.ovsschema"
_SBIN: Final = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
_SERVER, _SWITCH = "ovsdb-server", "ovs-vswitchd"
_DEADLINE_S: Final = 60

NEEDS_OVS: Final = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which(_SWITCH, path=_SBIN) is None or not Path(_SCHEMA).exists(),
    reason="needs root and Open vSwitch (openvswitch-switch): sudo ./dev setup",
)


class OpenVSwitch:
    """The two daemons. They end with the test, also if the test is killed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.socket = folder, str(folder / "db.sock")
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        folder.mkdir()
        subprocess.run(["ovsdb-tool", "create", folder / "conf.db", _SCHEMA], check=True)
        self.start_database()
        self.start_switch()

    def start_database(self) -> None:
        """Start the database, and wait until it answers."""
        # It runs this when it listens, and ends with it: at the end of our pipe.
        ready = self._start(
            _SERVER, str(self.folder / "conf.db"), f"--remote=punix:{self.socket}", "--run=echo up; cat"
        )
        assert ready.stdout is not None
        assert ready.stdout.readline() == b"up\n"
        self.ask("--no-wait", "init")

    def start_switch(self) -> None:
        """Start the switch. `ask` waits for it."""
        self._start(_SWITCH, f"unix:{self.socket}")

    def _start(self, program: str, *words: str) -> subprocess.Popen[bytes]:
        environment = {"PATH": _SBIN, "OVS_RUNDIR": str(self.folder), "OVS_LOGDIR": str(self.folder)}
        argv = [
            "setpriv",
            "--pdeathsig",
            "KILL",
            program,
            *words,
            "--pidfile",
            f"--log-file={self.folder / program}.log",
        ]
        pipe, quiet = subprocess.PIPE, subprocess.DEVNULL
        started = subprocess.Popen(argv, env=environment, stdin=pipe, stdout=pipe, stderr=quiet)
        self._running[program] = started
        return started

    def ask(self, *words: str) -> str:
        """The output of ``ovs-vsctl``, which has to succeed."""
        argv = ["ovs-vsctl", f"--timeout={_DEADLINE_S}", f"--db=unix:{self.socket}", *words]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{argv}: {done.stderr}"
        return done.stdout

    def bridge(self, name: str = "ovs0") -> str:
        """A new bridge whose packets a process moves: the kernel of a test machine may lack the other kind."""
        self.ask("add-br", name, "--", "set", "Bridge", name, "datapath_type=netdev")
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
        return name

    def ports(self, bridge: str = "ovs0") -> set[str]:
        return set(self.ask("--no-wait", "list-ports", bridge).split())

    def column(self, table: str, name: str, column: str) -> str:
        return self.ask("--no-wait", "get", table, name, column).strip()

    def reset(self) -> None:
        """Delete all ports, and all bridges but ``ovs0``."""
        words = [word for port in self.ports() for word in ("--", "del-port", port)]
        others = set(self.ask("--no-wait", "list-br").split()) - {"ovs0"}
        words += [word for bridge in others for word in ("--", "--if-exists", "del-br", bridge)]
        if words:
            self.ask(*words[1:])
        subprocess.run(["ip", "link", "set", "ovs0", "mtu", "1500"], check=True)

    def kill_switch(self) -> None:
        self._end(_SWITCH)

    def kill_database(self) -> None:
        self._end(_SERVER)

    def _end(self, program: str) -> None:
        process = self._running.pop(program, None)
        if process is not None:
            with process:  # closes its pipes
                process.send_signal(signal.SIGKILL)

    def end(self) -> None:
        self.kill_switch()
        self.kill_database()


@contextmanager
def open_vswitch(folder: Path) -> Iterator[OpenVSwitch]:
    """Open vSwitch in the network namespace of this thread, with a bridge ``ovs0``."""
    switch = OpenVSwitch(folder)
    try:
        switch.bridge()
        yield switch
    finally:
        switch.end()
