"""QEMU hangs, is killed or exits in the middle of an operation on a guest: an error in time, and a settled instance."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from world import PATIENCE_S, World

import hvcore
from hv_kvm.qmp import QmpClient
from hvcore import Disk, State
from hvcore.model.record import Phase

pytestmark = pytest.mark.live

HANGS_S = 8.0  # also for the steps before it hangs, on a busy machine
GRACE_S = 60.0  # of a busy machine

Act = Callable[[World, float], object]


def iso(world: World) -> str:
    path = world.root / "new.iso"
    path.write_bytes(bytes(1 << 16))
    return str(path)


def more(world: World) -> Disk:
    return Disk(path=world.disk("more.img"))


OPERATIONS: Mapping[str, tuple[str, Act]] = {
    "attach": ("device_add", lambda world, s: world.node.attach("web1", more(world), deadline_s=s)),
    "detach": ("device_del", lambda world, s: world.node.detach("web1", "disk0", deadline_s=s)),
    "insert": ("add-fd", lambda world, s: world.node.insert("web1", "cdrom1", iso(world), deadline_s=s)),
    "eject": ("blockdev-remove-medium", lambda world, s: world.node.eject("web1", "cdrom1", deadline_s=s)),
    "resize": ("block_resize", lambda world, s: world.node.resize_disk("web1", "disk0", 4 << 20, deadline_s=s)),
    "balloon": ("balloon", lambda world, s: world.node.balloon("web1", 16, deadline_s=s)),
    "memory": ("qom-set", lambda world, s: world.node.resize_memory("web1", 64, deadline_s=s)),
    "vcpus": ("device_add", lambda world, s: world.node.resize_vcpus("web1", 2, deadline_s=s)),
    "pin": (
        "query-cpus-fast",
        lambda world, s: world.node.pin("web1", str(min(os.sched_getaffinity(0))), deadline_s=s),
    ),
    "reset": ("system_reset", lambda world, s: world.node.reset("web1", deadline_s=s)),
    "powerdown": ("system_powerdown", lambda world, s: world.node.powerdown("web1", deadline_s=s)),
    "screenshot": ("screendump", lambda world, s: world.node.screenshot("web1", deadline_s=s)),
}
"""For each the QMP command in its middle, and the call."""

DEFAULT = {("attach", "SIGSTOP"), ("memory", "SIGKILL"), ("eject", "quit")}
CASES = [
    pytest.param(op, fault, id=f"{op}-{fault}", marks=() if (op, fault) in DEFAULT else pytest.mark.slow)
    for op in OPERATIONS
    for fault in ("SIGKILL", "SIGSTOP", "quit")
]


class Middle:
    """Does something to QEMU before that command is sent, once."""

    def __init__(self, command: str, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached = False
        execute = QmpClient.execute

        def before(client: QmpClient, name: str, *arguments: Any, **keys: Any) -> Any:
            if name == command and not self.reached:
                self.reached = True
                act()
            return execute(client, name, *arguments, **keys)

        monkeypatch.setattr(QmpClient, "execute", before)


def started(world: World) -> None:
    (first := Path(world.root / "first.iso")).write_bytes(bytes(1 << 16))
    params: dict[str, Any] = {"cdrom_image_path": str(first), "memory_max": 96, "vcpus_max": 2, "vga": "std"}
    world.start(disks=[world.disk("web1.img", lets_go=True)], vnc_bind_address=str(world.root / "vnc"), **params)


@pytest.mark.parametrize(("op", "fault"), CASES)
def test_a_qemu_that_fails_in_the_middle_leaves_a_settled_instance(
    world: World, monkeypatch: pytest.MonkeyPatch, op: str, fault: str
) -> None:
    started(world)
    command, act = OPERATIONS[op]
    record = world.record()
    process = record.process
    assert process is not None

    def quits() -> None:
        from hv_kvm.qmp import commands, connect

        with connect(str(world.dir() / "qmp-oob"), deadline_s=PATIENCE_S) as client:
            commands.quit(client, deadline_s=PATIENCE_S)
        world.wait_ended(record)

    faults: dict[str, Callable[[], object]] = {
        "SIGKILL": world.kill,
        "SIGSTOP": lambda: os.kill(process.pid, signal.SIGSTOP),
        "quit": quits,
    }
    middle = Middle(command, faults[fault], monkeypatch)
    monkeypatch.setattr("hvcore.operations.devices.change._SETTLE_S", 0.2)
    begun = time.monotonic()
    with pytest.raises(hvcore.HvError) as caught:
        act(world, HANGS_S if fault == "SIGSTOP" else PATIENCE_S)
    took_s = time.monotonic() - begun
    monkeypatch.undo()
    assert middle.reached, caught.value
    if fault == "SIGSTOP":
        assert took_s < HANGS_S + GRACE_S
        assert world.info().state in {State.RUNNING, State.PAUSED}
        os.kill(process.pid, signal.SIGCONT)
        assert [found for found in world.node.recover() if found.what == "failed"] == []
        assert world.record().phase is Phase.RUNNING
        assert world.info().state in ({State.RUNNING, State.SHUTDOWN} if op == "powerdown" else {State.RUNNING})
        world.node.stop("web1", force=True)
    else:
        assert world.info().state in {State.CRASHED, State.SHUTDOWN}
        assert world.info().ended_by in {hvcore.EndedBy.KILLED, hvcore.EndedBy.OUTSIDE}
        assert world.node.cleanup("web1").changed
    assert world.leftovers() == []
