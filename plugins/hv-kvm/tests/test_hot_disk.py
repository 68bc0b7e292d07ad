"""A disk for a guest that runs: acquired by a second job, given to QEMU by QMP, and free again while the guest runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
from both_forms import plug

import hvcore
from hv_kvm.devices.disk import Disk
from hv_kvm.machine.option import Opt
from hv_kvm.machine.placement import placed_beside
from hv_kvm.machine.render import render_device
from hv_kvm.machine.resource import Bindings
from hv_kvm.machine.spec import KvmSpec
from hv_kvm.qemu.probe import facts_of
from hv_kvm.qmp import QmpClient, QmpCommandError, commands, reach
from hvcore.deadline import Deadline
from hvcore.plugin import Host, Job, Level, Site
from hvcore.plugins.loader import load
from hvcore.state.store import Store

if TYPE_CHECKING:
    from world import World

pytestmark = pytest.mark.live

KEY, FDSET = "disk1", 101


@dataclass
class Second:
    """A second job on guest web1, with its monitor; and the options of the disk that it has acquired."""

    job: Job
    client: QmpClient
    spec: KvmSpec
    options: tuple[Opt, ...] = ()

    def acquire(self, path: str) -> None:
        """Everything that a second disk holds of the node. QEMU does not have it yet."""
        more = replace(self.spec.of(Disk)[0], index=1, path=path, boot_index=None)
        after = placed_beside(self.spec, more, reserved=12)
        disk = after.of(Disk)[-1]
        handles = self.job.acquire(*disk.resources(after), level=Level(self.job.record.bindings["confinement"]))
        facts = facts_of(after, self.job.host)
        self.options = render_device(load("kvm").hooks, after, facts, Bindings(handles=handles, accel="tcg"), disk)

    def plug(self, name: str, **changed: str) -> None:
        """All options of that name, such as ``-blockdev``."""
        for option in self.options:
            if option.name == name:
                plug(self.client, replace(option, props={**option.props, **changed}))

    def take_back(self) -> None:
        """Take the disk from QEMU, then release it on the node."""
        self.client.execute("blockdev-del", {"node-name": KEY})
        self.client.execute("remove-fd", {"fdset-id": FDSET})
        assert self.fdset == []
        self.job.release(KEY)

    @property
    def fdset(self) -> list[str]:
        """The names of the descriptors of its set in QEMU."""
        sets = self.client.execute("query-fdsets")
        return sorted(fd["opaque"] for row in sets if row["fdset-id"] == FDSET for fd in row["fds"])


@contextmanager
def second(world: World) -> Iterator[Second]:
    """Under the lock of guest web1. At the end of it our own descriptors are closed, as after each operation."""
    kvm, store = load("kvm"), Store(world.run_dir)
    host = Host(run_dir=world.run_dir, privileged=True, uid_pool=world.uids)
    with store.lock("web1", "hot-plug"), reach(world.dir(), 10.0) as client:
        job = Job(
            store=store,
            record=world.record(),
            site=Site(name="web1", host=host, level=Level.STRICT),
            kinds=kvm.hooks.kinds,
            deadline=Deadline(30),
            progress=lambda text: None,
        )
        try:
            yield Second(job, client, kvm.read_spec(job.record.spec))
        finally:
            job.held.close()


def keys(world: World) -> list[str]:
    return [entry.key for entry in world.record().ledger]


def refused(world: World, path: str, name: str = "web2") -> bool:
    try:
        world.start(name, disks=[path])
    except hvcore.DiskInUseError:
        return True
    return False


def test_qemu_alone_keeps_a_disk_that_was_plugged_in(root: None, world: World, worlds: Callable[..., World]) -> None:
    world.pressable()
    more = world.disk("more.img")
    with second(world) as job:
        job.acquire(more)
        assert [option.name for option in job.options] == ["-add-fd", "-add-fd", "-blockdev", "-device"]
        for name in ("-add-fd", "-blockdev", "-device"):
            job.plug(name)
        assert job.fdset == ["disk1", "disk1.claim"]
        there = {row["qdev"].split("/")[3] for row in job.client.execute("query-block") if row.get("qdev")}
        assert there == {"disk0-dev", "disk1-dev"}
    assert keys(world)[-1] == KEY
    assert refused(world, more)
    # Another run directory does not have our reservations: only the claim that QEMU holds counts there.
    elsewhere = worlds(world.root, world.root / "elsewhere")
    assert refused(elsewhere, more)
    assert world.node.stop("web1", deadline_s=300).stopped_by == "powerdown"
    assert elsewhere.start("web3", disks=[more]).changed
    elsewhere.node.stop("web3", force=True)


def test_a_disk_of_a_running_guest_is_free_again_while_it_runs(
    root: None, world: World, worlds: Callable[..., World]
) -> None:
    world.pressable()
    more, before = world.disk("more.img"), keys(world)
    with second(world) as job:
        job.acquire(more)
        assert keys(world) == [*before, KEY]
        job.plug("-add-fd")
        job.plug("-blockdev")
    assert refused(world, more)
    elsewhere = worlds(world.root, world.root / "elsewhere")
    assert refused(elsewhere, more)
    with second(world) as job:
        job.take_back()
    assert keys(world) == before
    assert elsewhere.start("web3", disks=[more]).changed
    elsewhere.node.stop("web3", force=True)
    assert world.start("web2", disks=[more]).changed
    assert world.node.stop("web1", deadline_s=300).stopped_by == "powerdown"


def test_a_disk_whose_device_qemu_refuses_is_free_again_while_the_guest_runs(root: None, world: World) -> None:
    world.pressable()
    more, before = world.disk("more.img"), keys(world)
    with second(world) as job:
        job.acquire(more)
        job.plug("-add-fd")
        job.plug("-blockdev")
        with pytest.raises(QmpCommandError, match="slot 12 function 0 not available"):
            job.plug("-device", addr="0xc")
        job.take_back()
        assert commands.query_status(job.client).running
    assert keys(world) == before
    assert world.start("web2", disks=[more]).changed


def test_a_disk_released_before_qemu_has_let_go_of_it_stays_refused(root: None, world: World) -> None:
    world.start()
    more = world.disk("more.img")
    with second(world) as job:
        job.acquire(more)
        job.plug("-add-fd")
        job.plug("-blockdev")
        job.job.release(KEY)
    assert refused(world, more)
    with second(world) as job:
        job.take_back()
    assert not refused(world, more)


def test_a_disk_of_another_guest_is_refused_and_its_entry_is_released(root: None, world: World) -> None:
    world.start("web1")
    world.start("web2")
    before, other = keys(world), str(world.root / "web2.img")
    with second(world) as job:
        with pytest.raises(hvcore.DiskInUseError, match="in use by instance web2"):
            job.acquire(other)
        assert keys(world) == [*before, KEY]
        job.job.release(KEY)
    assert keys(world) == before
    assert refused(world, other, "web3")
