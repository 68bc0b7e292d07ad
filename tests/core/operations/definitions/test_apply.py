"""What a running instance gets of its definition, and when: changes and apply agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fixture_types import Web

import hvcore
from hvcore import Disk, DriverHandle, Instance, Nic, Node
from hvcore.model.definitions.live_changes import LiveChange, listed_changes, live_changes, media_fields

A, B, C = (Disk(path=f"/srv/{name}.img") for name in "abc")


def effects(node: Node, defined: Instance) -> dict[str, str]:
    return {one.field: str(one.effect) for one in node.changes("web1", defined)}


def test_a_disk_that_only_one_side_has_is_changed_now(node: Node, up: Callable[..., Instance]) -> None:
    defined = replace(up(A, B), disks=(A, C))
    assert effects(node, defined) == {"disks[1]": "now"}
    assert [(str(one.op), one.field, one.device, one.done) for one in node.apply("web1", defined)] == [
        ("detach", "disks[1]", "disk1", True),
        ("attach", "disks[1]", "disk1", True),
    ]
    assert node.instance("web1").disks == (A, C)
    assert node.changes("web1", defined) == ()
    assert node.apply("web1", defined) == ()


def test_settings_of_a_disk_that_both_have_wait_for_a_start(node: Node, up: Callable[..., Instance]) -> None:
    defined = replace(up(A), disks=(replace(A, read_only=True), B), tags=("db",))
    assert effects(node, defined) == {"tags": "start", "disks[0]": "start", "disks[1]": "now"}
    assert [one.device for one in node.apply("web1", defined)] == ["disk1"]
    assert effects(node, defined) == {"tags": "start", "disks[0]": "start"}


def test_sizes_and_settings_that_the_driver_can_change_are_changed_now(node: Node, up: Callable[..., Instance]) -> None:
    defined = replace(up(A, B), disks=(A, replace(B, cache="none")), memory_mib=256, vcpus=3)
    assert effects(node, defined) == {"memory_mib": "now", "vcpus": "now", "disks[1]": "now"}
    assert [(str(one.op), one.field, one.device, one.done) for one in node.apply("web1", defined)] == [
        ("modify", "disks[1]", "disk1", True),
        ("memory", "memory_mib", None, True),
        ("vcpus", "vcpus", None, True),
    ]
    assert (node.info("web1").memory_mib, node.info("web1").vcpus, node.info("web1").disks) == (256, 3, defined.disks)
    assert node.changes("web1", defined) == ()


def test_a_size_beyond_what_the_instance_can_get_waits_for_a_start(node: Node, up: Callable[..., Instance]) -> None:
    defined = replace(up(A), vcpus=65, memory_mib=256)
    assert effects(node, defined) == {"memory_mib": "now", "vcpus": "start"}


def test_a_disk_with_a_setting_that_cannot_change_waits_as_a_whole(node: Node, up: Callable[..., Instance]) -> None:
    defined = replace(up(A), disks=(replace(A, cache="none", read_only=True),))
    assert effects(node, defined) == {"disks[0]": "start"}
    assert node.apply("web1", defined) == ()
    assert node.info("web1").disks == (A,)


def test_a_change_that_fails_does_not_stop_the_others(node: Node, up: Callable[..., Instance]) -> None:
    defined = replace(up(A, B, fail_at="attach"), disks=(A, C), vcpus=2)
    found = node.apply("web1", defined)
    assert [(str(one.op), one.device, one.done) for one in found] == [
        ("detach", "disk1", True),
        ("attach", None, False),
        ("vcpus", None, True),
    ]
    assert isinstance(found[1].error, hvcore.OperationError)
    assert found[1].to_json()["message"] == str(found[1].error)
    assert (node.instance("web1").disks, node.instance("web1").vcpus) == ((A,), 2)
    assert [(str(one.op), one.done) for one in node.apply("web1", defined)] == [("attach", False)]


def test_rows_that_only_move_up_are_changed_now_and_another_order_waits(
    node: Node, up: Callable[..., Instance]
) -> None:
    up(A, B, C)
    running = node.instance("web1")
    shorter = replace(running, disks=(B, replace(C, cache="none")))
    assert set(effects(node, shorter).values()) == {"now"}
    turned = replace(running, disks=(B, A, C))
    assert effects(node, turned) == {"disks[0]": "start", "disks[1]": "start"}
    assert node.apply("web1", turned) == ()
    assert [str(one.op) for one in node.apply("web1", shorter)] == ["detach", "modify"]
    assert node.changes("web1", shorter) == ()


def test_a_paused_instance_keeps_its_size_and_the_result_says_so(node: Node, up: Callable[..., Instance]) -> None:
    defined = replace(up(A), disks=(A, B), memory_mib=256)
    node.pause("web1")
    attached, sized = node.apply("web1", defined)
    assert attached.done
    assert isinstance(sized.error, hvcore.StateError)


NAMES = {"usb0": "params.usb_devices[0]", "usb1": "params.usb_devices[1]", "cdrom1": "params.cdrom_image_path"}


@pytest.mark.parametrize(
    ("before", "after", "devices", "items"),
    [
        ("tablet,keyboard", "keyboard", ["usb0"], []),
        ("tablet,keyboard", "tablet,keyboard,mouse", [], ["mouse"]),
        ("tablet,tablet", "tablet", ["usb1"], []),
        ("tablet,keyboard", "mouse, mouse", ["usb1", "usb0"], ["mouse", "mouse"]),
        ("tablet,keyboard", None, ["usb1", "usb0"], []),
        ("tablet,keyboard", "keyboard,tablet", [], []),  # only another order
    ],
)
def test_devices_of_a_list_come_and_go(before: str, after: str | None, devices: list[str], items: list[str]) -> None:
    found = listed_changes("usb_devices", before, after, NAMES)
    assert [one.device for one in found if one.device is not None] == devices
    assert [one.added.item for one in found if isinstance(one.added, hvcore.ListedDevice)] == items
    assert media_fields(NAMES) == {"cdrom_image_path": "cdrom1"}


def test_a_nic_is_known_by_its_address() -> None:
    first, second = Nic(mac="aa:00:00:00:00:01"), Nic(mac="aa:00:00:00:00:02")
    running = Instance(name="w", driver="kvm", nics=(first, second))
    defined = replace(running, nics=(second, Nic(mode="bridged", link="br0")))
    new = defined.with_macs().nics[1]
    assert live_changes(running, defined, {"nic0": "nics[0]", "nic1": "nics[1]"}) == (
        LiveChange(field="nics[0]", device="nic0"),
        LiveChange(field="nics[1]", added=new),
    )
    assert live_changes(running, defined, {}) == (), "the driver changes no device"


def test_a_nic_of_which_only_keys_differ_that_can_change_is_modified() -> None:
    running = Instance(name="w", driver="kvm", nics=(Nic(mode="bridged", link="br0"),))
    defined = replace(running, nics=(replace(running.nics[0], link="br1", connected=False),))
    names = {"nic0": "nics[0]"}
    assert live_changes(running, defined, names, lambda _: ("link", "connected")) == (
        LiveChange(field="nics[0]", device="nic0", values={"link": "br1", "connected": False}),
    )
    assert live_changes(running, defined, names, lambda _: ("link",)) == ()


def test_addresses_that_were_written_down_are_no_change(node: Node) -> None:
    made = Instance(name="w", driver="kvm", nics=(Nic(), Nic()))
    assert live_changes(made.with_macs(), made, {"nic0": "nics[0]", "nic1": "nics[1]"}) == ()


# ------------------------------------------------------------------------------------------- saved in the definition too


DEFINITION = 'name = "web1"\ndriver = "fake"\n\n# the system\n[[disks]]\npath = "/srv/a.img"\n'


@pytest.fixture
def defining(run_dir: Path, tmp_path: Path) -> Node:
    node = Node(run_dir, config_dir=tmp_path / "config")
    node.definitions.define_text(DEFINITION, subject="text", directory=None)
    node.start(node.definitions.instance("web1"), source=node.definitions.path("web1"))
    return node


def test_a_device_that_is_saved_comes_and_goes_in_the_definition_too(defining: Node) -> None:
    outcome = defining.attach("web1", Disk(path="/srv/b.img", read_only=True), save=True)
    assert outcome.notes == ()
    text = defining.definitions.text("web1")
    assert text == f'{DEFINITION}\n[[disks]]\npath = "/srv/b.img"\nread_only = true\n'
    assert defining.changes("web1") == ()
    assert defining.detach("web1", outcome.device or "", save=True).notes == ()
    assert defining.definitions.text("web1").strip() == DEFINITION.strip()
    assert defining.changes("web1") == ()


def test_what_cannot_be_saved_is_a_note_and_an_instance_without_a_definition_is_refused_first(
    defining: Node, fake: DriverHandle, web: Web
) -> None:
    inline = 'name = "web1"\ndriver = "fake"\ndisks = [{path = "/srv/a.img"}]\n'
    defining.definitions.define_text(inline, subject="text", directory=None, replace=True)
    outcome = defining.attach("web1", B, save=True)
    assert outcome.changed
    assert "its definition was not changed: " in outcome.notes[0]
    assert defining.definitions.text("web1") == inline
    fake.start(web("web2"))
    with pytest.raises(hvcore.InputError, match="web2: has no definition to save the device in"):
        defining.attach("web2", B, save=True)
    assert defining.info("web2").devices == {}
