"""Things of which a node has one each."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hvcore.host.reservations import Reservations, has_reserved, may_have_reserved, release_reservations


def test_a_reservation_has_one_owner(tmp_path: Path) -> None:
    uids = Reservations(tmp_path / "uid")
    assert uids.take("7", "web1") is None
    assert uids.take("7", "web1") is None
    assert uids.take("7", "web10") == "web1"
    assert uids.items() == {"7": "web1"}


def test_release_keeps_reservations_of_others(tmp_path: Path) -> None:
    uids = Reservations(tmp_path / "uid")
    for key, owner in (("1", "web1"), ("2", "web10"), ("3", "web1"), ("4", "web")):
        uids.take(key, owner)
    uids.release("web1")
    assert uids.items() == {"2": "web10", "4": "web"}
    uids.release("web9")
    assert uids.take("1", "web2") is None


def test_a_missing_directory_has_no_reservations(tmp_path: Path) -> None:
    uids = Reservations(tmp_path / "none")
    uids.release("web1")
    assert uids.items() == {}
    assert not (tmp_path / "none").exists()


@pytest.mark.heavy
def test_thirty_two_processes_get_thirty_two_uids(tmp_path: Path, in_child: Callable[..., int]) -> None:
    go = os.pipe()

    def take_one(owner: str) -> None:
        os.close(go[1])
        os.read(go[0], 1)  # until all processes are ready
        uids = Reservations(tmp_path / "uid")
        for uid in range(1000, 1100):
            if uids.take(str(uid), owner) is None:
                return
        raise AssertionError("there was none")

    pids = [in_child(take_one, f"web{number}", wait=False) for number in range(32)]
    os.close(go[1])
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 32
    os.close(go[0])
    taken = Reservations(tmp_path / "uid").items()
    assert sorted(taken) == [str(uid) for uid in range(1000, 1032)]
    assert len(set(taken.values())) == 32


def notes(tmp_path: Path) -> list[str]:
    """The notes beside the reservations, as NAME/KIND/KEY."""
    owners = tmp_path / "owners"
    return sorted(str(path.relative_to(owners)) for path in owners.rglob("*") if path.is_file())


def test_a_resource_of_an_instance_can_be_the_owner(tmp_path: Path) -> None:
    disks = Reservations(tmp_path / "disk")
    assert disks.take("a", "web1/disk0") is None
    assert disks.take("b", "web1/disk1") is None
    assert disks.take("a", "web1/disk1") is None
    assert disks.take("a", "web10/disk0") == "web1"
    assert disks.items() == {"a": "web1", "b": "web1"}
    assert os.readlink(tmp_path / "disk/a") == "web1/disk0"
    disks.release("web1/disk0")
    assert disks.items() == {"b": "web1"}
    disks.release("web")
    assert disks.owner("b") == "web1"
    disks.release("web1")
    assert disks.items() == {}
    assert os.listdir(tmp_path / "owners") == []


def test_a_note_exists_as_long_as_its_reservation(tmp_path: Path) -> None:
    uids, disks = Reservations(tmp_path / "uid"), Reservations(tmp_path / "disk")
    uids.take("7", "web1")
    disks.take("a", "web1")
    uids.take("7", "web2")
    assert notes(tmp_path) == ["web1/disk/a", "web1/uid/7"]
    assert has_reserved(tmp_path, "web1")
    assert not has_reserved(tmp_path, "web2")
    uids.release("web1")
    assert notes(tmp_path) == ["web1/disk/a"]
    disks.release("web1")
    assert os.listdir(tmp_path / "owners") == []
    assert not has_reserved(tmp_path, "web1")


def test_a_note_alone_proves_nothing(tmp_path: Path) -> None:
    """An operation died before it made the link, or a version without notes released the link."""
    uids = Reservations(tmp_path / "uid")
    uids.take("7", "web1")
    os.unlink(tmp_path / "uid/7")
    assert not has_reserved(tmp_path, "web1")
    assert uids.take("7", "web2") is None
    uids.release("web1")
    assert notes(tmp_path) == ["web2/uid/7"]
    assert uids.items() == {"7": "web2"}


def test_reservations_older_than_notes_are_found_and_released(tmp_path: Path) -> None:
    for kind, key, owner in (("uid", "7", "old"), ("disk", "a", "old"), ("disk-readers", "b.old", "old")):
        (tmp_path / kind).mkdir(mode=0o700, exist_ok=True)
        (tmp_path / kind / key).symlink_to(owner)
    assert has_reserved(tmp_path, "old")
    uids = Reservations(tmp_path / "uid")
    assert uids.take("7", "new") == "old"
    assert uids.take("8", "new") is None
    assert notes(tmp_path) == ["new/uid/8", "old/disk-readers/b.old", "old/disk/a", "old/uid/7"]
    assert has_reserved(tmp_path, "old")
    for kind in ("uid", "disk", "disk-readers"):
        Reservations(tmp_path / kind).release("old")
    assert not has_reserved(tmp_path, "old")
    assert notes(tmp_path) == ["new/uid/8"]


def test_a_reservation_without_a_note_by_an_older_version_is_released(tmp_path: Path) -> None:
    uids = Reservations(tmp_path / "uid")
    uids.take("8", "new")
    (tmp_path / "uid/7").symlink_to("old")
    assert uids.take("7", "new") == "old"
    uids.release("old")
    assert uids.items() == {"8": "new"}


def test_the_directory_of_notes_is_made_once(tmp_path: Path, in_child: Callable[..., int]) -> None:
    (tmp_path / "uid").mkdir(mode=0o700)
    for number in range(50):
        (tmp_path / "uid" / str(number)).symlink_to(f"old{number}")

    def take(number: int) -> None:
        assert Reservations(tmp_path / "uid").take(str(1000 + number), f"new{number}") is None

    pids = [in_child(take, number, wait=False) for number in range(16)]
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 16
    assert sorted(os.listdir(tmp_path)) == ["owners", "uid"]
    wanted = [f"old{n}/uid/{n}" for n in range(50)] + [f"new{n}/uid/{1000 + n}" for n in range(16)]
    assert notes(tmp_path) == sorted(wanted)


@pytest.mark.parametrize("owner", ["web1", "web1/disk0"])
def test_a_note_without_its_link_is_released(tmp_path: Path, owner: str) -> None:
    """The process was killed after it had made the note, or after it had removed the link."""
    Reservations(tmp_path / "disk").take("a", owner)
    Reservations(tmp_path / "disk").take("b", "web2")
    (tmp_path / "disk" / "a").unlink()
    assert not has_reserved(tmp_path, "web1")
    assert may_have_reserved(tmp_path, "web1")
    release_reservations(tmp_path, "web1")
    assert not may_have_reserved(tmp_path, "web1")
    assert [path.name for path in (tmp_path / "owners").iterdir()] == ["web2"]
