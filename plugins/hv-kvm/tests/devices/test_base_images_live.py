"""Guests on base images, in the real QEMU: what they read, what they write, and what is left."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from killed_calls import Point, killed_at, points
from world import PATIENCE_S, World

import hvcore
from hv_kvm.qmp import connect
from hv_kvm.resources.qcow2_header import read_header
from hvcore import Disk

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(shutil.which("qemu-img") is None, reason="no qemu-img: install qemu-utils"),
]


def qcow2(world: World, name: str = "base.qcow2") -> str:
    path = str(world.root / name)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", world.disk(f"{name}.raw"), path], check=True)
    return path


def instance(*disks: Disk, name: str = "web1", **params: Any) -> hvcore.Instance:
    return hvcore.Instance(
        name=name, driver="kvm", memory_mib=32, disks=disks, params={"kvm_flag": "disabled", **params}
    )


def booted(world: World, made: hvcore.Instance) -> None:
    world.kvm.start(made, paused=True, deadline_s=PATIENCE_S)
    world.booted(made.name)


def written(world: World, node: str, name: str = "web1", bus: str = "virtio") -> None:
    """Write a sector of the disk as the guest would, through its device."""
    device = f"/machine/peripheral/{node}-dev{'/virtio-backend' if bus == 'virtio' else ''}"
    with connect(str(world.dir(name) / "qmp"), deadline_s=PATIENCE_S) as client:
        command = f'qemu-io -d {device} "write -P 0x5a 64k 512"'
        said = client.execute("human-monitor-command", {"command-line": command}, deadline_s=PATIENCE_S)
        assert said == ""


def read(path: str, offset: int = 65536) -> bytes:
    raw = f"{path}.out"
    subprocess.run(["qemu-img", "convert", "-O", "raw", path, raw], check=True)
    data = Path(raw).read_bytes()[offset : offset + 512]
    Path(raw).unlink()
    return data


def chain(world: World, *kinds: str) -> tuple[Disk, list[str]]:
    """A disk that does not exist yet, on bases of these kinds; the last of them boots."""
    last = qcow2(world) if kinds[-1] == "qcow2" else world.disk("base.img")
    paths = [last]
    for number, _ in enumerate(kinds[1:]):
        above, under = str(world.root / f"middle{number}.qcow2"), paths[0]
        form = kinds[-1] if number == 0 else "qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", under, "-F", form, above], check=True)
        paths.insert(0, above)
    top = str(world.root / "top.qcow2")
    return Disk(path=top, format="qcow2", base=tuple(paths), base_format=kinds[-1]), paths


_DIRECT = {"cache": "none", "aio": "native"}


@pytest.mark.parametrize(
    ("kinds", "how"),
    [
        (("qcow2",), {}),
        (("qcow2", "qcow2", "raw"), _DIRECT),
        pytest.param(("raw",), {}, marks=pytest.mark.slow),
        pytest.param(("qcow2",), _DIRECT, marks=pytest.mark.slow),
        pytest.param(("qcow2", "qcow2", "raw"), {}, marks=pytest.mark.slow),
    ],
)
def test_a_guest_boots_from_a_base_that_stays_as_it_is(
    world: World, kinds: tuple[str, ...], how: dict[str, Any]
) -> None:
    disk, bases = chain(world, *kinds)
    before = [(Path(path).read_bytes(), os.stat(path).st_mtime_ns) for path in bases]
    booted(world, instance(Disk(**{**_fields(disk), **how})))
    written(world, "disk0")
    world.node.stop("web1", force=True)
    assert read(disk.path) == b"\x5a" * 512
    assert [(Path(path).read_bytes(), os.stat(path).st_mtime_ns) for path in bases] == before
    assert world.kvm.start(instance(disk), deadline_s=PATIENCE_S).changed
    world.node.stop("web1", force=True)
    assert read(disk.path) == b"\x5a" * 512


def _fields(disk: Disk) -> dict[str, Any]:
    return {name: getattr(disk, name) for name in Disk.__dataclass_fields__}


def test_the_disk_is_made_as_large_as_wanted_and_not_made_again(world: World) -> None:
    disk, _ = chain(world, "qcow2")
    larger = Disk(**{**_fields(disk), "size": 3072})
    assert world.kvm.start(instance(larger), deadline_s=PATIENCE_S).changed
    header = read_header(Path(disk.path).read_bytes())
    assert header is not None
    assert header.size_bytes == 3 << 30
    assert os.stat(disk.path).st_mode & 0o777 == 0o600
    world.node.stop("web1", force=True)


def test_guests_share_a_base_and_keep_writers_out(world: World) -> None:
    disk, (base,) = chain(world, "qcow2")
    other = Disk(**{**_fields(disk), "path": str(world.root / "other.qcow2")})
    world.kvm.start(instance(disk), deadline_s=PATIENCE_S)
    world.kvm.start(instance(other, name="web2"), deadline_s=PATIENCE_S)
    with pytest.raises(hvcore.DiskInUseError, match=r"instance web[12]"):
        world.kvm.start(instance(Disk(path=base, format="qcow2"), name="web3"), deadline_s=PATIENCE_S)
    with pytest.raises(hvcore.DiskInUseError, match=r"instance web1"):
        world.kvm.start(instance(disk, name="web4"), deadline_s=PATIENCE_S)
    for name in ("web1", "web2"):
        world.node.stop(name, force=True)


def test_a_base_that_somebody_wrote_to_is_refused_at_the_next_start(world: World) -> None:
    disk, (base,) = chain(world, "raw")
    world.kvm.start(instance(disk), deadline_s=PATIENCE_S)
    world.node.stop("web1", force=True)
    world.kvm.start(instance(Disk(path=base), name="web2"), deadline_s=PATIENCE_S)
    written(world, "disk0", "web2")
    world.node.stop("web2", force=True)
    with pytest.raises(hvcore.HvError, match="fit only the base as it was"):
        world.kvm.start(instance(disk), deadline_s=PATIENCE_S)


@pytest.mark.parametrize("how", [{"cache": "none"}, pytest.param({}, marks=pytest.mark.slow)], ids=["direct", "cached"])
def test_what_is_written_to_a_temporary_disk_is_gone_at_the_stop(world: World, how: dict[str, Any]) -> None:
    base, scratch = qcow2(world), world.root / "scratch"
    scratch.mkdir()
    before = Path(base).read_bytes()
    disk = Disk(path=base, format="qcow2", temporary=True, **how)
    for name in ("web1", "web2"):
        booted(world, instance(disk, name=name, disk_temporary_path=str(scratch)))
        written(world, "disk0", name)
    assert list(scratch.iterdir()) == []
    world.kill("web1")
    world.node.cleanup("web1")
    world.node.stop("web2", force=True)
    assert Path(base).read_bytes() == before
    booted(world, instance(disk, disk_temporary_path=str(scratch)))
    world.node.stop("web1", force=True)


@pytest.mark.parametrize("temporary", [False, True], ids=["kept", "temporary"])
def test_a_disk_with_a_base_is_plugged_and_unplugged_with_all_its_layers(world: World, *, temporary: bool) -> None:
    world.start(disk_type="scsi-hd", scsi_controller_type="virtio-scsi-pci")
    disk, (base,) = chain(world, "qcow2")
    if temporary:
        disk = Disk(path=base, format="qcow2", temporary=True)
    assert world.node.attach("web1", disk, deadline_s=PATIENCE_S).device == "disk1"
    written(world, "disk1", bus="scsi")
    assert world.node.detach("web1", "disk1", deadline_s=PATIENCE_S).changed
    assert world.node.attach(
        "web1", Disk(path=base, format="qcow2"), deadline_s=PATIENCE_S
    ).changed  # nobody reads it now
    world.node.stop("web1", force=True)


def test_the_machine_of_a_disk_that_is_made_is_known_before_and_stays(world: World) -> None:
    disk, _ = chain(world, "qcow2")
    before = world.node.abi(instance(disk))
    world.kvm.start(instance(disk), deadline_s=PATIENCE_S)
    digests = world.record().bindings["abi"]
    world.node.reboot("web1", deadline_s=PATIENCE_S)
    assert world.record().bindings["abi"] == digests
    assert before.digests == digests
    world.node.stop("web1", force=True)


_SAMPLE = 8


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace: ./dev setup")
def test_a_start_that_is_killed_leaves_no_half_image(world: World) -> None:
    disk, _ = chain(world, "qcow2")
    top = Path(disk.path)

    def start() -> None:
        world.kvm.start(instance(disk), deadline_s=PATIENCE_S)

    found = points(start, world.root)
    world.node.stop("web1", force=True)
    for point in _where_files_are_made(found):
        top.unlink(missing_ok=True)
        killed_at(point, start)
        world.node.recover()
        if top.exists():
            subprocess.run(["qemu-img", "check", "-q", "-U", top], check=True)
        world.kvm.start(instance(disk), deadline_s=PATIENCE_S)
        world.node.stop("web1", force=True)
        assert sorted(path.name for path in world.root.glob("top*")) == ["top.qcow2"]


def _where_files_are_made(found: list[Point]) -> list[Point]:
    chosen = [point for point in found if point.call in ("openat", "write", "fsync")]
    return chosen[:: max(1, len(chosen) // _SAMPLE // 8)]
