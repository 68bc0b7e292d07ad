"""The boot sector guest: its bytes, and what it does in a real QEMU under software emulation."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from hv_kvm.qemu.boot_sector import DISK_BYTES, SECTOR_BYTES, assemble, boot_sector, write_disk
from hv_kvm.qmp import QmpClient, QmpTimeoutError, adopt, commands

QEMU = shutil.which("qemu-system-x86_64") or "qemu-system-x86_64"
HELLO = b"hvcore test guest\r\n"


@pytest.mark.parametrize("flood", [False, True])
@pytest.mark.parametrize("ignore_power_button", [False, True])
@pytest.mark.parametrize("leave", [None, "poweroff", "reboot", "hlt-dead"])
def test_every_variant_is_a_boot_sector(flood: Any, ignore_power_button: Any, leave: Any) -> None:
    sector = boot_sector(flood=flood, ignore_power_button=ignore_power_button, exit_after_boot=leave)
    assert len(sector) == SECTOR_BYTES
    assert sector.endswith(b"\x55\xaa")
    assert HELLO + b"\0" in sector


@pytest.mark.parametrize("message", ["", "a\0b", "x" * 500])
def test_a_message_that_cannot_be_printed_is_refused(message: str) -> None:
    with pytest.raises(ValueError, match=r"message|do not fit"):
        boot_sector(message)


def test_four_hundred_bytes_of_message_fit() -> None:
    boot_sector("x" * 400)


def test_jumps_and_addresses_are_resolved() -> None:
    code = assemble([("start", "eb >end", ""), ("", "be @text", ""), ("end", "eb >start", "")], {"text": b"hi"})
    assert code[:9] == b"\xeb\x03\xbe\x07\x7c\xeb\xf9hi"


@pytest.mark.parametrize("rows", [[("", "eb >nowhere", "")], [("a", "90" * 200, ""), ("", "eb >a", "")]])
def test_a_jump_out_of_reach_is_refused(rows: Any) -> None:
    with pytest.raises(ValueError, match="no label within reach"):
        assemble(rows)


def test_a_disk_is_sparse_and_large_enough_for_every_controller(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    write_disk(str(path), boot_sector())
    assert path.stat().st_size == DISK_BYTES
    assert path.stat().st_blocks * 512 < DISK_BYTES // 8


class Guest:
    """A running guest with its monitor and its serial port."""

    def __init__(self, process: subprocess.Popen[bytes], client: QmpClient, serial: socket.socket) -> None:
        self.process, self.client, self.serial = process, client, serial

    def read(self, length: int) -> bytes:
        """That many bytes from the serial port, within 10 s."""
        data = b""
        while len(data) < length:
            more = self.serial.recv(min(65536, length - len(data)))
            assert more, "the guest ended"
            data += more
        return data

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100


@contextmanager
def guest(disk: Path, sector: bytes, machine: str = "pc", device: str = "ide-hd") -> Iterator[Guest]:
    write_disk(str(disk), sector)
    with ExitStack() as stack:
        monitor, monitor_end = socket.socketpair()
        serial, serial_end = (stack.enter_context(end) for end in socket.socketpair())
        serial.settimeout(60)
        argv = [
            QEMU,
            *("-machine", f"{machine},accel=tcg", "-m", "16", "-nodefaults", "-no-user-config", "-display", "none"),
            *("-chardev", f"socket,id=mon0,fd={monitor_end.fileno()}", "-mon", "chardev=mon0,mode=control"),
            *("-chardev", f"socket,id=ser0,fd={serial_end.fileno()}", "-serial", "chardev:ser0"),
            *(
                "-blockdev",
                f"driver=raw,node-name=d,file.driver=file,file.filename={disk}",
                "-device",
                f"{device},drive=d",
            ),
        ]
        process = subprocess.Popen(argv, pass_fds=(monitor_end.fileno(), serial_end.fileno()), stdin=subprocess.DEVNULL)
        monitor_end.close()
        serial_end.close()
        try:
            with adopt(monitor, deadline_s=60) as client:
                yield Guest(process, client, serial)
        finally:
            process.kill()
            process.wait()


@pytest.mark.live
@pytest.mark.parametrize("machine", ["pc", "q35"])
@pytest.mark.parametrize("device", ["ide-hd", "virtio-blk-pci"])
def test_it_prints_sleeps_and_obeys_the_power_button(machine: str, device: str, tmp_path: Path) -> None:
    with guest(tmp_path / "d", boot_sector(), machine, device) as running:
        assert running.read(len(HELLO)) == HELLO
        before = running.cpu_s()
        commands.system_powerdown(running.client)
        running.client.wait_event("SHUTDOWN", deadline_s=60)
        assert running.cpu_s() - before < 0.5
        assert running.process.wait(60) == 0


@pytest.mark.live
def test_it_sleeps_cheaply(tmp_path: Path) -> None:
    with guest(tmp_path / "d", boot_sector()) as running:
        running.read(len(HELLO))
        before, begun = running.cpu_s(), time.monotonic()
        with pytest.raises(QmpTimeoutError):
            running.client.wait_event("never", deadline_s=1)
        assert running.cpu_s() - before < 0.05 * (time.monotonic() - begun)


@pytest.mark.live
@pytest.mark.parametrize("sector", [boot_sector(ignore_power_button=True), boot_sector(exit_after_boot="hlt-dead")])
def test_it_can_ignore_the_power_button(sector: bytes, tmp_path: Path) -> None:
    with guest(tmp_path / "d", sector) as running:
        running.read(len(HELLO))
        commands.system_powerdown(running.client)
        running.client.wait_event("POWERDOWN", deadline_s=60)
        with pytest.raises(QmpTimeoutError):
            running.client.wait_event("SHUTDOWN", deadline_s=0.3)
        assert commands.query_status(running.client).running
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(60) == 0


@pytest.mark.live
def test_it_can_flood_the_console_without_loss_and_still_obey(tmp_path: Path) -> None:
    line = b"0123456789abcdef\r\n"
    with guest(tmp_path / "d", boot_sector(line.decode(), flood=True)) as running:
        data = running.read(len(line) * 10_000)
        assert data == line * 10_000
        commands.system_powerdown(running.client)
        running.serial.settimeout(60)
        while running.serial.recv(65536):
            pass
        assert running.process.wait(60) == 0


@pytest.mark.live
def test_it_can_power_off_on_its_own(tmp_path: Path) -> None:
    with guest(tmp_path / "d", boot_sector(exit_after_boot="poweroff")) as running:
        event = running.client.wait_event("SHUTDOWN", deadline_s=60)
        assert event.data["reason"] == "guest-shutdown"
        assert running.read(len(HELLO)) == HELLO
        assert running.process.wait(60) == 0


@pytest.mark.live
def test_it_can_reboot_for_ever(tmp_path: Path) -> None:
    with guest(tmp_path / "d", boot_sector(exit_after_boot="reboot")) as running:
        running.client.wait_event("RESET", deadline_s=60)
        assert running.read(2 * len(HELLO)) == HELLO * 2
