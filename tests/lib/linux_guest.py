"""Linux guests for tests: Debian's kernel with a busybox and the modules that a test needs, and commands on the console."""

from __future__ import annotations

import functools
import itertools
import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from initramfs import busybox_guest
from kernel_modules import kernel_modules

import hvcore

__all__ = ["LinuxGuest", "console", "guest_params", "linux_guests"]

_KERNEL: Final = Path(__file__).resolve().parents[2] / ".cache/kernel/vmlinuz"
_GREETING: Final = "the guest is up"
_NUMBERS: Final = itertools.count(1)
_BOOT_S: Final = 300.0  # on a busy node
_ANSWER_S: Final = 180.0


def guest_params(folder: Path, *modules: str) -> dict[str, Any]:
    """Parameters of driver kvm for a guest with these modules of its kernel, such as ``virtio_net``.

    Skips without kernel or busybox. The guest takes its commands from the serial console.
    """
    busybox = shutil.which("busybox")
    if not _KERNEL.exists() or busybox is None:
        pytest.skip("no Linux kernel in .cache/kernel, or no busybox-static: ./dev setup")
    ram_disk = folder / f"{'-'.join(modules) or 'plain'}.initrd"
    if not ram_disk.exists():
        ram_disk.write_bytes(_ram_disk(busybox, modules))
    return {
        "kvm_flag": "disabled",
        "kernel_path": str(_KERNEL.resolve()),
        "initrd_path": str(ram_disk),
        "kernel_args": "quiet panic=1",
        "serial_speed": 115200,
    }


@functools.cache
def _ram_disk(busybox: str, modules: tuple[str, ...]) -> bytes:
    return busybox_guest(_GREETING, Path(busybox).read_bytes(), kernel_modules(_KERNEL, *modules))


class LinuxGuest:
    """A guest by its console."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket, self._seen = sock, b""

    def boot(self) -> None:
        """Wait until the guest takes commands."""
        self._until(re.compile(rf"{_GREETING}.*\n.*cpus".encode()), _BOOT_S)
        # Every applet by its name.
        self.run("/bin/busybox --install -s /bin")

    def run(self, command: str, *, deadline_s: float = _ANSWER_S, code: int | None = 0) -> str:
        """What the command writes; its exit code has to be ``code``, unless that is None. Applets of busybox are commands."""
        number = next(_NUMBERS)
        # The console shows what is typed, and what arrives before the prompt is shown twice. There the marks have a '$'.
        typed = f"echo begin{number}=$?.; {command}; echo end{number}=$?."
        self._socket.sendall(f"{typed}\n".encode())
        self._until(re.compile(rf"begin{number}=[0-9]+\.\r*\n".encode()), deadline_s)
        before = self._until(re.compile(rf"end{number}=([0-9]+)\.".encode()), deadline_s)
        output, found = before.decode(errors="replace").replace("\r", "").rsplit(f"end{number}=", 1)
        assert code is None or int(found.rstrip(".")) == code, f"{command}: {output}"
        return output

    def _until(self, wanted: re.Pattern[bytes], deadline_s: float) -> bytes:
        give_up = time.monotonic() + deadline_s
        while (found := wanted.search(self._seen)) is None:
            self._socket.settimeout(max(0.01, give_up - time.monotonic()))
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                pytest.fail(f"no {wanted.pattern!r} within {deadline_s} s, but {self._seen[-1000:]!r}")
            assert data, f"the console ended after {self._seen[-1000:]!r}"
            self._seen += data
        before, self._seen = self._seen[: found.end()], self._seen[found.end() :]
        return before


@contextmanager
def console(node: hvcore.Node, name: str) -> Iterator[LinuxGuest]:
    """The guest by its console on that node, where it runs already, or is paused."""
    path = node.console(name).socket
    assert path is not None
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        yield LinuxGuest(sock)


@contextmanager
def linux_guests(node: hvcore.Node, *instances: hvcore.Instance) -> Iterator[tuple[LinuxGuest, ...]]:
    """Start the guests, wait until all have booted, and give their consoles. The test stops them, or its node does."""
    with ExitStack() as stack:
        guests = []
        for instance in instances:
            node.driver("kvm").start(instance, paused=True)
            guests.append(stack.enter_context(console(node, instance.name)))
            node.resume(instance.name)
        for guest in guests:
            guest.boot()
        yield tuple(guests)
