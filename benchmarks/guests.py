"""Guests to measure: a new node in a new directory, and the bare QEMU command of the same plan."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import hvcore
import hvcore.plugin as hv
from hv_kvm.confinement import GUEST_DIR
from hv_kvm.paths import GuestPaths
from hv_kvm.qemu.boot_sector import boot_sector, write_disk
from hv_kvm.qmp import commands, connect
from hv_kvm.resources.guest_directory import make_guest_dir
from hvcore.host.confinement.bubblewrap import sandboxed
from hvcore.host.environment import default_uid_pool
from hvcore.resources.node_files import listening_socket

__all__ = ["Bare", "Bench", "bench", "file_system_of", "on_disk", "on_tmpfs"]

_ANSWER_S: Final = 30.0
_DISK: Final = "web1.img"


def file_system_of(path: Path) -> str:
    """The type of the file system that ``path`` is on, such as ``tmpfs``."""
    found, longest = "unknown", -1
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split(" ")
        point = Path(fields[4])
        if path.resolve().is_relative_to(point) and len(fields[4]) >= longest:
            found, longest = fields[fields.index("-") + 1], len(fields[4])
    return found


def on_tmpfs() -> Path | None:
    """A directory on a tmpfs that the caller may write to: /run as on a real node, else /dev/shm, else None."""
    for name in ("/run", os.environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm"):  # noqa: S108 - below it, a private one
        if name and os.access(name, os.W_OK) and file_system_of(Path(name)) == "tmpfs":
            return Path(name)
    return None


def on_disk() -> Path | None:
    """A directory that is not on a tmpfs, else None."""
    for name in (tempfile.gettempdir(), "/var/tmp", str(Path.cwd())):  # noqa: S108 - below it, a private one
        if os.access(name, os.W_OK) and file_system_of(Path(name)) != "tmpfs":
            return Path(name)
    return None


class Bench:
    """A node in a new directory, with one disk that boots the test guest."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.node = hvcore.Node(directory / "run")
        self.kvm = self.node.driver("kvm")

    def instance(self, name: str = "web1") -> hvcore.Instance:
        """A small guest with its own disk, under software emulation."""
        path = self.directory / f"{name}.img"
        if not path.exists():
            write_disk(str(path), boot_sector())
        return hvcore.Instance(
            name=name,
            driver="kvm",
            memory_mib=32,
            disks=(hvcore.Disk(path=str(path)),),
            params={"kvm_flag": "disabled"},
        )

    def wait_booted(self, name: str) -> None:
        """Until the guest has reported on its serial console that it is up; from then on it sleeps."""
        path = self.node.console(name).socket
        with socket.socket(socket.AF_UNIX) as serial:
            serial.settimeout(_ANSWER_S)
            serial.connect(str(path))
            output = b""
            while b"\n" not in output:
                output += serial.recv(4096)


@contextmanager
def bench(below: Path) -> Iterator[Bench]:
    """A bench in a new directory, stopped and removed at the end."""
    with tempfile.TemporaryDirectory(prefix="hvcore-bench-", dir=below, ignore_cleanup_errors=True) as name:
        made = Bench(Path(name))
        try:
            yield made
        finally:
            for info in made.node.instances():
                made.node.stop(info.name, force=True)


class Bare:
    """The command line of an instance's plan, run without hvcore; with ``sandbox`` below bubblewrap and setpriv.

    Its files (sockets, the journal's FIFO, the open disk) exist before the clock starts.
    """

    def __init__(self, made: Bench, number: int, *, sandbox: bool = False) -> None:
        self._stack = ExitStack()
        directory = made.directory / f"bare{number}"
        directory.mkdir(mode=0o700)
        self._paths = GuestPaths(directory)
        strict = sandbox and os.geteuid() == 0
        uid = default_uid_pool()[number] if strict else None
        self._stack.callback(os.close, make_guest_dir(self._paths, None if uid is None else hv.AsUser(uid)))
        self._fds: dict[str, int] = {}
        instance = made.instance()
        tokens = [
            re.sub(r"\{fd:([^}]*)\}", lambda found: self._fd(found[1], instance), token)
            for token in made.kvm.plan(instance).argv
        ]
        self._log = self._open(directory / "log")
        if sandbox:
            view = hv.View(writable=((str(self._paths.guest), GUEST_DIR),))
            who = hv.AsCaller() if uid is None else hv.AsUser(uid)
            limits = hv.Sandbox(who=who, view=view, seccomp=True)
            self._fds["status"] = self._open(directory / "status")
            self.argv = sandboxed(limits, tuple(tokens), self._fds["status"]).argv
        else:
            self.argv = tuple(token.replace(f"{GUEST_DIR}/", f"{self._paths.guest}/") for token in tokens)

    def _open(self, path: Path) -> int:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._stack.callback(os.close, fd)
        return fd

    def _fd(self, name: str, instance: hvcore.Instance) -> str:
        if name not in self._fds:
            if name.startswith("disk"):
                fd = os.open(instance.disks[0].path, os.O_RDWR | os.O_CLOEXEC)
            elif name.endswith(".history"):
                fd = os.open(os.devnull, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            else:
                fd = listening_socket(self._paths.commands.with_name(name))
            self._fds[name] = fd
            self._stack.callback(os.close, fd)
        return str(self._fds[name])

    def run(self) -> tuple[float, float]:
        """Milliseconds from before the spawn until QMP has answered ``query-status``, and from SIGKILL until it has ended."""
        with self._stack:
            begun = time.perf_counter()
            process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=tuple(self._fds.values()),
                start_new_session=True,
                cwd="/",
            )
            try:
                with connect(str(self._paths.commands), deadline_s=_ANSWER_S) as client:
                    commands.query_status(client)
                    ready_ms = (time.perf_counter() - begun) * 1000
                    if self._paths.journal.stat().st_uid:  # sandboxed: our child is bubblewrap
                        commands.quit(client, deadline_s=60.0)
                        process.wait()
            finally:
                killed = time.perf_counter()
                process.kill()
                process.wait()
            return ready_ms, (time.perf_counter() - killed) * 1000
