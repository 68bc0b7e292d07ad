"""The caller is killed at the system calls of each change of a running guest. Recovery settles the change.

After it, at most one more operation leads back to what was there before, and nothing else is left.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, ClassVar, Final

import pytest
from empty_network import NEEDS_ROOT, Network, empty_network
from killed_calls import Point, killed_at, points
from nic_modes import NEEDS_PASST
from world import World

from hv_kvm.qmp import plugging, reach
from hvcore import Disk, ListedDevice, Nic, State
from hvcore.host.network.links import find_link, links
from hvcore.host.network.netlink import Netlink
from hvcore.host.network.traffic_control import transmit_limit

pytestmark = [pytest.mark.live, pytest.mark.skipif(shutil.which("strace") is None, reason="no strace: ./dev setup")]

_SAMPLE: Final = 3
_PATIENCE_S: Final = 300.0
_ROOTED: Final = (NEEDS_ROOT,)

Act = Callable[[], object]


class Changing:
    """One guest that lets devices go. Each of its ``acts`` has what leads to its beginning; `back` undoes them."""

    params: ClassVar[dict[str, Any]] = {}
    nics: ClassVar[tuple[Nic, ...]] = ()

    def __init__(self, world: World) -> None:
        self.world, self.node = world, world.node
        params: dict[str, Any] = {
            key: world.disk(value) if key.endswith("_path") else value for key, value in self.params.items()
        }
        world.start(paused=True, disks=[world.disk(lets_go=True)], nics=list(self.nics), **params)
        world.booted()
        self.before = world.node.instance("web1")

    def acts(self) -> dict[str, tuple[Act, Act]]:
        raise NotImplementedError

    def back(self) -> None:
        """What a person does to get the guest of before, if the act was carried out."""
        for device in set(self.world.info().devices) - set(self.first["devices"]):
            self.node.detach("web1", device, deadline_s=_PATIENCE_S)

    @property
    def first(self) -> dict[str, Any]:
        """What was seen before the first act."""
        if not hasattr(self, "_first"):
            self._first = self.seen()
        return self._first

    def seen(self) -> dict[str, Any]:
        """What the record, QEMU and the kernel say, and who has reserved what."""
        record = self.world.record()
        with reach(self.world.dir(), 30.0) as client:
            in_qemu = (
                sorted(plugging.devices(client)),
                sorted(node for node in plugging.block_nodes(client) if not node.startswith("#")),
                sorted(plugging.fdsets(client)),
            )
        kept = self.world.run_dir / "reservations"
        return {
            "phase": record.phase,
            "change": record.change,
            "instance": record.instance,
            "devices": record.devices,
            "ledger": sorted(entry.key for entry in record.ledger),
            "qemu": in_qemu,
            "reserved": sorted(str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_symlink()),
            "links": sorted(_about_links()),
        }

    def settled(self) -> str | None:
        """Recover, and go back; what differs from the beginning."""
        for found in self.node.recover():
            if found.what == "failed":
                return f"recovery failed: {found.detail}"
        if self.world.info().state is not State.RUNNING:
            return f"is {self.world.info().state}"
        self.back()
        now = self.seen()
        wrong = {key: (now[key], self.first[key]) for key in now if now[key] != self.first[key]}
        return "\n".join(["differs:", *(f"{key}: {one}" for key, one in wrong.items())]) if wrong else None


def _about_links() -> Iterator[tuple[Any, ...]]:
    """The links of this network namespace with their bridges and limits; but for what hvcore needs of the node's own."""
    with Netlink() as netlink:
        for link in links(netlink):
            if link.name.startswith("hv"):
                bridge = find_link(netlink, link.master) if link.master else None
                yield link.name, link.up, link.mtu, bridge.name if bridge else None, transmit_limit(netlink, link.index)


def _nothing() -> None:
    pass


class _Plugging(Changing):
    device: ClassVar[str]

    def new(self) -> Disk | Nic | ListedDevice:
        raise NotImplementedError

    def acts(self) -> dict[str, tuple[Act, Act]]:
        added = self.new()

        def attach() -> object:
            return self.node.attach("web1", added, deadline_s=_PATIENCE_S)

        def detach() -> object:
            return self.node.detach("web1", self.device, deadline_s=_PATIENCE_S)

        return {"attach": (attach, _nothing), "detach": (detach, attach)}


class DiskPlugging(_Plugging):
    device = "disk1"

    def new(self) -> Disk:
        return Disk(path=self.world.disk("more.img"))


class BridgedPlugging(_Plugging):
    device = "nic0"

    def new(self) -> Nic:
        return Nic(mode="bridged", link="br0", mac="aa:00:00:4b:c1:01", bandwidth_from_guest=8_000_000, connected=False)


class PasstPlugging(_Plugging):
    device = "nic0"
    params: ClassVar = {"user_network": "passt"}

    def new(self) -> Nic:
        return Nic(mode="user", mac="aa:00:00:4b:c1:01", forward=("127.0.0.1:2222:22",))


class UsbPlugging(_Plugging):
    device = "usb1"
    params: ClassVar = {"usb_devices": "tablet"}

    def new(self) -> ListedDevice:
        return ListedDevice(param="usb_devices", item="keyboard")


class Media(Changing):
    params: ClassVar = {"cdrom_image_path": "a.iso"}

    def acts(self) -> dict[str, tuple[Act, Act]]:
        second = self.world.disk("b.iso")
        return {
            "insert": (lambda: self.node.insert("web1", "cdrom1", second, deadline_s=_PATIENCE_S), _nothing),
            "eject": (lambda: self.node.eject("web1", "cdrom1", deadline_s=_PATIENCE_S), _nothing),
        }

    def back(self) -> None:
        self.node.insert("web1", "cdrom1", self.before.params["cdrom_image_path"], deadline_s=_PATIENCE_S)


class Modifying(Changing):
    nics = (Nic(mode="bridged", link="br0", mac="aa:00:00:4b:c1:01", bandwidth_to_guest=8_000_000),)
    other: ClassVar[dict[str, Any]] = {"link": "br1", "bandwidth_to_guest": "16M", "bandwidth_from_guest": "8M"}

    def acts(self) -> dict[str, tuple[Act, Act]]:
        def modify() -> object:
            return self.node.modify("web1", "nic0", {**self.other, "connected": False}, deadline_s=_PATIENCE_S)

        return {"modify": (modify, _nothing)}

    def back(self) -> None:
        row = self.before.nics[0]
        self.node.modify("web1", "nic0", {key: getattr(row, key) for key in (*self.other, "connected")})


class Applying(Changing):
    nics = Modifying.nics
    params: ClassVar = {"usb_devices": "tablet", "vcpus_max": 2}

    def acts(self) -> dict[str, tuple[Act, Act]]:
        disk = Disk(path=self.world.disk("more.img"))
        defined = replace(
            self.before,
            disks=(*self.before.disks, disk),
            nics=(replace(self.nics[0], link="br1"),),
            params={**self.before.params, "usb_devices": "keyboard"},
        )
        return {"apply": (lambda: self.node.apply("web1", defined, deadline_s=_PATIENCE_S), _nothing)}

    def back(self) -> None:
        assert all(one.done for one in self.node.apply("web1", self.before, deadline_s=_PATIENCE_S))


CASES: Final = [
    pytest.param(kind, op, id=f"{op} {kind.__name__}", marks=marks)
    for kind, ops, marks in (
        (DiskPlugging, ("attach", "detach"), ()),
        (BridgedPlugging, ("attach", "detach"), _ROOTED),
        (PasstPlugging, ("attach", "detach"), (*_ROOTED, NEEDS_PASST)),
        (UsbPlugging, ("attach", "detach"), ()),
        (Media, ("insert", "eject"), ()),
        (Modifying, ("modify",), _ROOTED),
        (Applying, ("apply",), _ROOTED),
    )
    for op in ops
]


@pytest.fixture
def changing(kind: type[Changing], world: World) -> Iterator[Changing]:
    """The guest, in a network namespace with two bridges, and an uplink for passt. As an ordinary user in that of the node."""
    if os.geteuid() != 0:
        yield kind(world)
        return
    with empty_network() as net:
        _prepare(net)
        yield kind(world)
        for info in world.node.instances():
            world.node.stop(info.name, force=True)


def _prepare(net: Network) -> None:
    net.bridge()
    net.bridge("br1", "mtu", "1400")
    net.ip("link", "add", "up0", "type", "veth", "peer", "name", "wire0")
    for name in ("up0", "wire0"):
        net.ip("link", "set", name, "up")
    net.ip("addr", "add", "198.51.100.2/24", "dev", "up0")
    net.ip("route", "add", "default", "via", "198.51.100.1")


def sweep(changing: Changing, chosen: list[Point], act: Act, before: Act) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    failures = []
    for point in chosen:
        before()
        outcomes["killed" if killed_at(point, act) else "not reached"] += 1
        wrong = changing.settled()
        if wrong is not None:
            failures.append(f"{point}: {wrong}")
    assert not failures, "\n".join(failures)
    return outcomes


def every_point(changing: Changing, act: Act, before: Act) -> list[Point]:
    assert changing.first
    before()
    found = points(act, changing.world.root)
    assert changing.settled() is None
    assert len(found) > 20, found
    return found


@pytest.mark.parametrize(("kind", "op"), CASES)
def test_a_caller_killed_at_some_calls_leaves_a_change_that_recovery_settles(changing: Changing, op: str) -> None:
    act, before = changing.acts()[op]
    every = every_point(changing, act, before)
    step = len(every) // _SAMPLE
    sweep(changing, every[step // 2 :: step], act, before)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("kind", "op"), CASES)
def test_a_caller_killed_at_any_call_leaves_a_change_that_recovery_settles(
    changing: Changing, op: str, capsys: pytest.CaptureFixture[str]
) -> None:
    act, before = changing.acts()[op]
    every = every_point(changing, act, before)
    outcomes = sweep(changing, every, act, before)
    with capsys.disabled():
        sys.stdout.write(f"\n  {op} {type(changing).__name__}: killed at {len(every)} calls: {dict(outcomes)}\n")
