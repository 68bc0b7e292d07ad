"""Devices of a running guest: attached and detached, by records that name each half, and with nothing left after any failure."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import hvcore
from hv_kvm.machine.option import Opt
from hv_kvm.qmp import QmpClient, connect, plugging, reach
from hvcore import Disk, State
from hvcore.model.record import Change, Phase

if TYPE_CHECKING:
    from world import World

pytestmark = pytest.mark.live


def running(world: World, name: str = "web1", **more: Any) -> None:
    """A guest that has booted and lets PCI devices go."""
    world.start(name, paused=True, disks=[world.disk(f"{name}.img", lets_go=True)], **more)
    world.booted(name)


def keys(world: World, name: str = "web1") -> list[str]:
    return [entry.key for entry in world.record(name).ledger]


def in_qemu(world: World, ask: Callable[[QmpClient], Any], name: str = "web1") -> Any:
    with reach(world.dir(name), 30.0) as client:
        return ask(client)


def has(world: World) -> tuple[set[str], set[str], set[int]]:
    """The devices, block nodes and sets of descriptors that have a name of ours."""
    with reach(world.dir(), 30.0) as client:
        nodes = {node for node in plugging.block_nodes(client) if not node.startswith("#")}
        return set(plugging.devices(client)), nodes, set(plugging.fdsets(client))


def refused(world: World, path: str, name: str = "web2") -> bool:
    try:
        world.start(name, disks=[path])
    except hvcore.DiskInUseError:
        return True
    return False


def test_a_disk_comes_and_goes_and_is_free_afterwards(world: World, worlds: Callable[..., World]) -> None:
    running(world)
    more, before, had = world.disk("more.img"), keys(world), has(world)
    elsewhere = worlds(world.root, world.root / "elsewhere")
    outcome = world.node.attach("web1", Disk(path=more), deadline_s=300)
    assert (outcome.changed, outcome.device, outcome.state) == (True, "disk1", State.RUNNING)
    assert keys(world) == [*before, "disk1"]
    assert world.info().devices == {"disk0": "disks[0]", "disk1": "disks[1]"}
    assert [disk.path for disk in world.info().disks][1:] == [more]
    assert refused(world, more)
    assert refused(elsewhere, more), "QEMU alone holds the claim"
    assert not world.node.attach("web1", Disk(path=more), deadline_s=300).changed
    assert world.node.detach("web1", "disk1", deadline_s=300).changed
    assert (keys(world), has(world)) == (before, had)
    assert world.info().devices == {"disk0": "disks[0]"}
    assert elsewhere.start("web3", disks=[more]).changed
    elsewhere.node.stop("web3", force=True)
    with pytest.raises(hvcore.InputError, match="web1: has no device 'disk1'; it has disk0"):
        world.node.detach("web1", "disk1")


def test_a_disk_between_others_goes_and_no_other_one_changes(world: World) -> None:
    running(world)
    paths = [world.disk(f"more{number}.img") for number in range(3)]
    for path in paths[:2]:
        world.node.attach("web1", Disk(path=path), deadline_s=300)
    world.node.detach("web1", "disk1", deadline_s=300)
    assert world.info().devices == {"disk0": "disks[0]", "disk2": "disks[1]"}
    assert world.info().disks[1].path == paths[1]
    slots = {device["label"]: device["slot"] for device in places(world)}
    assert world.node.attach("web1", Disk(path=paths[2]), deadline_s=300).device == "disk1"
    assert world.info().devices == {"disk0": "disks[0]", "disk2": "disks[1]", "disk1": "disks[2]"}
    assert {name: slot for name, slot in ((d["label"], d["slot"]) for d in places(world)) if name != "disk1"} == slots
    rebooted = world.node.reboot("web1", force=True, deadline_s=300)
    assert rebooted.changed
    assert world.info().devices == {"disk0": "disks[0]", "disk2": "disks[1]", "disk1": "disks[2]"}
    assert {"disk0-dev", "disk1-dev", "disk2-dev"} <= has(world)[0]


def places(world: World) -> list[dict[str, Any]]:
    found = world.record().spec["devices"]
    return [{"label": f"disk{one['index']}", "slot": one["slot"]} for one in found if one["kind"] == "Disk"]


def test_a_slot_and_a_name_that_were_taken_by_hand_are_seen(world: World) -> None:
    running(world)
    used = in_qemu(world, plugging.pci_slots)
    free = next(slot for slot in range(12, 31) if slot not in used)
    by_hand = {"driver": "virtio-rng-pci", "id": "disk1-dev", "bus": "pci.0", "addr": hex(free)}
    in_qemu(world, lambda client: client.execute("device_add", by_hand))
    assert world.node.attach("web1", Disk(path=world.disk("more.img")), deadline_s=300).device == "disk2"
    assert places(world)[1]["slot"] not in {*used, free}
    assert "disk1-dev" in has(world)[0]


def test_a_guest_that_does_not_let_go_keeps_the_disk_and_a_second_detach_goes_on(world: World) -> None:
    world.pressable()
    more, before, had = world.disk("more.img"), keys(world), has(world)
    world.node.attach("web1", Disk(path=more), deadline_s=300)
    with pytest.raises(hvcore.DeadlineError, match=r"the removal of disk1.*'hv detach web1 disk1' again"):
        world.node.detach("web1", "disk1", deadline_s=0.5)
    assert world.info().state is State.RUNNING
    assert "disk1" in world.info().devices
    assert world.record().change is None
    assert refused(world, more)
    in_qemu(world, lambda client: client.execute("system_reset"))
    assert world.node.detach("web1", "disk1", deadline_s=300).changed
    assert (keys(world), has(world)) == (before, had)
    assert not refused(world, more)


def test_a_disk_that_the_guest_let_go_too_late_is_attached_again(world: World) -> None:
    """The record still has it, and the guest does not: 'already has it' would be wrong."""
    world.pressable()
    more = Disk(path=world.disk("more.img"))
    world.node.attach("web1", more, deadline_s=300)
    had = has(world)
    with pytest.raises(hvcore.DeadlineError):
        world.node.detach("web1", "disk1", deadline_s=0.5)
    in_qemu(world, lambda client: client.execute("system_reset"))
    assert "disk1-dev" not in has(world)[0]
    outcome = world.node.attach("web1", more, deadline_s=300)
    assert (outcome.changed, outcome.device) == (True, "disk1")
    assert has(world) == had
    assert not world.node.attach("web1", more, deadline_s=300).changed


def test_a_disk_that_a_paused_guest_gave_back_is_said_to_be_open_still(world: World) -> None:
    """QEMU before 9.1 closes no descriptor of a set while the guest does not run."""
    world.pressable(disk_type="scsi-hd", scsi_controller_type="virtio-scsi-pci")
    more, had = world.disk("more.img"), has(world)
    world.node.attach("web1", Disk(path=more), deadline_s=300)
    world.node.pause("web1")
    outcome = world.node.detach("web1", "disk1", deadline_s=300)
    assert bool(outcome.notes) is refused(world, more), outcome.notes
    world.node.resume("web1")
    assert has(world) == had
    assert not refused(world, more)


def test_a_scsi_disk_goes_at_once(world: World) -> None:
    world.pressable(disk_type="scsi-hd", scsi_controller_type="virtio-scsi-pci")
    before, had = keys(world), has(world)
    assert world.node.attach("web1", Disk(path=world.disk("more.img")), deadline_s=300).device == "disk1"
    assert world.node.detach("web1", "disk1", deadline_s=300).changed
    assert (keys(world), has(world)) == (before, had)


def test_the_last_scsi_target_is_used_again_and_one_more_disk_is_refused(world: World) -> None:
    paths = [world.disk("web1.img"), *(world.disk(f"more{number}.img") for number in range(6))]
    world.start(disks=paths, disk_type="scsi-hd", scsi_controller_type="lsi")
    before, had = world.record(), has(world)
    with pytest.raises(hvcore.HvError, match=r"at most 7 SCSI \(lsi\) disks|does not fit"):
        world.node.attach("web1", Disk(path=world.disk("last.img")), deadline_s=300)
    assert (world.record(), has(world)) == (before, had)
    for _ in range(2):
        assert world.node.detach("web1", "disk6", deadline_s=300).changed
        assert world.node.attach("web1", Disk(path=paths[6]), deadline_s=300).device == "disk6"
    assert has(world) == had


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {"disk_type": "ide"}, "IDE disk"),
    ({}, {"disk_type": "scsi-hd"}, "needs a scsi controller"),
    ({"path": "/nowhere.img"}, {}, "path: cannot be used"),
    ({"format": "qcow2"}, {}, "path: .*qcow2"),
]


def test_a_disk_that_cannot_be_had_is_refused_before_anything_changes(world: World) -> None:
    world.start()
    before, had = world.record(), has(world)
    for device, params, why in REFUSED:
        with pytest.raises(hvcore.VerifyError, match=why):
            world.node.attach("web1", Disk(**{"path": world.disk("more.img"), **device}), params=params, deadline_s=300)
    assert (world.record(), has(world)) == (before, had)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"machine_version": "q35"}, "q35 machine"),
        pytest.param({"acpi": False}, "acpi is false", marks=pytest.mark.slow),
    ],
)
def test_a_machine_that_takes_no_device_says_so(world: World, given: dict[str, Any], why: str) -> None:
    world.start(**given)
    before = world.record()
    with pytest.raises(hvcore.VerifyError, match=why):
        world.node.attach("web1", Disk(path=world.disk("more.img")), deadline_s=300)
    with pytest.raises(hvcore.OperationError, match=f"disk0 .*{why}.*; it stays until the instance stops"):
        world.node.detach("web1", "disk0", deadline_s=300)
    assert world.record() == before


# ------------------------------------------------------------------------------------------------------------- faults


class Before:
    """Does something before QEMU gets the option of that name, once."""

    def __init__(self, name: str, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
        self.name, self.act, self.add = name, act, plugging.add
        self.done = False
        monkeypatch.setattr(plugging, "add", self)

    def __call__(self, client: QmpClient, option: Opt, name: str, *, deadline_s: float) -> None:
        if option.name == self.name and not self.done:
            self.done = True
            self.act()
        self.add(client, option, name, deadline_s=deadline_s)


def test_a_qemu_that_hangs_in_the_middle_is_settled_when_it_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    running(world)
    before, had, pid = world.record(), has(world), world.pid()
    Before("-device", lambda: os.kill(pid, signal.SIGSTOP), monkeypatch)
    monkeypatch.setattr("hvcore.operations.devices.change._SETTLE_S", 0.2)
    with pytest.raises(hvcore.DeadlineError, match="no answer to device_add") as caught:
        world.node.attach("web1", Disk(path=world.disk("more.img")), deadline_s=1.0)
    assert "hv recover does that" in " ".join(caught.value.__notes__)
    assert world.record().change is not None
    assert "attach of disk1 was interrupted" in str(world.info().reason)
    os.kill(pid, signal.SIGCONT)
    (found,) = world.node.recover()
    assert found.what in {"finished", "undone"}, "QEMU may have got the command"
    if found.what == "finished":
        world.node.detach("web1", "disk1", deadline_s=300)
    after = world.record()
    assert replace(after, bindings=before.bindings) == before
    assert has(world) == had


def test_a_qemu_that_is_killed_in_the_middle_leaves_a_crashed_guest_and_after_it_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    running(world)
    more = world.disk("more.img")
    Before("-blockdev", world.kill, monkeypatch)
    with pytest.raises(hvcore.OperationError):
        world.node.attach("web1", Disk(path=more), deadline_s=300)
    assert world.info().state is State.CRASHED
    assert world.node.cleanup("web1").changed
    assert world.leftovers() == []
    assert not refused(world, more)


def test_a_monitor_that_another_client_holds_delays_no_attach(world: World) -> None:
    running(world)
    with connect(str(world.dir() / "qmp")):
        assert world.node.attach("web1", Disk(path=world.disk("more.img")), deadline_s=30).changed
        assert world.node.detach("web1", "disk1", deadline_s=30).changed


def detaching(world: World) -> tuple[threading.Thread, list[BaseException]]:
    """A detach in another thread, which has asked the guest and waits for it."""
    waits, errors = threading.Event(), list[BaseException]()

    def detach() -> None:
        try:
            world.node.detach("web1", "disk1", deadline_s=300, progress=lambda *_: waits.set())
        except BaseException as error:  # noqa: BLE001 - for the thread of the test
            errors.append(error)

    world.pressable()
    world.node.attach("web1", Disk(path=world.disk("more.img")), deadline_s=300)
    thread = threading.Thread(target=detach)
    thread.start()
    assert waits.wait(300)
    return thread, errors


def test_a_stop_by_force_does_not_wait_for_a_detach(world: World) -> None:
    thread, errors = detaching(world)
    outcome = world.node.stop("web1", force=True, deadline_s=300)
    thread.join(300)
    assert (outcome.changed, outcome.state) == (True, State.STOPPED)
    (error,) = errors
    assert isinstance(error, hvcore.OperationError)
    assert "web1: detach was given up for a stop by force" in str(error)
    assert world.leftovers() == []


def test_a_guest_that_is_killed_during_a_detach_is_the_reason_of_its_failure(world: World) -> None:
    thread, errors = detaching(world)
    world.kill()
    thread.join(300)
    (error,) = errors
    assert isinstance(error, hvcore.OperationError)
    assert "web1: the instance ended during detach: QEMU was killed by SIGKILL" in str(error)


def test_a_stop_by_force_ends_a_guest_that_hangs_in_the_middle_of_a_detach(world: World) -> None:
    world.pressable()
    world.node.attach("web1", Disk(path=world.disk("more.img")), deadline_s=300)
    record = world.record()
    change = Change(op="detach", device="disk1", instance=record.instance, spec=record.spec, devices=record.devices)
    world.save(replace(record, phase=Phase.CHANGING, change=change))
    os.kill(world.pid(), signal.SIGSTOP)
    assert world.node.stop("web1", force=True, deadline_s=5.0).changed
    assert world.leftovers() == []


@pytest.mark.parametrize("machine", ["pc", pytest.param("q35", marks=pytest.mark.slow)])
def test_usb_devices_come_and_go_and_a_reboot_keeps_them(world: World, machine: str) -> None:
    world.start(usb_devices="keyboard", machine_version=machine)
    before, had = world.record(), has(world)
    assert world.info().devices["usb0"] == "params.usb_devices[0]"
    for number, item in ((1, "tablet"), (2, "mouse")):
        outcome = world.node.attach("web1", hvcore.ListedDevice(param="usb_devices", item=item), deadline_s=300)
        assert (outcome.changed, outcome.device) == (True, f"usb{number}")
    assert world.node.instance("web1").params["usb_devices"] == "keyboard,tablet,mouse"
    assert world.node.detach("web1", "usb1", deadline_s=300).changed
    assert world.node.instance("web1").params["usb_devices"] == "keyboard,mouse"
    assert world.info().devices["usb2"] == "params.usb_devices[1]"
    world.node.reboot("web1", force=True, deadline_s=300)
    assert {"usb0-dev", "usb2-dev"} <= has(world)[0]
    assert world.node.detach("web1", "usb2", deadline_s=300).changed
    after = world.record()
    assert (after.spec, after.instance.params, after.params) == (before.spec, before.instance.params, before.params)
    assert has(world) == had
    with pytest.raises(hvcore.ParamsError, match="unknown item 'spoon'"):
        world.node.attach("web1", hvcore.ListedDevice(param="usb_devices", item="spoon"), deadline_s=300)


NOT_ONE: list[tuple[str, str]] = [
    ("usb_devices", ""),
    ("usb_devices", "mouse,keyboard"),
    ("usb_devices", " , "),
    ("cpu_type", "max"),
    ("vga", "std"),
]


def test_what_is_not_one_usb_device_is_refused(world: World) -> None:
    """An empty item plugged the last device a second time, and of two items only the last was plugged."""
    world.start(usb_devices="tablet")
    before, had = world.record(), has(world)
    for param, item in NOT_ONE:
        with pytest.raises(hvcore.InputError):
            world.node.attach("web1", hvcore.ListedDevice(param=param, item=item), deadline_s=300)
        assert world.record() == before
        assert has(world) == had


def test_a_guest_without_a_usb_controller_says_so(world: World) -> None:
    world.start()
    before = world.record()
    with pytest.raises(hvcore.VerifyError, match="needs a usb controller"):
        world.node.attach("web1", hvcore.ListedDevice(param="usb_devices", item="tablet"), deadline_s=300)
    with pytest.raises(hvcore.VerifyError, match="is a device of the node"):
        world.start("web2", usb_devices="host:1234:5678")
    assert world.record() == before


def test_an_attach_has_one_session_with_qemu_also_if_it_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    running(world)
    sessions: list[QmpClient] = []
    negotiate = QmpClient.negotiate

    def counted(client: QmpClient, **how: Any) -> None:
        sessions.append(client)
        negotiate(client, **how)

    monkeypatch.setattr(QmpClient, "negotiate", counted)
    assert world.node.attach("web1", Disk(path=world.disk("more.img")), deadline_s=300).changed
    with pytest.raises(hvcore.VerifyError):
        world.node.attach("web1", Disk(path=str(world.root / "missing.img")), deadline_s=300)
    assert [client.closed for client in sessions] == [True, True]
