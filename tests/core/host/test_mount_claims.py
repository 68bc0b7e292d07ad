"""A directory that is mounted for an instance is the claim on it, whichever run directory that instance is of."""

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
def test_directory_is_shared_with_those_in_it_and_those_it_is_in(root: str, *, shared: bool) -> None:
    other = "/run/two/instances/db/upper"
    assert found(line("/srv/web1", OWN), line(root, other)) == (other if shared else None)


@pytest.mark.parametrize(
    ("own", "others", "shared"), [("rw", "ro", 1), ("ro", "rw", 1), ("rw", "rw", 1), ("ro", "ro", 0)]
)
def test_readers_share(own: str, others: str, shared: int) -> None:
    other = "/run/two/instances/db/lower"
    table = (line("/srv/web1", OWN, mode=own), line("/srv/web1", other, mode=others))
    assert found(*table) == (other if shared else None)


def test_other_file_system_is_another_directory() -> None:
    assert found(line("/srv/web1", OWN), line("/srv/web1", "/run/two/instances/db/root", device="8:2")) is None


@pytest.mark.parametrize("point", ["/mnt/srv/web1", "/", "/run/two/instances/db", "/run/two/instances/db/root/data"])
def test_what_the_node_and_the_binds_of_instances_show_is_in_nobodys_way(point: str) -> None:
    assert found(line("/srv/web1", OWN), line("/srv/web1", point)) is None


def test_second_mount_of_the_same_instance_is_a_second_user() -> None:
    other = "/run/one/instances/web1/upper"
    assert found(line("/srv/web1", OWN), line("/srv/web1", other)) == other


def test_directory_that_was_deleted_is_not_the_one_that_is_there_now() -> None:
    assert found(line("/srv/web1//deleted", OWN), line("/srv/web1", "/run/two/instances/db/root")) is None


def test_what_is_not_mounted_where_it_should_be_is_no_claim() -> None:
    with pytest.raises(NodeError, match="has just been mounted"):
        found(line("/srv/web1", "/run/two/instances/db/root"))
