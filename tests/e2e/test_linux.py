"""A real Linux, from the instance file to the power button."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import hvcore
import hvcore.plugin as hv
from hvcore.state.store import Store

pytestmark = pytest.mark.live

GREETING = "hello from the initial ram disk"


def instance_file(folder: Path, kernel: Path, archive: bytes, *more: str) -> Path:
    ram_disk = folder / "initrd.img"
    ram_disk.write_bytes(archive)
    path = folder / "linux1.toml"
    path.write_text(
        f"""
        name = "linux1"
        driver = "kvm"
        memory_mib = 256
        vcpus = 2
        [params]
        kvm_flag = "disabled"
        kernel_path = "{kernel}"
        initrd_path = "{ram_disk}"
        kernel_args = "quiet panic=1"
        serial_speed = 115200
        """
        + "\n".join(more)
    )
    return path


class Terminal:
    """A person's end of the console."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.seen = sock, b""

    def until(self, wanted: str, deadline_s: float) -> str:
        give_up = time.monotonic() + deadline_s
        while wanted.encode() not in self.seen:
            self.sock.settimeout(max(0.01, give_up - time.monotonic()))
            data = self.sock.recv(65536)
            assert data, f"the console ended: {self.seen[-500:]!r}"
            self.seen += data
        before, _, self.seen = self.seen.partition(wanted.encode())
        return (before + wanted.encode()).decode(errors="replace")

    def type(self, line: str) -> None:
        self.sock.sendall(line.encode() + b"\n")


@contextmanager
def terminal(node: hvcore.Node, name: str) -> Iterator[Terminal]:
    path = node.console(name).socket
    assert path is not None
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        yield Terminal(sock)


def test_a_linux_boots_to_its_console_and_goes_down_by_its_power_button(
    node: hvcore.Node, tmp_path: Path, kernel: Path, initrd: Callable[..., bytes], modules: dict[str, bytes]
) -> None:
    path = instance_file(tmp_path, kernel, initrd(GREETING, modules))
    instance = hvcore.load_instance(str(path))
    kvm = node.driver("kvm")
    kvm.verify(instance)
    assert "initrd" in kvm.plan(instance).explain()
    assert kvm.start(instance, paused=True).changed
    with terminal(node, "linux1") as console:
        node.resume("linux1")
        console.until(GREETING, deadline_s=300)
        assert "Linux" in console.until("with 2 cpus", deadline_s=300)
        console.type("echo $((6 * 7)) is the answer")
        console.until("42 is the answer", deadline_s=300)
        info = node.info("linux1")
        assert info.state is hvcore.State.RUNNING
        assert (info.memory_mib, info.vcpus) == (256, 2)
        assert info.cpu_seconds is not None
        assert info.cpu_seconds > 0.5
        outcome = node.stop("linux1", deadline_s=300)
        console.until("power button", deadline_s=300)
    assert (outcome.changed, outcome.stopped_by) == (True, "powerdown")
    assert node.instances() == []


@pytest.mark.slow  # `test_lifecycle` of hv-kvm has a guest of 512 bytes that does so
def test_a_linux_that_turns_itself_off_is_shut_down_and_not_crashed(
    node: hvcore.Node, tmp_path: Path, kernel: Path, initrd: Callable[..., bytes]
) -> None:
    """It has a TPM as well, which Linux finds and asks for its version."""
    tpm = tmp_path / "tpm"
    tpm.mkdir(mode=0o700)
    more = ('tpm_version = "2.0"', f'tpm_state_path = "{tpm}"') if shutil.which("swtpm") else ()
    instance = hvcore.load_instance(str(instance_file(tmp_path, kernel, initrd(GREETING, {}), *more)))
    assert node.driver("kvm").start(instance, paused=True).changed
    pid = node.info("linux1").pid
    assert pid is not None
    process = hv.identify(pid)
    record = Store(Path(node.run_dir)).load("linux1")
    assert process is not None
    assert record is not None
    assert record.monitor is not None
    with terminal(node, "linux1") as console:
        node.resume("linux1")
        console.until(GREETING, deadline_s=300)
        if more:
            console.type('read v </sys/class/tpm/tpm0/tpm_version_major; [ -c /dev/tpm0 ] && echo "TPM has version $v"')
            console.until("TPM has version 2", deadline_s=300)
        console.type("/bin/busybox poweroff -f")
        assert hv.wait_gone(process, 300)
    assert hv.wait_gone(record.monitor, 300)  # it writes how QEMU exited
    info = node.info("linux1")
    assert (info.state, info.reason) == (hvcore.State.SHUTDOWN, "shut down by the guest")
    assert node.cleanup("linux1").changed
