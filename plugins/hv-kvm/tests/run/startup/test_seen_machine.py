"""What a real guest sees: the same list before its start and while it runs, with the words of its own CPU."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from world import World

import hvcore
from hv_kvm.qmp import connect
from hv_kvm.qmp.introspect import query_feature_words

pytestmark = pytest.mark.live


def test_the_list_of_a_running_guest_is_the_one_that_was_planned(world: World) -> None:
    disk = world.disk("first")
    instance = world.instance(disks=[disk], cpu_type="Nehalem")
    planned = world.node.abi(instance)
    world.kvm.start(instance)
    running = world.node.abi("web1")
    assert running.entries == planned.entries
    assert running.at_start == running.digests
    assert running.changed == ()
    with connect(str(world.dir() / "qmp"), deadline_s=10) as client:
        words = query_feature_words(client, deadline_s=10)
    own = {entry.key: int(entry.value, 16) for entry in running.entries if entry.key.startswith("cpuid")}
    assert own == {register: word for register, word in words.items() if word}
    assert {entry.value for entry in running.entries if entry.key == "size" and "device" in entry.what} == {
        str(Path(disk).stat().st_size)
    }


def test_another_cpu_and_another_disk_are_seen(world: World) -> None:
    disk = world.disk("first")
    one, other = (world.node.abi(world.instance(disks=[disk], cpu_type=model)) for model in ("qemu64", "max"))
    with open(disk, "r+b") as file:
        file.truncate(Path(disk).stat().st_size * 2)
    larger = world.node.abi(world.instance(disks=[disk], cpu_type="max"))
    assert {change.what for change in hvcore.abi_changes(one, other)} == {"cpu"}
    assert "cpuid 0x7.0 ebx" in {change.key for change in hvcore.abi_changes(one, other)}
    assert [change.key for change in hvcore.abi_changes(other, larger)] == ["size"]


def test_a_disk_that_is_attached_is_not_what_the_start_had(world: World) -> None:
    world.start()
    path = world.root / "more.img"
    path.write_bytes(bytes(1 << 20))
    world.node.attach("web1", hvcore.Disk(path=str(path)))
    assert {"wire", "name"} <= set(world.node.abi("web1").changed)


def test_a_guest_whose_qemu_was_replaced_is_compared_with_the_one_that_it_runs_in(world: World) -> None:
    installed, own = "/usr/bin/qemu-system-x86_64", world.root / "bin/qemu"
    own.parent.mkdir()
    for folder in ("lib", "share"):  # QEMU looks for its modules and its firmware beside itself
        (world.root / folder).symlink_to(f"/usr/{folder}")
    shutil.copy(installed, own)
    world.kvm.start(world.instance(kvm_path=str(own)))
    own.unlink()
    own.write_text("#!/bin/sh\nexit 1\n")
    own.chmod(0o755)
    (check,) = world.node.upgrade_checks(installed, "web1", driver="kvm")
    assert (check.verdict, check.running, check.reasons) == (hvcore.UpgradeVerdict.SAME, True, ())
    with pytest.raises(hvcore.InputError, match="instead of answering"):
        list(world.node.upgrade_checks(str(own), "web1", driver="kvm"))
