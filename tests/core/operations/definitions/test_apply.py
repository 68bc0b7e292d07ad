"""What a running instance gets of its definition, and when: changes and apply agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixture_types import Web

import hvcore
from hvcore import Disk, DriverHandle, Instance, Nic, Node
from hvcore.model.definitions.live_changes import LiveChange, live_changes

A, B, C = (Disk(path=f"/srv/{name}.img") for name in "abc")


@pytest.fixture
def up(fake: DriverHandle, web: Web) -> Callable[..., Instance]:
    def start(*disks: Disk, **params: Any) -> Instance:
        made = replace(web(**params), disks=disks)
        fake.start(made)
        return made

    return start


def effects(node: Node, defined: Instance) -> dict[str, str]:
    return {one.field: str(one.effect) for one in node.changes("web1", defined)}


def test_a_disk_that_only_one_side_has_is_changed_now(node: Node, up: Callable[..., Instance]) -> None:
    defined = replace(up(A, B), disks=(A, C))
    assert effects(node, defined) == {"disks[1]": "now"}
    outcomes = node.apply("web1", defined)
    assert [(str(one.op), one.device, one.changed) for one in outcomes] == [
        ("detach", "disk1", True),
        ("attach", "disk1", True),
    ]
    assert node.instance("web1").disks == (A, C)
    assert node.changes("web1", defined) == ()
    assert node.apply("web1", defined) == ()


def test_settings_of_a_disk_that_both_have_wait_for_a_start(node: Node, up: Callable[..., Instance]) -> None:
    defined = replace(up(A), disks=(replace(A, read_only=True), B), memory_mib=256)
    assert effects(node, defined) == {"memory_mib": "start", "disks[0]": "start", "disks[1]": "now"}
    assert [one.device for one in node.apply("web1", defined)] == ["disk1"]
    assert effects(node, defined) == {"memory_mib": "start", "disks[0]": "start"}


def test_a_step_that_fails_names_those_before_it_and_another_apply_continues(
    node: Node, up: Callable[..., Instance]
) -> None:
    defined = replace(up(A, B, fail_at="attach"), disks=(A, C))
    with pytest.raises(hvcore.OperationError, match="fails on purpose") as caught:
        node.apply("web1", defined)
    assert caught.value.__notes__ == ["web1: detach of disk1 was done before"]
    assert node.instance("web1").disks == (A,)
    with pytest.raises(hvcore.OperationError, match="fails on purpose"):
        node.apply("web1", defined)


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
