"""One user for a disk on a node, whatever its path, and paths of every kind on the real QEMU."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from world import World

import hvcore
from hv_kvm.qemu.boot_sector import boot_sector
from hvcore import State

pytestmark = pytest.mark.live


@pytest.mark.parametrize("name", ["same path", "symbolic link", "hard link", "loop device"])
def test_a_disk_by_another_name_is_refused_with_the_instance_that_has_it(
    world: World, name: str, request: pytest.FixtureRequest
) -> None:
    disk = world.disk("first.img")
    other = str(world.root / "other.img")
    match name:
        case "same path":
            other = disk
        case "symbolic link":
            os.symlink(disk, other)
        case "hard link":
            os.link(disk, other)
    world.start("web1", disks=[disk])
    if name == "loop device":
        other = request.getfixturevalue("loop")(disk)
    with pytest.raises(hvcore.DiskInUseError, match=r"already in use by instance web1") as caught:
        world.start("web2", disks=[other])
    assert caught.value.exit_code == 5
    assert [info.name for info in world.node.instances()] == ["web1"]
    world.node.stop("web1", force=True)


def test_readers_share_a_disk_and_keep_writers_out(world: World) -> None:
    disk = world.disk("shared.img")

    def instance(name: str, *, read_only: bool) -> hvcore.Instance:
        disks = (hvcore.Disk(path=disk, read_only=read_only),)
        params = {"kvm_flag": "disabled"}
        return hvcore.Instance(name=name, driver="kvm", memory_mib=32, disks=disks, params=params)

    for name in ("web1", "web2"):
        assert world.kvm.start(instance(name, read_only=True)).changed
    with pytest.raises(hvcore.DiskInUseError, match=r"instance web[12]"):
        world.kvm.start(instance("web3", read_only=False))
    for name in ("web1", "web2"):
        world.node.stop(name, force=True)
    assert world.kvm.start(instance("web3", read_only=False)).changed


def test_a_disk_that_the_host_has_mounted_is_refused(world: World, loop: Callable[[str], str]) -> None:
    image = world.root / "host.img"
    with image.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    device = loop(str(image))
    place = world.root / "mounted"
    place.mkdir()
    subprocess.run(["mount", device, place], check=True)
    world.undo.append(lambda: subprocess.run(["umount", place], check=True))
    for path in (str(image), device):
        with pytest.raises(hvcore.DiskInUseError, match=f"the host, .*mounted at {place}"):
            world.start(disks=[path])


@pytest.mark.parametrize("disk_type", ["paravirtual", "ide"])
def test_a_block_device_is_claimed_for_as_long_as_the_guest_runs(
    world: World, loop: Callable[[str], str], disk_type: str
) -> None:
    image = world.root / "device.img"
    with image.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    with image.open("r+b") as file:  # ext4 leaves the first KiB to boot sectors
        file.write(boot_sector())
    device = loop(str(image))
    place = world.root / "mounted"
    place.mkdir()
    world.pressable(disks=[device], disk_type=disk_type)
    refused = subprocess.run(["mount", device, place], check=False, capture_output=True, text=True)
    assert refused.returncode != 0
    assert "busy" in refused.stderr or "already mounted" in refused.stderr or "Can't open blockdev" in refused.stderr
    assert world.node.stop("web1", deadline_s=300).stopped_by == "powerdown"
    subprocess.run(["mount", device, place], check=True)
    subprocess.run(["umount", place], check=True)


# Names of 16 kinds, as bytes, that a file system allows and a parser may not expect.
AWKWARD = [
    b"a,b",
    b"a,,b",
    b"a,id=evil,b",
    b"a=b",
    b"a b",
    b"a\nb",
    b'a"b',
    b"a'b",
    b"a\\b",
    b"a:b",
    b"a%sb%%",
    b"#a?b*[c]",
    b"-a",
    b"-drive file=x",
    "ä-日本".encode(),
    b"a\xff\xfeb",
    b"$(id)`id`;&|<>",
]


def confined_and_not(names: list[bytes]) -> list[object]:
    """Each name with confinement and without, which is the same command line of QEMU: always for a few names."""
    few = {names[0], b"a\xff\xfeb"}
    always = {"off": few, "auto": few | {b"a,id=evil,b", b"a\nb", b"a%sb%%", b"-drive file=x", b"x" * 200}}
    return [
        pytest.param(how, name, id=f"{how}-{name!r}", marks=[] if name in always[how] else [pytest.mark.slow])
        for how in ("auto", "off")
        for name in names
    ]


@pytest.mark.parametrize(("confinement", "name"), confined_and_not(AWKWARD))
def test_it_starts_with_files_of_any_name(world: World, name: bytes, confinement: str) -> None:
    folder = world.root / os.fsdecode(name)
    folder.mkdir()
    os.chmod(folder, 0o755)

    def path(kind: bytes) -> str:
        return str(folder / os.fsdecode(kind + name))

    for kind in (b"disk", b"cdrom"):
        Path(path(kind)).write_bytes(boot_sector().ljust(1 << 20, b"\0"))
    world.pressable(
        disks=[path(b"disk")],
        cdrom_image_path=path(b"cdrom"),
        vnc_bind_address=path(b"vnc"),
        confinement=confinement,
    )
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        there = os.open(folder, os.O_PATH)
        client.connect(f"/proc/self/fd/{there}/" + os.fsdecode(b"vnc" + name))
        os.close(there)
        assert client.recv(4) == b"RFB "
    command = Path(f"/proc/{world.pid()}/cmdline").read_bytes()
    assert b"\0evil\0" not in command
    world.node.stop("web1", force=True)
    assert not os.path.lexists(path(b"vnc"))


VMLINUZ = Path(__file__).resolve().parents[4] / ".cache/kernel/vmlinuz"


@pytest.mark.skipif(not VMLINUZ.exists(), reason="no kernel: ./dev setup")
@pytest.mark.parametrize(("confinement", "name"), confined_and_not(AWKWARD))
def test_it_starts_with_a_kernel_and_a_ram_disk_of_any_name(world: World, name: bytes, confinement: str) -> None:
    kernel, initrd = (world.root / os.fsdecode(kind + name) for kind in (b"vmlinuz", b"initrd"))
    shutil.copyfile(VMLINUZ, kernel)
    initrd.write_bytes(b"070701".ljust(512, b"\0"))
    world.start(
        disks=[],
        memory_mib=96,
        paused=True,
        confinement=confinement,
        kernel_path=str(kernel),
        initrd_path=str(initrd),
        kernel_args="panic=1 a=b,c=d",
    )
    assert world.info().state is State.PAUSED


@pytest.mark.parametrize(("confinement", "name"), confined_and_not([*AWKWARD, b"x" * 200]))
def test_it_starts_in_a_run_directory_of_any_name(
    world: World, worlds: Callable[..., World], name: bytes, confinement: str
) -> None:
    inner = worlds(world.root, world.root / os.fsdecode(name) / "run")
    inner.run_dir.parent.mkdir()
    inner.start(paused=True, confinement=confinement, vnc_bind_address=str(world.root / "v"))
    inner.booted()
    assert stat.S_ISSOCK((world.root / "v").stat().st_mode)
    with inner.console() as console:
        console.sock.send(b"x")
    assert inner.node.stop("web1", deadline_s=300).stopped_by == "powerdown"


def test_a_disk_is_refused_to_another_run_directory_while_its_guest_runs(world: World) -> None:
    disk = world.disk("shared.img")
    world.start("web1", disks=[disk])
    other = hvcore.Node(world.run_dir.with_name("other"), uid_pool=world.uids)
    world.undo.append(lambda: other.stop("web2", force=True))
    wanted = world.instance("web2", disks=[disk])
    held = rf"already in use by instance web1 of run directory {world.run_dir}, pid {world.pid()};"
    with pytest.raises(hvcore.DiskInUseError, match=held):
        other.driver("kvm").start(wanted)
    assert other.instances() == []
    world.kill("web1")
    # No one has cleaned up in the first run directory: the kernel released the claim.
    assert other.driver("kvm").start(wanted).changed
    assert other.stop("web2", force=True).changed
    world.node.cleanup("web1")
