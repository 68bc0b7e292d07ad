"""A node with guests in QEMU for tests, and the search for its leftovers: `World`."""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import hvcore
import hvcore.plugin as hv
from hv_kvm.qemu.boot_sector import boot_sector, write_disk
from hvcore.host.launching.launch import reap
from hvcore.host.processes.process import alive, identify
from hvcore.state.store import Store

T = TypeVar("T")
_OF_PROGRAM: Final = ("process", "monitor")
PATIENCE_S: Final = 300.0  # for what comes on a busy machine too
HELLO: Final = "hvcore test guest\r\n"
# Beside the default pool, so that tests and the instances of this machine never meet; one range for each test.
# A million for each process of pytest: two side by side have neighbouring numbers.
_UIDS: Final = itertools.count(1_890_000_000 + os.getpid() % 250 * 1_000_000, 20)


@dataclass
class World:
    """One node: its run directory, images to boot, and the places where a person would look for leftovers.

    ``places`` are more such places of one test.
    """

    root: Path
    run_dir: Path
    uids: range
    node: hvcore.Node
    undo: list[Callable[[], object]] = field(default_factory=list)
    places: list[Callable[[], list[str]]] = field(default_factory=list)

    @property
    def kvm(self) -> hvcore.DriverHandle:
        return self.node.driver("kvm")

    def disk(self, name: str = "disk.img", **kind: Any) -> str:
        path = str(self.root / name)
        write_disk(path, boot_sector(kind.pop("message", HELLO), **kind))
        return path

    def instance(self, name: str = "web1", *, disks: Sequence[str] | None = None, **more: Any) -> hvcore.Instance:
        """A guest of 32 MiB; keywords that are not fields of an instance are parameters."""
        fields = {key: more.pop(key) for key in ("vcpus", "nics", "uuid", "driver") if key in more}
        paths = [self.disk(f"{name}.img")] if disks is None else disks
        return hvcore.Instance(
            name=name,
            memory_mib=more.pop("memory_mib", 32),
            disks=tuple(hvcore.Disk(path=path) for path in paths),
            params={"kvm_flag": "disabled", **more},
            **{"driver": "kvm", **fields},
        )

    def start(
        self, name: str = "web1", *, paused: bool = False, deadline_s: float = PATIENCE_S, **more: Any
    ) -> hvcore.Outcome:
        return self.kvm.start(self.instance(name, **more), paused=paused, deadline_s=deadline_s)

    def info(self, name: str = "web1") -> hvcore.InstanceInfo:
        return self.node.info(name)

    def pid(self, name: str = "web1") -> int:
        pid = self.info(name).pid
        assert pid is not None
        return pid

    def dir(self, name: str = "web1") -> Path:
        return self.run_dir / "instances" / name

    def kill(self, name: str = "web1", number: int = signal.SIGKILL) -> None:
        """Signal QEMU, wait for its exit, and wait until its monitor process has recorded how it exited."""
        record = self.record(name)
        assert record.process is not None
        os.kill(record.process.pid, number)
        self.wait_ended(record)

    def wait_ended(self, record: hv.Record) -> None:
        """Wait for the processes in the record. A program beside the guest ends a moment after it."""
        beside = (about.get(name) for about in record.bindings.get("companions", {}).values() for name in _OF_PROGRAM)
        known = (hv.decode(hv.ProcessId, data, "record") for data in beside if data is not None)
        for process in (record.process, record.monitor, *known):
            assert process is None or hv.wait_gone(process, PATIENCE_S)

    def record(self, name: str = "web1") -> hv.Record:
        record = Store(self.run_dir).load(name)
        assert record is not None
        return record

    def save(self, record: hv.Record) -> None:
        Store(self.run_dir).save(record)

    @contextlib.contextmanager
    def console(self, name: str = "web1") -> Iterator[Console]:
        path = self.node.console(name).socket
        assert path is not None
        console = Console(path)
        try:
            yield console
        finally:
            console.sock.close()

    def booted(self, name: str = "web1") -> None:
        """Resume the guest, which must have been started paused, and wait for its first output."""
        with self.console(name) as console:
            self.node.resume(name)
            console.until(HELLO.encode())

    def pressable(self, name: str = "web1", **more: Any) -> None:
        """Start a guest and wait until it listens to its power button."""
        self.start(name, paused=True, **more)
        self.booted(name)

    def leftovers(self) -> list[str]:
        """Everything of this node that still exists, except caches and empty directories.

        A socket that was bound through a descriptor has no path in /proc/net/unix; it lives as long as a process
        has it open, and processes are found.
        """
        return [
            *_files(self.run_dir),
            *_processes(self.root, self.uids),
            *_lines("/proc/self/mountinfo", self.root),
            *_lines("/proc/net/unix", self.root),
            *_loops(self.root),
            *(left for place in self.places for left in place()),
        ]


class Console:
    """A guest's serial console, read with a deadline."""

    def __init__(self, path: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        directory = os.open(os.path.dirname(path), os.O_PATH | os.O_CLOEXEC)
        try:
            self.sock.connect(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
        finally:
            os.close(directory)
        self.seen = b""

    def until(self, wanted: bytes, deadline_s: float = PATIENCE_S) -> bytes:
        """Everything up to and with ``wanted``; what comes after it stays for the next call."""
        give_up = time.monotonic() + deadline_s
        while wanted not in self.seen:
            left_s = give_up - time.monotonic()
            assert left_s > 0, f"no {wanted!r} within {deadline_s} s, but {self.seen[-200:]!r}"
            if select.select([self.sock], [], [], left_s)[0]:
                data = self.sock.recv(65536)
                assert data, f"the console ended before {wanted!r}, after {self.seen[-200:]!r}"
                self.seen += data
        end = self.seen.index(wanted) + len(wanted)
        found, self.seen = self.seen[:end], self.seen[end:]
        return found


def _files(run_dir: Path) -> Iterator[str]:
    for folder, names, files in os.walk(run_dir):
        if Path(folder) == run_dir:
            names[:] = [name for name in names if name not in {"cache", "damaged"}]
        for name in (*files, *(name for name in names if Path(folder).name == "instances")):
            if name != ".disks":
                yield f"file {folder}/{name}"


def _processes(root: Path, uids: range) -> Iterator[str]:
    for name in os.listdir("/proc"):
        if not name.isdecimal() or int(name) == os.getpid():
            continue
        process = identify(int(name))
        if process is None or not alive(process):  # a zombie holds nothing, and PID 1 collects it late
            continue
        with contextlib.suppress(OSError):
            command = Path("/proc", name, "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            if os.stat(f"/proc/{name}").st_uid in uids or str(root) in command or _uses(name, root):
                yield f"process {name}: {command[:200]!r} {Path('/proc', name, 'stat').read_text()[:40]!r}"


def _uses(pid: str, root: Path) -> bool:
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/fd/{fd}").startswith(f"{root}/"):
                return True
    return False


def _lines(path: str, root: Path) -> list[str]:
    return [f"{path}: {line}" for line in Path(path).read_text("utf-8", "replace").splitlines() if f"{root}/" in line]


def _loops(root: Path) -> Iterator[str]:
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if path.read_text().startswith(f"{root}/"):
                yield f"loop device {path.parts[3]}"


def own_descriptors_and_children() -> tuple[set[str], set[str]]:
    """The descriptors and children of this process."""
    fds = set()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            fds.add(f"{fd} -> {os.readlink(f'/proc/self/fd/{fd}')}")
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {fd for fd in fds if "/proc/" not in fd}, set(children)


def make_world(root: Path, run_dir: Path | None = None) -> World:
    run_dir = run_dir or root / "run"
    first = next(_UIDS)
    uids = range(first, first + 20)
    return World(root, run_dir, uids, hvcore.Node(run_dir, uid_pool=uids))


def tear_down(world: World) -> None:
    """End what runs, undo what the test did to the node, and look for leftovers."""
    for info in world.node.instances():
        world.node.stop(info.name, force=True)
    for undo in reversed(world.undo):
        undo()
    world.undo.clear()
    reap()
    give_up = time.monotonic() + 60.0  # init may be slow to collect a process whose parent was killed
    while (left := world.leftovers()) and time.monotonic() < give_up:
        time.sleep(0.02)
    assert left == []


def unreached(act: Callable[..., T], *arguments: object) -> T:
    """What an operation returns that waits until its deadline for a guest that does nothing.

    With the least of some deadlines in which QEMU itself answers: on a busy machine that can take seconds.
    """
    for deadline_s in (0.5, 5.0):
        with contextlib.suppress(hvcore.DeadlineError):
            return act(*arguments, deadline_s=deadline_s)
    return act(*arguments, deadline_s=50.0)


def bootable_iso() -> bytes:
    """El Torito without emulation: a boot record, a catalogue, and a boot sector that is loaded as it is."""

    def sector(data: bytes) -> bytes:
        return data.ljust(2048, b"\0")

    record = b"\0CD001\x01EL TORITO SPECIFICATION".ljust(0x47, b"\0") + (19).to_bytes(4, "little")
    validation = bytearray(b"\x01\0\0\0".ljust(30, b"\0") + b"\x55\xaa")
    words = sum(int.from_bytes(validation[n : n + 2], "little") for n in range(0, 32, 2))
    validation[28:30] = (-words & 0xFFFF).to_bytes(2, "little")
    entry = b"\x88\0\0\0\0\0" + (1).to_bytes(2, "little") + (20).to_bytes(4, "little")
    primary = b"\x01CD001\x01"
    terminator = b"\xffCD001\x01"
    parts = [sector(b"")] * 16 + [sector(primary), sector(record), sector(terminator)]
    return b"".join([*parts, sector(bytes(validation) + entry), sector(boot_sector(HELLO))]).ljust(1 << 20, b"\0")
