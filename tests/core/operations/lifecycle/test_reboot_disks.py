"""Between the halves of a reboot nobody else gets the disks of the instance."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from sleeper import Sleeper, SleeperSpec

import hvcore
import hvcore.plugin as hv
from hvcore import DiskInUseError, Instance, State
from hvcore.deadline import Deadline
from hvcore.host.reservations import Reservations
from hvcore.operations.context import Context
from hvcore.operations.inspection.observe import observed
from hvcore.operations.lifecycle.reboot import reboot
from hvcore.operations.lifecycle.start import start
from hvcore.operations.lifecycle.stop import stop
from hvcore.plugins.loaded_driver import LoadedDriver
from hvcore.state.store import Store


@dataclass(frozen=True)
class DiskSpec:
    disk: str
    write: bool
    fails: str = ""

    @property
    def claim(self) -> hv.DiskClaim:
        return hv.DiskClaim(key="disk0", path=self.disk, write=self.write)


class WithDisk(Sleeper):
    """A guest that sleeps and has the instance's first disk. ``fails`` names a file: while it exists, no start succeeds."""

    fails: ClassVar[str] = ""

    def plan(self, instance: hv.Instance, params: hv.Params) -> DiskSpec:  # type: ignore[override]
        (disk,) = instance.disks
        return DiskSpec(disk=disk.path, write=not disk.read_only, fails=self.fails)

    def verify(self, spec: DiskSpec, host: hv.Host) -> Iterable[hv.Problem]:  # type: ignore[override]
        return self._hooks.kinds.problems([spec.claim], hv.Site(name="web1", host=host, level=hv.Level.USER))

    def start(self, spec: DiskSpec, job: hv.Job) -> None:  # type: ignore[override]
        if spec.fails and os.path.exists(spec.fails):
            raise hv.OperationError(f"{job.name}: fails on purpose")
        job.acquire(spec.claim)
        super().start(SleeperSpec(), job)


class Between:
    """An extension that acts between the halves of a reboot."""

    def __init__(self) -> None:
        self.acts: list[Callable[[], None]] = []

    @hv.hookimpl
    def after_stop(self) -> None:
        """Each act that a test has given, once: a start that fails calls this too."""
        while self.acts:
            self.acts.pop()()


class World:
    """An instance ``web1`` with a disk, and what others try between the halves of its reboot."""

    def __init__(self, load: Callable[..., LoadedDriver], run_dir: Path, tmp_path: Path) -> None:
        self.disk = tmp_path / "a.img"
        self.disk.write_bytes(bytes(4096))
        self.fails, self.run_dir, self.elsewhere = tmp_path / "fails", run_dir, run_dir.parent / "elsewhere"
        self.elsewhere.mkdir(mode=0o700, exist_ok=True)
        between = Between()
        self.acts = between.acts
        driver = type("WithDisk", (WithDisk,), {"fails": str(self.fails)})
        self.loaded = load(driver, between=between)
        self.node, self.other = self.context(run_dir), self.context(self.elsewhere)

    def context(self, run_dir: Path) -> Context:
        host = hv.Host(run_dir=run_dir, privileged=False, uid_pool=range(1_880_000_000, 1_880_000_010))
        return Context(host=host, store=Store(run_dir), driver=lambda _: self.loaded, progress=lambda _: None)

    def start(self, node: Context, name: str, *, read_only: bool = False) -> hvcore.Outcome:
        disks = (hvcore.Disk(path=str(self.disk), read_only=read_only),)
        instance = Instance(name=name, driver="fake", disks=disks)
        return start(node, self.loaded, instance, paused=False, deadline=Deadline(20))

    def reboot(self, *, force: bool = True) -> hvcore.Outcome:
        return reboot(self.node, "web1", force=force, deadline=Deadline(20), start_deadline=Deadline(20))

    def stop(self, node: Context, name: str) -> None:
        stop(node, name, force=True, deadline=Deadline(20))

    @property
    def holders(self) -> dict[str, str]:
        root = self.run_dir / "reservations"
        return {**Reservations(root / "disk").items(), **Reservations(root / "disk-readers").items()}


@pytest.fixture
def world(load: Callable[..., LoadedDriver], run_dir: Path, tmp_path: Path) -> Any:
    made = World(load, run_dir, tmp_path)
    yield made
    made.acts.clear()
    for node in (made.node, made.other):
        for name in node.store.names():
            made.stop(node, name)


@pytest.mark.parametrize("where", ["node", "other"])
@pytest.mark.parametrize("read_only", [False, True], ids=["writer", "reader"])
def test_nobody_else_gets_the_disk_between_the_halves(where: str, read_only: bool, world: World) -> None:  # noqa: FBT001
    world.start(world.node, "web1", read_only=read_only)
    tried = []

    def attempt() -> None:
        assert observed(world.node, "web1").record is None
        with pytest.raises(DiskInUseError):
            world.start(getattr(world, where), "thief")
        tried.append(where)

    world.acts.append(attempt)
    assert world.reboot().state is State.RUNNING
    assert tried == [where]
    assert list(world.holders.values()) == ["web1"]
    with pytest.raises((DiskInUseError, hvcore.VerifyError)):  # and the guest that was started holds it as before
        world.start(getattr(world, where), "thief")
    world.stop(world.node, "web1")
    assert world.holders == {}
    assert world.start(getattr(world, where), "thief").changed


def test_after_a_second_half_that_fails_the_disk_is_free_and_the_definition_is_kept(world: World) -> None:
    world.start(world.node, "web1")
    world.acts.append(world.fails.touch)
    with pytest.raises(hvcore.OperationError, match="fails on purpose"):
        world.reboot()
    assert observed(world.node, "web1").state is State.CRASHED
    assert world.holders == {}
    world.fails.unlink()
    assert world.start(world.other, "another").changed
    world.stop(world.other, "another")
    assert world.reboot().state is State.RUNNING
    assert list(world.holders.values()) == ["web1"]


def test_a_stop_that_fails_leaves_everything_as_it_was(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.start(world.node, "web1")
    before = sorted((path, os.readlink(path)) for path in (world.run_dir / "reservations" / "disk").iterdir())

    def refuse(*_: Any, **__: Any) -> str:
        raise hvcore.OperationError("web1: does not stop")

    monkeypatch.setattr(type(world.loaded.driver), "stop", refuse)
    with pytest.raises(hvcore.OperationError, match="does not stop"):
        world.reboot(force=False)
    monkeypatch.undo()
    assert observed(world.node, "web1").state is State.RUNNING
    assert before == sorted((path, os.readlink(path)) for path in (world.run_dir / "reservations" / "disk").iterdir())


def test_a_disk_that_was_replaced_is_claimed_before_the_stop(world: World, tmp_path: Path) -> None:
    """The path leads to another file now: what the start needs is that one."""
    world.start(world.node, "web1")
    world.disk.rename(tmp_path / "old.img")
    world.disk.write_bytes(bytes(4096))

    def attempt() -> None:
        with pytest.raises(DiskInUseError):
            world.start(world.other, "thief")

    world.acts.append(attempt)
    assert world.reboot().changed
    assert list(world.holders.values()) == ["web1"]
    world.stop(world.node, "web1")
    assert world.holders == {}


def test_a_replaced_disk_of_another_instance_is_refused_while_the_guest_runs(world: World, tmp_path: Path) -> None:
    world.start(world.node, "web1")
    world.disk.rename(tmp_path / "old.img")
    world.disk.write_bytes(bytes(4096))
    world.start(world.other, "another")
    with pytest.raises((DiskInUseError, hvcore.VerifyError)):
        world.reboot()
    assert observed(world.node, "web1").state is State.RUNNING
    assert list(world.holders.values()) == ["web1"]


def test_a_reboot_that_is_killed_between_its_halves_keeps_no_disk_for_ever(world: World, in_child: Any) -> None:
    world.start(world.node, "web1")

    def killed() -> None:
        world.acts.append(lambda: os.kill(os.getpid(), 9))
        world.reboot()

    assert in_child(killed) == 9
    assert world.start(world.other, "another").changed  # the lock of the kernel has ended with the operation
    world.stop(world.other, "another")
    world.stop(world.node, "web1")
    assert world.holders == {}
    assert world.node.store.names() == []
