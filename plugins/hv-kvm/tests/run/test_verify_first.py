"""What this node can know before a start, verify says, and the start refuses it before anything is acquired."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from world import World

import hvcore

pytestmark = pytest.mark.live


@pytest.fixture
def refusal(world: World) -> Callable[..., str]:
    """``refusal(instance)``: what verify and start both say of it; the node is left as it was."""

    def run(instance: hvcore.Instance) -> str:
        before = world.leftovers()
        with pytest.raises(hvcore.VerifyError) as said:
            world.kvm.verify(instance)
        with pytest.raises((hvcore.VerifyError, hvcore.DiskInUseError)):
            world.kvm.start(instance)
        assert world.leftovers() == before
        return str(said.value)

    return run


def test_a_hard_link_is_the_same_disk(refusal: Callable[..., str], world: World) -> None:
    path = world.disk("a.img")
    os.link(path, f"{path}.link")
    text = refusal(world.instance(disks=[path, f"{path}.link"]))
    assert "disks[1].path: is the same disk as disks[0].path" in text


def test_a_cdrom_is_not_the_disk_of_the_guest(refusal: Callable[..., str], world: World) -> None:
    path = world.disk("a.img")
    os.symlink(path, f"{path}.iso")
    text = refusal(world.instance(disks=[path], cdrom_image_path=f"{path}.iso"))
    assert "is the same disk as" in text
    assert "params.cdrom_image_path" in text


def test_a_loop_device_is_the_disk_behind_it(
    refusal: Callable[..., str], world: World, loop: Callable[[str], str]
) -> None:
    path = world.disk("a.img")
    text = refusal(world.instance(disks=[path, loop(path)]))
    assert "disks[1].path: is the same disk as disks[0].path" in text


def test_a_disk_that_the_node_has_mounted(
    refusal: Callable[..., str], world: World, loop: Callable[[str], str]
) -> None:
    path = str(Path(world.disk("a.img")).with_name("ext.img"))
    with open(path, "wb") as file:
        file.truncate(4 << 20)
    subprocess.run(["mkfs.ext4", "-q", path], check=True)
    device, place = loop(path), Path(path).with_name("mounted")
    place.mkdir()
    subprocess.run(["mount", device, place], check=True)
    world.undo.append(lambda: subprocess.run(["umount", place], check=False))
    text = refusal(world.instance(disks=[device]))
    assert f"is already in use by the host, mounted at {place}" in text


def test_a_qcow2_image_without_its_format(refusal: Callable[..., str], world: World) -> None:
    path = f"{world.disk('a.img')}.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "10M"], check=True)
    assert "its format is raw, so the guest would see and overwrite its header" in refusal(world.instance(disks=[path]))


def test_an_encrypted_qcow2_image(refusal: Callable[..., str], world: World) -> None:
    path = f"{world.disk('a.img')}.qcow2"
    secret = ["--object", "secret,id=s,data=abc", "-o", "encrypt.format=luks,encrypt.key-secret=s"]
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *secret, path, "10M"], check=True)
    instance = replace(world.instance(disks=[]), disks=(hvcore.Disk(path=path, format="qcow2"),))
    assert "is an encrypted qcow2 image (LUKS)" in refusal(instance)
