"""What this node can know before a start, verify says, and the start refuses it before anything is acquired."""

from __future__ import annotations

import os
import socket
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
    secret = ["--object", "secret,id=s,data=abc", "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"]
    make = ["qemu-img", "create", "-q", "-f", "qcow2", *secret, path, "10M"]
    # It measures its own speed, and fails now and then.
    while b"accurate CPU usage" in (made := subprocess.run(make, stderr=subprocess.PIPE, check=False)).stderr:
        pass
    made.check_returncode()
    instance = replace(world.instance(disks=[]), disks=(hvcore.Disk(path=path, format="qcow2"),))
    assert "is an encrypted qcow2 image (LUKS)" in refusal(instance)


@pytest.fixture
def port() -> int:
    """A free port above 5900, which VNC counts from."""
    for number in range(6900, 7900):
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", number)) != 0:
                return number
    pytest.skip("no free port here")


def test_the_place_of_a_display(refusal: Callable[..., str], world: World, port: int, tmp_path: Path) -> None:
    assert "cannot be opened at 192.0.2.1" in refusal(world.instance(vnc_bind_address="192.0.2.1"))
    with socket.create_server(("127.0.0.1", port)):
        text = refusal(world.instance(vnc_bind_address="127.0.0.1", vnc_port=port))
    assert f"params.vnc_port: cannot be opened at 127.0.0.1 (address already in use), got {port}" in text
    gone = str(tmp_path / "gone" / "vnc")
    assert "which is not a directory of this node" in refusal(world.instance(vnc_bind_address=gone))


def test_a_guest_keeps_its_port_and_its_memory_in_a_reboot(world: World, port: int) -> None:
    world.start(vnc_bind_address="127.0.0.1", vnc_port=port)
    assert world.node.reboot("web1", force=True).changed
    assert world.record().bindings["vnc"] == f"127.0.0.1:{port}"


def test_memory_that_the_node_does_not_have(refusal: Callable[..., str], world: World) -> None:
    assert "memory_mib: is more than the" in refusal(world.instance(memory_mib=64_000_000))


def test_a_cpu_feature_that_does_not_exist(refusal: Callable[..., str], world: World) -> None:
    assert "did you mean 'aes'?" in refusal(world.instance(cpu_type="qemu64,+aess"))
