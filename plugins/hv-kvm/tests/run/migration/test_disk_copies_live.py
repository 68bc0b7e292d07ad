"""Migrations of real guests whose disks are not shared: each node has its own."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from moved import OVER, Side
from world import PATIENCE_S

import hvcore
import hvcore.plugin as hv
from hv_kvm.qmp import reach

pytestmark = pytest.mark.live

WAITS = frozenset({hvcore.TransferState.PRE_SWITCHOVER})
DISK_BYTES = 8 << 20


class Disks:
    """A guest with two disks on the first node, and empty ones of the same sizes on the other."""

    def __init__(self, sides: tuple[Side, Side], kind: str) -> None:
        self.one, self.other = sides
        self.kind = kind
        paths = [[str(side.world.root / f"disk{number}") for number in range(2)] for side in sides]
        (self.boot, self.data), (self.empty_boot, self.empty_data) = paths
        self.one.world.disk("disk0")
        size = Path(self.boot).stat().st_size
        with open(self.boot, "rb") as boot:
            self.bytes = boot.read()
        for path, length in ((self.empty_boot, size), (self.empty_data, DISK_BYTES), (self.data, DISK_BYTES)):
            self._make(path, length)
        if kind == "qcow2":
            Path(self.boot).unlink()
            self._make(self.boot, size)
            self._io(self.boot, "write", self.bytes)
        self._io(self.data, "write", b"D" * DISK_BYTES)

    def _make(self, path: str, length: int) -> None:
        subprocess.run(["qemu-img", "create", "-q", "-f", self.kind, path, str(length)], check=True)

    def _io(self, path: str, what: str, data: bytes) -> None:
        raw = Path(path + ".raw")
        raw.write_bytes(data)
        subprocess.run(["qemu-img", "convert", "-n", "-f", "raw", "-O", self.kind, str(raw), path], check=True)
        raw.unlink()

    def instance(self, paths: tuple[str, str]) -> hvcore.Instance:
        """The guest with these disks."""
        made = self.one.world.instance(disks=list(paths))
        return replace(made, disks=tuple(replace(disk, format=self.kind) for disk in made.disks))

    def start(self) -> None:
        """Start the guest on the first node."""
        self.one.world.kvm.start(self.instance((self.boot, self.data)), paused=True, deadline_s=PATIENCE_S)
        self.one.world.booted()

    def land(self, **wish: Any) -> hvcore.Landing:
        """Have it land on the other node, with the disks there."""
        there = self.instance((self.empty_boot, self.empty_data))
        spec = self.other.loaded.plan(there, self.other.loaded.check(there))
        offer = replace(self.one.offer(), spec=hv.encode(spec))
        assert self.other.refusals(offer, arriving=False, storage="mirror") == []
        return self.other.land(self.one, spec=spec, arriving=False, storage="mirror", **wish)

    def equal(self) -> bool:
        """Whether the disks of both nodes have the same contents."""
        pairs = ((self.boot, self.empty_boot), (self.data, self.empty_data))
        words = ("qemu-img", "compare", "-f", self.kind, "-F", self.kind)
        return all(subprocess.run([*words, *pair], check=False, capture_output=True).returncode == 0 for pair in pairs)


@pytest.mark.parametrize("kind", ["raw", pytest.param("qcow2", marks=pytest.mark.slow)])
def test_disks_are_equal_before_the_guest_runs_on_the_target(sides: tuple[Side, Side], kind: str) -> None:
    one, other = sides
    disks = Disks(sides, kind)
    disks.start()
    landing = disks.land()
    assert landing.disks == ("disk0", "disk1")
    one.send(landing)
    one.send(landing)  # again: nothing happens
    found = one.until(WAITS)
    assert (found.cpus_run, found.mirrors_ended, found.mirror_error) == (True, False, None)
    with reach(one.world.dir(), PATIENCE_S) as client:  # as the guest would
        place = "/machine/peripheral/disk1-dev/virtio-backend"
        command = {"command-line": f'qemu-io -d {place} "write -P 0x57 1M 64k"'}
        said = client.execute("human-monitor-command", command, deadline_s=PATIENCE_S)
    assert "error" not in said.lower(), said
    one.does("continue_transfer")
    found = one.until(WAITS | OVER)
    assert (found.state, found.cpus_run) == (hvcore.TransferState.PRE_SWITCHOVER, False)
    one.does("continue_transfer")
    found = one.until()
    assert (found.state, found.mirrors_ended) == (hvcore.TransferState.COMPLETED, True)
    one.does("continue_transfer")  # again: nothing happens
    other.until()
    other.run_landed()
    one.end()
    assert other.world.node.stop("web1", deadline_s=PATIENCE_S).stopped_by == "powerdown"
    assert disks.equal()
    assert kind == "qcow2" or b"DDDWWW" in Path(disks.empty_data).read_bytes()


@pytest.mark.slow
def test_a_target_that_is_killed_while_disks_are_copied_leaves_the_guest(sides: tuple[Side, Side]) -> None:
    one, other = sides
    disks = Disks(sides, "raw")
    disks.start()
    one.send(disks.land())
    one.until(WAITS)
    other.world.kill()
    with suppress(hvcore.OperationError):  # where QEMU has noticed it
        one.does("continue_transfer")
    assert one.until(OVER).state is hvcore.TransferState.FAILED
    one.does("cancel_transfer")
    assert one.transfer().cpus_run
    other.end()
    one.send(disks.land(job="j2"), bandwidth_bps=1 << 20)
    found = one.transfer()
    assert (found.state, found.cpus_run) == (hvcore.TransferState.ACTIVE, True)
    assert 0 < found.remaining_bytes <= found.total_bytes
    one.does("tune_transfer", hvcore.Tuning(bandwidth_bps=0))
    one.until(WAITS)
    one.does("cancel_transfer")
    assert one.transfer().cpus_run
    assert one.world.node.stop("web1", deadline_s=PATIENCE_S).stopped_by == "powerdown"


@pytest.mark.slow
def test_a_copy_that_breaks_off_at_the_end_cancels_the_switchover(sides: tuple[Side, Side]) -> None:
    one, other = sides
    disks = Disks(sides, "raw")
    disks.start()
    one.send(disks.land())
    one.until(WAITS)
    one.does("continue_transfer")
    assert one.until(WAITS | OVER).cpus_run is False
    other.world.kill()
    with pytest.raises(hvcore.OperationError, match="the copy of a disk to the target has failed, disk0: "):
        one.does("continue_transfer")
    found = one.transfer()
    assert (found.cpus_run, found.mirrors_ended) == (True, False)
    one.does("cancel_transfer")
    assert one.world.node.stop("web1", deadline_s=PATIENCE_S).stopped_by == "powerdown"
