"""The media in the drives of a running guest, and the size of its disks."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import hvcore
from hv_kvm.qmp import plugging, reach
from hvcore import Disk, State
from hvcore.model.record import Change, Phase
from hvcore.plugin import Hooks

if TYPE_CHECKING:
    from world import World

pytestmark = pytest.mark.live


def image(world: World, name: str) -> str:
    path = world.root / name
    path.write_bytes(bytes(1 << 16))
    return str(path)


def in_drive(world: World, drive: str = "cdrom1") -> str | None:
    with reach(world.dir(), 30.0) as client:
        if plugging.medium(client, f"{drive}-dev") is None:
            return None
        names = {name for names in plugging.names_in_fdsets(client).values() for name in names}
    found = sorted(name.removeprefix(f"{drive}:") for name in names if name.partition(":")[0] == drive)
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(
    ("drive", "param", "more"),
    [
        ("cdrom1", "cdrom_image_path", {}),
        ("cdrom1", "cdrom_image_path", {"cdrom_disk_type": "scsi-cd"}),
        ("floppy1", "floppy_image_path", {}),
    ],
)
def test_a_medium_is_changed_ejected_and_inserted_and_a_reboot_keeps_it(
    world: World, drive: str, param: str, more: dict[str, Any]
) -> None:
    first, second, third = (image(world, f"{name}.iso") for name in "abc")
    given: dict[str, Any] = {param: first, **more}
    world.start(**given)
    ledger = world.record().ledger
    assert world.info().devices[drive] == f"params.{param}"
    assert world.node.insert("web1", drive, second, deadline_s=300).changed
    assert in_drive(world, drive) == second
    assert not world.node.insert("web1", drive, second, deadline_s=300).changed
    assert world.node.instance("web1").params[param] == second
    assert world.node.eject("web1", drive, deadline_s=300).changed
    assert in_drive(world, drive) is None
    assert not world.node.eject("web1", drive, deadline_s=300).changed
    world.node.reboot("web1", force=True, deadline_s=300)
    assert in_drive(world, drive) is None
    assert world.node.insert("web1", drive, third, deadline_s=300).changed
    assert in_drive(world, drive) == third
    world.node.reboot("web1", force=True, deadline_s=300)
    assert in_drive(world, drive) == drive, "opened at the start"
    assert next(one for one in world.record().spec["devices"] if third in one.values())
    assert [entry.key for entry in world.record().ledger] == [entry.key for entry in ledger]


def size_in_drive(world: World) -> int | None:
    """The size of the image that QEMU has open for the drive."""
    with reach(world.dir(), 30.0) as client:
        for row in client.execute("query-block"):
            if row.get("qdev") == "cdrom1-dev":
                return None if "inserted" not in row else int(row["inserted"]["image"]["virtual-size"])
    raise LookupError("cdrom1-dev")


def test_a_paused_guest_gets_the_image_that_was_inserted_last(world: World) -> None:
    """QEMU 7.2 keeps the descriptors of what was taken out until the guest runs: the third insert changed nothing."""
    sizes = (1 << 16, 1 << 17, 1 << 18)
    first, second, third = (image(world, f"{name}.iso") for name in "abc")
    for path, size in zip((first, second, third), sizes, strict=True):
        os.truncate(path, size)
    world.start(cdrom_image_path=first)
    world.node.pause("web1")
    for path, size in ((second, sizes[1]), (third, sizes[2]), (second, sizes[1]), (first, sizes[0])):
        assert world.node.insert("web1", "cdrom1", path, deadline_s=300).changed
        assert size_in_drive(world) == size
        assert not world.node.insert("web1", "cdrom1", path, deadline_s=300).changed
    world.node.eject("web1", "cdrom1", deadline_s=300)
    assert size_in_drive(world) is None
    world.node.insert("web1", "cdrom1", third, deadline_s=300)
    world.node.resume("web1")
    assert size_in_drive(world) == sizes[2]
    with reach(world.dir(), 30.0):
        """QEMU closes what it has kept at the end of a session."""
    assert in_drive(world) == third


def test_a_medium_that_cannot_be_used_leaves_the_old_one_in(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = image(world, "a.iso"), image(world, "b.iso")
    world.start(cdrom_image_path=first)
    before = world.record()
    with pytest.raises(hvcore.VerifyError, match="cannot be used"):
        world.node.insert("web1", "cdrom1", str(world.root / "nothing.iso"), deadline_s=300)
    assert (world.record(), in_drive(world)) == (before, "cdrom1")
    add: Callable[..., None] = plugging.add

    def gone(client: Any, option: Any, name: str, *, deadline_s: float) -> None:
        if option.name == "-blockdev" and "cdrom1:" in str(plugging.names_in_fdsets(client)) and tries:
            tries.pop()
            option = replace(option, props={**option.props, "driver": "no-such-driver"})
        add(client, option, name, deadline_s=deadline_s)

    tries = [1]
    monkeypatch.setattr(plugging, "add", gone)
    with pytest.raises(hvcore.OperationError, match="no-such-driver"):
        world.node.insert("web1", "cdrom1", second, deadline_s=300)
    assert in_drive(world) == first, "it was put back"
    assert world.record() == before
    with pytest.raises(hvcore.OperationError, match="disk0 has no medium to change"):
        world.node.insert("web1", "disk0", second, deadline_s=300)


@pytest.mark.parametrize("step", ["nothing done", "taken out", "inserted"])
def test_an_interrupted_change_of_a_medium_is_settled(world: World, step: str) -> None:
    first, second = image(world, "a.iso"), image(world, "b.iso")
    world.start(cdrom_image_path=first)
    before = world.record()
    world.node.insert("web1", "cdrom1", second, deadline_s=300)
    after = world.record()
    if step != "inserted":
        world.node.insert("web1", "cdrom1", first, deadline_s=300)
    if step == "taken out":
        with reach(world.dir(), 30.0) as client:
            client.execute("blockdev-open-tray", {"id": "cdrom1-dev"})
            client.execute("blockdev-remove-medium", {"id": "cdrom1-dev"})
    change = Change(
        op="insert",
        device="cdrom1",
        instance=after.instance,
        spec=after.spec,
        params=after.params,
        devices=after.devices,
    )
    world.save(replace(before, phase=Phase.CHANGING, change=change))
    (found,) = world.node.recover()
    assert found.what == ("finished" if step == "inserted" else "undone"), found
    assert in_drive(world) == (second if step == "inserted" else first)
    assert world.record() == (after if step == "inserted" else before)
    assert world.node.recover() == []


def test_a_disk_grows_and_never_shrinks_unless_told(world: World) -> None:
    world.start()
    path = str(world.root / "web1.img")
    assert os.path.getsize(path) == 1 << 20
    outcome = world.node.resize_disk("web1", "disk0", 3 << 20, deadline_s=300)
    assert (outcome.changed, outcome.device, outcome.state) == (True, "disk0", State.RUNNING)
    assert os.path.getsize(path) == 3 << 20
    assert not world.node.resize_disk("web1", "disk0", 3 << 20, deadline_s=300).changed
    with pytest.raises(hvcore.InputError, match="would be lost: add --shrink"):
        world.node.resize_disk("web1", "disk0", 2 << 20, deadline_s=300)
    with pytest.raises(hvcore.InputError, match="multiple of 512"):
        world.node.resize_disk("web1", "disk0", 1000, deadline_s=300)
    assert os.path.getsize(path) == 3 << 20
    assert world.node.resize_disk("web1", "disk0", 2 << 20, shrink=True, deadline_s=300).changed
    assert os.path.getsize(path) == 2 << 20
    more = world.disk("more.img")
    world.node.attach("web1", Disk(path=more), deadline_s=300)
    assert world.node.resize_disk("web1", "disk1", 4 << 20, deadline_s=300).changed
    assert Path(more).stat().st_size == 4 << 20


DEFINITION = """name = "web1"
driver = "kvm"
memory_mib = 32

[params]
kvm_flag = "disabled"
usb_devices = "tablet"
cdrom_image_path = "{image}"
"""


def test_media_and_usb_devices_are_saved_in_the_definition_too(world: World, tmp_path: Path) -> None:
    first, second = image(world, "a.iso"), image(world, "b.iso")
    node = hvcore.Node(world.run_dir, config_dir=tmp_path / "config", uid_pool=world.uids)
    text = DEFINITION.format(image=first)
    node.definitions.define_text(text, subject="text", directory=None)
    node.start(node.definitions.instance("web1"), source=node.definitions.path("web1"), deadline_s=300)
    assert node.insert("web1", "cdrom1", second, save=True, deadline_s=300).notes == ()
    assert node.definitions.text("web1") == text.replace(first, second)
    assert node.eject("web1", "cdrom1", save=True, deadline_s=300).notes == ()
    assert "cdrom_image_path = " not in node.definitions.text("web1")
    assert node.insert("web1", "cdrom1", first, save=True, deadline_s=300).notes == ()
    keyboard = hvcore.ListedDevice(param="usb_devices", item="keyboard")
    added = node.attach("web1", keyboard, save=True, deadline_s=300)
    assert (added.device, added.notes) == ("usb1", ())
    assert node.definitions.text("web1") == text.replace('"tablet"', '"tablet,keyboard"')
    assert node.changes("web1") == ()
    assert node.detach("web1", "usb0", save=True, deadline_s=300).notes == ()
    assert node.definitions.text("web1") == text.replace('"tablet"', '"keyboard"')
    assert node.detach("web1", "usb1", save=True, deadline_s=300).notes == ()
    assert "usb_devices = " not in node.definitions.text("web1")
    assert node.changes("web1") == ()
    node.definitions.define_text(text, subject="text", directory=None, replace=True)
    node.attach("web1", keyboard, deadline_s=300)
    (note,) = node.detach("web1", "usb0", save=True, deadline_s=300).notes
    assert "does not have the device" in note


def test_a_plugin_is_asked_before_a_disk_is_resized_or_a_medium_changed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    each: Callable[..., Any] = Hooks.each

    def refuses(self: Hooks, name: str, **given: Any) -> Any:
        if name == "before_change":
            asked.append(f"{given['op']} {given['device']}")
            raise hvcore.OperationError("web1: not today; try tomorrow")
        return each(self, name, **given)

    monkeypatch.setattr(Hooks, "each", refuses)
    world.start(cdrom_image_path=image(world, "a.iso"))
    before = world.record()
    acts: list[Callable[[], object]] = [
        lambda: world.node.resize_disk("web1", "disk0", 3 << 20),
        lambda: world.node.eject("web1", "cdrom1"),
        lambda: world.node.insert("web1", "cdrom1", image(world, "b.iso")),
    ]
    for act in acts:
        with pytest.raises(hvcore.OperationError, match="not today"):
            act()
    assert asked == ["resize disk0", "eject cdrom1", "insert cdrom1"]
    assert (world.record(), in_drive(world), os.path.getsize(world.root / "web1.img")) == (before, "cdrom1", 1 << 20)


def test_an_eject_that_was_interrupted_after_the_medium_was_out_frees_the_image(world: World) -> None:
    path = image(world, "a.iso")
    world.start(cdrom_image_path=path)
    before = world.record()
    world.node.eject("web1", "cdrom1", deadline_s=300)
    after = world.record()
    world.node.insert("web1", "cdrom1", path, deadline_s=300)
    held = world.record().ledger
    with reach(world.dir(), 30.0) as client:
        for command in ("blockdev-open-tray", "blockdev-remove-medium"):
            client.execute(command, {"id": "cdrom1-dev"})
    change = Change(
        op="eject",
        device="cdrom1",
        instance=after.instance,
        spec=after.spec,
        params=after.params,
        devices=after.devices,
    )
    world.save(replace(before, phase=Phase.CHANGING, change=change, ledger=held))
    (found,) = world.node.recover()
    assert found.what == "finished"
    with reach(world.dir(), 30.0) as client:
        assert "cdrom1" not in plugging.block_nodes(client)
        assert not [name for name in map(str, plugging.names_in_fdsets(client)) if name.startswith("cdrom1")]
    assert [entry.key for entry in world.record().ledger] == [entry.key for entry in after.ledger]
    assert world.node.insert("web1", "cdrom1", path, deadline_s=300).changed
    assert in_drive(world) == path
