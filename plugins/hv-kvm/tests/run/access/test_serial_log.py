"""The history of the serial console: kept without hv, bounded whatever the guest writes, readable after its end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from world import HELLO, World

import hvcore
from hv_kvm.qemu.boot_sector import DISK_BYTES
from hvcore import OperationError, State

pytestmark = pytest.mark.live

# mov dx, 0x3f8; mov al, "x"; again: out dx, al; jmp again
FLOOD = bytes.fromhex("ba f8 03 b0 78 ee eb fd").ljust(510, b"\0") + b"\x55\xaa"
MIB = 1024 * 1024


def history(world: World, name: str = "web1") -> bytes:
    return b"".join(hvcore.log_pieces(world.node.console_log(name).path))


def eventually(holds: Callable[[], bool], deadline_s: float = 60.0) -> None:
    give_up = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def reader_of(world: World) -> int:
    pid: int = world.record().bindings["companions"]["serial.history"]["process"]["pid"]
    return pid


def test_what_the_guest_wrote_is_there_with_nobody_connected_and_after_its_end(world: World) -> None:
    world.start(disks=[world.disk(exit_after_boot="poweroff")])
    world.node.wait("web1", state=State.SHUTDOWN, deadline_s=60)
    assert HELLO.encode() in history(world)
    assert world.info().reason == "shut down by the guest"
    path = Path(world.node.console_log("web1").path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_uid == os.geteuid()
    world.node.cleanup("web1")
    assert world.leftovers() == []


def test_a_crash_leaves_it(world: World) -> None:
    world.pressable()
    eventually(lambda: HELLO.encode() in history(world), 60.0)  # QEMU writes to the console first, then to its log
    world.kill()
    assert world.info().state is State.CRASHED
    assert HELLO.encode() in history(world)


def test_a_guest_that_floods_its_console_fills_nothing(world: World) -> None:
    disk = world.root / "flood.img"
    disk.write_bytes(FLOOD.ljust(DISK_BYTES, b"\0"))
    world.start(disks=[str(disk)])
    path = Path(world.node.console_log("web1").path)
    eventually(lambda: path.stat().st_size > MIB + MIB // 2, 120.0)
    assert path.stat().st_blocks * 512 <= MIB + 128 * 1024
    assert history(world)[-MIB:] == b"x" * MIB
    assert world.info().state is State.RUNNING
    assert world.node.stop("web1", force=True).stopped_by == "quit"


@pytest.mark.parametrize("more", [{}, {"serial_log": False}, {"serial_console": False}], ids=str)
def test_a_flood_of_qemus_own_messages_fills_nothing(world: World, more: dict[str, Any]) -> None:
    """QEMU appends to the file itself, so what it says before a failed start is there at once."""
    world.start(**more)
    path = world.node.run_dir / "instances/web1/log"
    descriptor = next(
        fd
        for fd in Path(f"/proc/{world.info().pid}/fd").iterdir()
        if os.path.lexists(fd) and os.readlink(fd).endswith("/web1/log")
    )
    with descriptor.open("ab", buffering=0) as stderr:
        for number in range(1000):
            stderr.write(b"%0100000d\n" % number)
    eventually(lambda: path.stat().st_blocks * 512 <= MIB + 128 * 1024)
    assert path.stat().st_size > 99_000_000
    assert b"".join(hvcore.log_pieces(str(path)))[-8:] == b"0000999\n"
    assert len(b"".join(hvcore.log_pieces(str(path)))) >= MIB
    assert world.node.log("web1").path == str(path)
    world.node.stop("web1", force=True)


def test_without_its_reader_the_guest_goes_on_and_hv_says_so(world: World) -> None:
    disk = world.root / "flood.img"
    disk.write_bytes(FLOOD.ljust(DISK_BYTES, b"\0"))
    world.start(disks=[str(disk)])
    os.kill(reader_of(world), signal.SIGKILL)
    eventually(lambda: "history of serial" in (world.info().reason or ""), 20.0)
    with world.console() as console:  # written after the pipe broke
        console.until(b"x" * 1000)
    assert world.info().state is State.RUNNING


def test_a_start_whose_reader_cannot_run_only_lacks_the_history(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hvcore.host.output_reader.__file__", str(world.root / "absent.py"))
    outcome = world.start()
    assert outcome.state is State.RUNNING
    noted = any("output is not kept" in note for note in outcome.notes)
    if not noted:  # on a busy node it ends after the start
        eventually(lambda: "history of serial" in (world.info().reason or ""), 60.0)


def test_it_can_be_switched_off_and_then_there_is_none(world: World) -> None:
    world.start(serial_log=False)
    with pytest.raises(OperationError, match="started without a history of its console; set serial_console and"):
        world.node.console_log("web1")
    assert set(world.record().bindings["companions"]) == {"log.reader"}  # which bounds QEMU's own log
    assert not (world.dir() / "serial.log").exists()
    os.kill(world.record().bindings["companions"]["log.reader"]["process"]["pid"], signal.SIGKILL)
    eventually(lambda: "reader of log died" in (world.info().reason or ""), 60.0)
    assert world.info().state is State.RUNNING
    world.node.stop("web1", force=True)
    assert world.leftovers() == []


def test_a_stopped_reader_does_not_keep_the_guest_from_ending(world: World) -> None:
    world.pressable()
    os.kill(reader_of(world), signal.SIGSTOP)
    begun = time.monotonic()
    assert world.node.stop("web1", deadline_s=60).stopped_by == "powerdown"
    assert time.monotonic() - begun < 50.0
    assert world.leftovers() == []
