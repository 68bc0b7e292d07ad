"""What follows the end of a real guest: ``hv watch --act`` as a program, with a guest that panics again and again."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from world import PATIENCE_S, World

import hvcore
from hvcore import EndedBy, State

pytestmark = pytest.mark.live

PANICS: bytes = bytes.fromhex("faba0505b001eef4ebfd").ljust(510, b"\0") + b"\x55\xaa"  # out 0x505, 1; hlt


@pytest.mark.parametrize(
    "device",
    [
        pytest.param("-device pvpanic", id="QEMU exits"),
        pytest.param("-device pvpanic -action panic=pause", id="QEMU stays", marks=pytest.mark.slow),
    ],
)
def test_a_guest_that_panics_is_restarted_until_it_has_panicked_too_often(world: World, device: str) -> None:
    (disk := world.root / "panics.img").write_bytes(PANICS.ljust(1 << 20, b"\0"))
    file = world.root / "web1.toml"
    head = f'name = "web1"\ndriver = "kvm"\nmemory_mib = 32\non_crash = "restart"\n[[disks]]\npath = "{disk}"\n'
    file.write_text(f'{head}[params]\nkvm_flag = "disabled"\nkvm_extra = "{device}"\n')
    file.chmod(0o600)
    command = [
        str(Path(sys.executable).with_name("hv")),
        "--run-dir",
        str(world.run_dir),
        "watch",
        "web1",
        "--act",
        "--since",
        "1h",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        try:
            world.undo.append(lambda: world.node.stop("web1", force=True))
            world.kvm.start(hvcore.load_instance(file), source=file, deadline_s=PATIENCE_S)
            acted: list[str] = []
            said: list[str] = []
            for line in watching.stderr:
                said.append(line)
                if line.startswith("web1: "):
                    acted.append(line.removeprefix("web1: ").partition(",")[0])
                if acted and acted[-1] in {"gave up", "failed"}:
                    break
        finally:
            watching.send_signal(signal.SIGINT)
        events = watching.stdout.read()
    assert acted == ["restarted"] * 3 + ["gave up"], said
    assert watching.returncode == 0
    assert events.count("started\n") == 4, events
    assert events.count("panic") >= 4
    info = world.info()
    assert (info.state, info.ended_by) == (State.CRASHED, EndedBy.PANIC)
    (world.run_dir / "restarts" / "web1").unlink()


def test_who_ended_a_guest_that_panicked_is_known_while_its_qemu_stays(world: World) -> None:
    (disk := world.root / "panics.img").write_bytes(PANICS.ljust(1 << 20, b"\0"))
    world.start(disks=[str(disk)], kvm_extra="-device pvpanic -action panic=pause")
    seen = world.node.wait("web1", state=State.CRASHED, deadline_s=PATIENCE_S)
    assert (seen.ended_by, seen.pid is not None) == (EndedBy.PANIC, True)
    assert world.node.stop("web1", force=True).stopped_by == "quit"
