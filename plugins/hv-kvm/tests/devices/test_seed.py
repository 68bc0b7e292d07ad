"""A seed in a guest: what the guest gets, and where its secrets are not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from world import World

import hvcore

SECRET = "a-Secret-of-17-bytes"


@pytest.fixture
def password(world: World) -> str:
    path = world.root / "password"
    path.write_text(f"{SECRET}\nsecond line\n")
    return str(path)


def seeded(world: World, **params: Any) -> hvcore.Instance:
    return world.instance(seed="nocloud", **params)


def problems(world: World, **params: Any) -> str:
    with pytest.raises(hvcore.VerifyError) as caught:
        world.kvm.verify(seeded(world, **params))
    return str(caught.value)


@pytest.mark.parametrize(
    ("contents", "what"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"", "has no password in its first line"),
        (b"\nsecond", "has no password in its first line"),
        (b"x" * 600, "longer than 512 bytes"),
        (b"a\0b", "has a NUL byte"),
        (b"x" * (2 << 20), "is larger than 1 MiB"),
    ],
)
def test_a_password_that_cannot_work_is_refused(world: World, contents: bytes | None, what: str) -> None:
    path = world.root / "file"
    if contents is not None:
        path.write_bytes(contents)
    assert what in problems(world, seed_password_file=str(path))


def test_files_that_are_no_files_are_refused(world: World) -> None:
    os.mkfifo(world.root / "fifo")
    assert "is not a regular file" in problems(world, seed_user_data=str(world.root / "fifo"))
    assert "is not a regular file" in problems(world, seed_network=str(world.root))


def test_the_secret_is_not_in_a_plan(world: World, password: str) -> None:
    plan = world.kvm.plan(seeded(world, seed_password_file=password))
    text = json.dumps(plan.to_json())
    assert password in text
    assert SECRET not in text
    assert "$6$" not in text


@pytest.mark.live
def test_only_the_guest_gets_the_secret(world: World, password: str) -> None:
    world.kvm.start(seeded(world, seed_user="ops", seed_password_file=password, seed_run=("true",)), deadline_s=300)
    (image,) = set(images(world.pid()))
    assert b'"hashed_passwd": "$6$' in image
    assert SECRET.encode() not in image
    assert len(image) == 1 << 20
    for path in world.run_dir.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert SECRET.encode() not in data, path
            assert b"$6$" not in data, path
    assert b"$6$" not in Path(f"/proc/{world.pid()}/cmdline").read_bytes()
    world.node.stop("web1", force=True)


def images(pid: int) -> Iterator[bytes]:
    """The seed images that the process has."""
    for fd in os.listdir(f"/proc/{pid}/fd"):
        path = f"/proc/{pid}/fd/{fd}"
        if os.readlink(path).startswith("/memfd:seed"):
            yield Path(path).read_bytes()


@pytest.mark.live
def test_a_reboot_makes_the_seed_again_and_the_machine_stays(world: World, password: str) -> None:
    world.kvm.start(seeded(world, seed_password_file=password), deadline_s=300)
    before = world.record().bindings["abi"]
    Path(password).write_text("another\n")
    world.node.reboot("web1", deadline_s=300)
    assert len(set(images(world.pid()))) == 1
    assert world.record().bindings["abi"] == before
    world.node.stop("web1", force=True)


@pytest.mark.live
def test_the_disk_of_a_guest_is_before_its_seed(world: World) -> None:
    world.pressable(seed="nocloud", disks=[world.disk()])  # it boots from the first virtio disk
    world.node.stop("web1", force=True)
