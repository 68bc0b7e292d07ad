"""A stage for one command line: the files, sockets, taps and helpers that it names, without a node."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Self

from hv_kvm.devices.usb import UsbDevice
from hv_kvm.machine.resource import (
    Bindings,
    BlockModule,
    GuestDir,
    GuestDirectory,
    GuestFile,
    Image,
    MemoryFile,
    NumaNodes,
    PrivateCopy,
    SeedImage,
    Shown,
    ShownFile,
    TemporaryOverlay,
)
from hv_kvm.machine.spec import KvmSpec
from hv_kvm.qemu.accelerator import kvm_works
from hv_kvm.qmp import QmpError, commands, connect
from hvcore.plugin import (
    CharacterDevice,
    Handles,
    InterfaceAddress,
    Macvtap,
    OutputHistory,
    Program,
    Resource,
    Tap,
    TapFds,
    TcpPort,
    UniqueValue,
    UnixSocket,
    UserNetwork,
)
from hvcore.resources.node_files import listening_socket

IMAGE_BYTES: Final = 1_474_560
_PATIENCE_S: Final = 300.0
"""Of every image: a floppy disk's size, a whole number of a flash chip's blocks, and enough for a disk."""
# linux/if_tun.h
TUNSETIFF, IFF_TAP, IFF_NO_PI, IFF_MULTI_QUEUE, IFF_VNET_HDR = 0x400454CA, 0x2, 0x1000, 0x100, 0x4000
# A separate network, so that no port of this machine is taken. SPICE looks up its address with AI_ADDRCONFIG, which
# needs an address besides that of loopback.
ALONE: Final = (
    *("sh", "-c"),
    'ip link set lo up && ip addr add 192.0.2.1 dev lo && ip addr add 2001:db8::1 dev lo nodad && exec "$@"',
    "sh",
)
_ENVIRONMENT: Final = {"LC_ALL": "C", "PATH": os.environ["PATH"]}
# Of the accelerator and the model, not of the command line; and of VNC.
_SAID_BY_ALL: Final = re.compile(
    "doesn't support (requested feature|hyperthreading)|^Please configure -smp options|^VNC server running on "
)


class MissingError(Exception):
    """Something that the command line needs and this machine does not have, such as ``/dev/vhost-net``."""


@dataclass(frozen=True)
class Props:
    """The values that every command line shares."""

    qemu: str
    folder: Path
    kernel: Path
    certificates: Path | None


@dataclass
class Stage:
    """The directory and descriptors of one command line, removed at the end. ``without`` names what this machine lacks."""

    props: Props
    name: str
    without: str = ""
    fds: list[int] = field(default_factory=list)
    _undo: ExitStack = field(default_factory=ExitStack)

    @property
    def folder(self) -> Path:
        return self.props.folder / self.name

    def __enter__(self) -> Self:
        self.folder.mkdir()
        self._undo.callback(shutil.rmtree, self.folder)
        self._undo.callback(self.let_go)
        return self

    def __exit__(self, *raised: object) -> None:
        self._undo.close()

    def bind(self, spec: KvmSpec, symbols: Bindings) -> Bindings:
        """The bindings with something real for each symbol. Raises `MissingError`."""
        for module in spec.resources_of(BlockModule):
            raise MissingError(f"a {module.driver} server")
        if any(device.model == "usb-host" for device in spec.of(UsbDevice)):
            raise MissingError("the host's USB device")
        for wanted in spec.resources_of(NumaNodes):
            last = wanted.nodes.rpartition("-")[2]
            if not Path(f"/sys/devices/system/node/node{last}").exists():
                raise MissingError(f"NUMA node {last}")
        os.mkfifo(self.folder / "events")
        if symbols.accel == "kvm" and not (verdict := kvm_works(self.props.qemu, cache_dir=None)).usable:
            raise MissingError(f"KVM ({verdict.reason})")
        real = Handles()
        for resource in spec.resources:
            self._give(resource, symbols, real)
        return replace(symbols, handles=real)

    def _give(self, resource: Resource[Any], symbols: Bindings, real: Handles) -> None:
        """Something real for one resource."""
        for needed in resource.needs():
            if needed not in real:
                self._give(needed, symbols, real)
        make = self._makers.get(type(resource))
        if make is not None:
            real[resource] = make(resource, symbols)
        elif isinstance(symbols[resource], str):  # such as {fd:KEY}, so it is part of the command line
            raise NotImplementedError(f"{type(resource).__name__}: no maker in stage.py; add one to _makers")

    @property
    def _makers(self) -> dict[type[Resource[Any]], Callable[[Any, Bindings], Any]]:
        return {
            GuestDirectory: lambda _, symbols: self._directory(symbols),
            UnixSocket: lambda wanted, _: self._fd(listening_socket(self.folder / wanted.key)),
            Image: lambda wanted, symbols: self._file(wanted, symbols[wanted]),
            TemporaryOverlay: lambda wanted, symbols: self._file(
                Image(key=wanted.key, path="", fdset=wanted.fdset, write=True, claim=False, format="qcow2"),
                symbols[wanted],
            ),
            SeedImage: lambda wanted, symbols: self._file(
                Image(key=wanted.key, path="", fdset=wanted.fdset, write=False, claim=False), symbols[wanted]
            ),
            ShownFile: lambda wanted, _: self._shown(wanted.key),
            PrivateCopy: lambda wanted, _: self._hand(wanted.key, password=wanted.password_bytes is not None),
            InterfaceAddress: lambda wanted, _: "127.0.0.1",
            TcpPort: lambda wanted, _: str(wanted.port or wanted.first),
            Tap: lambda wanted, symbols: self._tap(symbols[wanted]),
            Macvtap: lambda wanted, symbols: self._tap(symbols[wanted]),  # to QEMU they are alike
            Program: lambda wanted, _: self._emulated_tpm(),
            UserNetwork: lambda wanted, _: self._connected(),
            OutputHistory: lambda wanted, _: self._pipe(),
            MemoryFile: lambda wanted, _: self._memory(wanted.size_mib),
            CharacterDevice: lambda wanted, _: self._character_device(wanted.path),
            UniqueValue: lambda wanted, _: wanted.first if wanted.value is None else wanted.value,
        }

    def _pipe(self) -> str:
        """The writing end of a pipe that has a reader until the end."""
        reader, writer = os.pipe()
        self._fd(reader)
        return self._fd(writer)

    def _character_device(self, path: str) -> str:
        try:
            return self._fd(os.open(path, os.O_RDWR))
        except OSError as error:
            raise MissingError(path) from error

    def _directory(self, symbols: Bindings) -> GuestDir:
        by_fd = symbols.socket_dir.startswith("/proc/self/fd/")
        place = f"/proc/self/fd/{self._fd(os.open(self.folder, os.O_PATH))}" if by_fd else str(self.folder)
        return GuestDir(path=str(self.folder), sockets=place)

    def let_go(self) -> None:
        """Close our copies of QEMU's descriptors: they would keep its sockets listening after its exit."""
        while self.fds:
            os.close(self.fds.pop())

    def _fd(self, fd: int) -> str:
        self.fds.append(fd)
        return str(fd)

    def _hand(self, name: str, *, password: bool) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        if password:
            path.write_text("secret12")
        elif self.props.certificates is None:
            raise MissingError("openssl, for certificates")
        elif (source := self.props.certificates / path.name).exists():
            shutil.copyfile(source, path)

    def _shown(self, name: str) -> Shown:
        source = {"kernel": self.props.kernel, "initrd": Path("/etc/hostname")}.get(name)
        if source is None:
            return Shown(path=f"/etc/{name}", source="")
        if not source.exists():
            raise MissingError("a Linux kernel: ./dev setup")
        path = self.folder / f"a,b=c {name}"
        path.symlink_to(source)
        return Shown(path=str(path), source="")

    def _file(self, wanted: Image, symbol: GuestFile) -> GuestFile:
        if wanted.must_be != "image":
            raise MissingError("a SCSI device")
        path = str(self.folder / f"{wanted.key}.img")
        with open(path, "wb") as file:
            file.write(_empty_qcow2() if wanted.format == "qcow2" else b"")
            file.truncate(IMAGE_BYTES)
        if symbol.block_device:
            path = self._loop(path)
        flags = (os.O_RDWR if wanted.write else os.O_RDONLY) | (os.O_DIRECT if wanted.direct else 0)
        fds = [self._fd(os.open(path, flags))]
        if symbol.block_device:
            fds.append(self._fd(os.open(path, os.O_RDONLY)))
        return replace(symbol, fds=tuple(fds), claims=())

    def _loop(self, path: str) -> str:
        done = subprocess.run(["losetup", "--find", "--show", path], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise MissingError("a loop device")
        device = done.stdout.strip()
        self._undo.callback(subprocess.run, ["losetup", "--detach", device], check=True)
        return device

    def _tap(self, symbol: TapFds) -> TapFds:
        vhost_fds = symbol.vhost_fds if os.path.exists("/dev/vhost-net") else ()
        self.without = "/dev/vhost-net" if vhost_fds != symbol.vhost_fds else self.without
        several = IFF_MULTI_QUEUE if len(symbol.fds) > 1 else 0
        name, fds = b"hvg%d", []  # the kernel fills in a number, and the other queues take the name that it gave
        for _ in symbol.fds:
            try:
                fds.append(self._fd(os.open("/dev/net/tun", os.O_RDWR)))
                asked = struct.pack("16sH22x", name, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | several)
                name = fcntl.ioctl(int(fds[-1]), TUNSETIFF, asked)[:16]
            except OSError as error:
                raise MissingError(f"taps ({error.strerror})") from error
        vhost = [self._fd(os.open("/dev/vhost-net", os.O_RDWR)) for _ in vhost_fds]
        return TapFds(name=symbol.name, fds=tuple(fds), vhost_fds=tuple(vhost))

    def _memory(self, size_mib: int) -> str:
        fd = os.memfd_create("guest")
        os.truncate(fd, size_mib << 20)
        return self._fd(fd)

    def _connected(self) -> str:
        """A socket whose other end stays open and says nothing."""
        qemus, others = socket.socketpair()
        self._undo.callback(others.close)
        return self._fd(qemus.detach())

    def _emulated_tpm(self) -> str:
        if shutil.which("swtpm") is None:
            raise MissingError("swtpm")
        qemus, swtpms = socket.socketpair()
        with swtpms:
            words = ("--tpm2", "--tpmstate", f"dir={self.folder}", "--ctrl", f"type=unixio,clientfd={swtpms.fileno()}")
            swtpm = subprocess.Popen(
                ["swtpm", "socket", *words], pass_fds=(swtpms.fileno(),), stderr=subprocess.DEVNULL
            )
        self._undo.callback(swtpm.wait)
        self._undo.callback(swtpm.kill)
        return self._fd(qemus.detach())


def complaints(argv: Sequence[str], stage: Stage) -> list[str]:
    """Start QEMU paused and query its monitor. Everything that it complained about, or how it exited."""
    found = []
    with launched(argv, stage, stage.fds) as process:
        stage.let_go()
        try:
            with connect(str(stage.folder / "qmp"), deadline_s=_PATIENCE_S) as client:
                status = commands.query_status(client, deadline_s=_PATIENCE_S)
                found += [] if str(status.state) == "prelaunch" else [f"is {status.state}"]
                rows = client.execute("qom-list", {"path": "/machine/peripheral"}, deadline_s=_PATIENCE_S)
                there = {row["name"] for row in rows}
                found += [f"has no device {name}" for name in _device_ids(argv) if name not in there]
        except QmpError:
            process.wait(60)
            found.append(f"ended with {process.returncode}")
    lines = (stage.folder / "stderr").read_text("utf-8", "replace").splitlines()
    return found + [line for line in lines if not _SAID_BY_ALL.search(line)]


@contextmanager
def launched(argv: Sequence[str], stage: Stage, fds: Sequence[int]) -> Iterator[subprocess.Popen[bytes]]:
    """QEMU with these descriptors, in a separate network, until the end of the block; ``stderr`` is in the folder."""
    alone = ["unshare", "--net", *(() if os.geteuid() == 0 else ("--map-root-user",)), *ALONE]
    with open(stage.folder / "stderr", "wb") as said:
        process = subprocess.Popen(
            [*alone, *argv], stdin=subprocess.DEVNULL, stdout=said, stderr=said, pass_fds=fds, env=_ENVIRONMENT
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _device_ids(argv: Sequence[str]) -> list[str]:
    given = [value.split(",") for option, value in pairwise(argv) if option == "-device"]
    return [part.removeprefix("id=") for parts in given for part in parts if part.startswith("id=")]


def _empty_qcow2() -> bytes:
    """An image without content, in four clusters: header, table and block of reference counts, table of tables."""
    cluster = 1 << 16
    fields = (2, 0, 0, 16, IMAGE_BYTES, 0, 1, 3 * cluster, cluster, 1, 0, 0)
    header = b"QFI\xfb" + struct.pack(">IQIIQIIQQIIQ", *fields)
    counts = struct.pack(">Q", 2 * cluster), struct.pack(">4H", 1, 1, 1, 1)
    return b"".join(part.ljust(cluster, b"\0") for part in (header, *counts, b""))
