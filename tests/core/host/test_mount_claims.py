"""The mount of a directory for an instance is the claim on it, in any run directory."""

from __future__ import annotations

import pytest

from hvcore import NodeError
from hvcore.host.mount_table import other_users, parse_mountinfo

OWN = "/run/one/instances/web1/root"


def line(root: str, point: str, *, device: str = "8:1", mode: str = "rw") -> bytes:
    # As the kernel writes it for a copy of a directory that is mounted elsewhere (proc(5)).
    return f"36 35 {device} {root} {point} {mode},nosuid,nodev,relatime - ext4 /dev/sda1 rw\n".encode()


def found(*lines: bytes) -> str | None:
    return next((other.point for other in other_users(parse_mountinfo(b"".join(lines)), OWN)), None)


@pytest.mark.parametrize(
    ("root", "shared"),
    [
        ("/srv/web1", True),
        ("/srv/web1/var", True),
        ("/srv", True),
        ("/", True),
        ("/srv/web10", False),
        ("/srv/web", False),
        ("/srv/web1//deleted", False),
    ],
)
def test_a_directory_conflicts_with_those_inside_and_above_it(root: str, *, shared: bool) -> None:
    other = "/run/two/instances/db/upper"
    assert found(line("/srv/web1", OWN), line(root, other)) == (other if shared else None)


@pytest.mark.parametrize(
    ("own", "others", "shared"), [("rw", "ro", 1), ("ro", "rw", 1), ("rw", "rw", 1), ("ro", "ro", 0)]
)
def test_readers_share(own: str, others: str, shared: int) -> None:
    other = "/run/two/instances/db/lower"
    table = (line("/srv/web1", OWN, mode=own), line("/srv/web1", other, mode=others))
    assert found(*table) == (other if shared else None)


def test_the_same_path_on_another_file_system_does_not_conflict() -> None:
    assert found(line("/srv/web1", OWN), line("/srv/web1", "/run/two/instances/db/root", device="8:2")) is None


@pytest.mark.parametrize("point", ["/mnt/srv/web1", "/", "/run/two/instances/db", "/run/two/instances/db/root/data"])
def test_mounts_of_the_node_and_bind_mounts_of_instances_do_not_conflict(point: str) -> None:
    assert found(line("/srv/web1", OWN), line("/srv/web1", point)) is None


def test_a_second_mount_of_the_same_instance_conflicts() -> None:
    other = "/run/one/instances/web1/upper"
    assert found(line("/srv/web1", OWN), line("/srv/web1", other)) == other


def test_a_deleted_directory_does_not_conflict_with_a_new_one_of_its_path() -> None:
    assert found(line("/srv/web1//deleted", OWN), line("/srv/web1", "/run/two/instances/db/root")) is None


def test_a_claim_without_its_own_mount_is_an_error() -> None:
    with pytest.raises(NodeError, match="has just been mounted"):
        found(line("/srv/web1", "/run/two/instances/db/root"))
