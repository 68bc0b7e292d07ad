"""The files of a seed, the image that has them, and the hash of its password."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hv_kvm.machine.cloud_config import SeedContents, seed_files
from hv_kvm.machine.iso_image import iso_image
from hv_kvm.machine.sha512_crypt import is_hash, sha512_crypt

SECTOR = 2048


def read_back(image: bytes, descriptor: int) -> dict[str, bytes]:
    """The files in the root directory that descriptor ``descriptor`` of the image leads to."""
    head = image[(16 + descriptor) * SECTOR :][:SECTOR]
    assert head[:7] == bytes([1 + descriptor]) + b"CD001\x01"
    assert struct.unpack_from("<I", head, 80) == struct.unpack_from(">I", head, 84) == (len(image) // SECTOR,)
    place, size = struct.unpack_from("<I", head, 158)[0], struct.unpack_from("<I", head, 166)[0]
    directory, found = image[place * SECTOR :][:size], {}
    while directory and directory[0]:
        record, directory = directory[: directory[0]], directory[directory[0] :]
        name = record[33 : 33 + record[32]]
        start, length = struct.unpack_from("<I", record, 2)[0], struct.unpack_from("<I", record, 10)[0]
        if not record[25] & 2:
            text = name.decode("utf-16-be" if descriptor else "ascii")
            found[text] = image[start * SECTOR :][:length]
    return found


@given(st.dictionaries(st.from_regex("[a-z][a-z-]{0,20}", fullmatch=True), st.binary(max_size=5000), max_size=5))
def test_what_is_put_into_an_image_is_read_from_it(files: dict[str, bytes]) -> None:
    image = iso_image("cidata", files, size_bytes=1 << 20)
    assert len(image) == 1 << 20
    assert read_back(image, 1) == files
    assert sorted(read_back(image, 0).values()) == sorted(files.values())


def test_files_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit into 1048576"):
        iso_image("cidata", {"user-data": bytes(1 << 20)}, size_bytes=1 << 20)


@pytest.mark.parametrize(
    ("password", "salt", "crypted"),
    [
        (
            b"Hello world!",
            b"saltstring",
            "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
        ),
        (b"", b"aa", "$6$aa$yOPrpIbTH2llgYr0.5wYwO3jPHw1.maW.mLRy5852Km6CmpaLbyXL8btVFyBZOpx1Y17h8nVaDThGA5t.h9c41"),
        (
            b"x" * 65,
            b"0123456789abcdef",
            "$6$0123456789abcdef$ci5XGCFOSR0YoEaPZSAeXyqNZuZ8zdpnCX2qZi6cRWnl1PRJzRUItBAtQ06b.K9x3maCUeeLqLvbWsGwZULH61",
        ),
    ],
    ids=["of the specification", "empty", "long"],
)
def test_the_hash_is_that_of_crypt(password: bytes, salt: bytes, crypted: str) -> None:
    made = sha512_crypt(password, salt)
    assert is_hash(made)
    assert made == crypted


@pytest.mark.parametrize("text", ["secret", "$ecret", "$6$", "$6$ab cd$ef", "6$a$b"])
def test_a_password_is_not_taken_for_a_hash(text: str) -> None:
    assert not is_hash(text)


def config(password: str | None = None, **seed: Any) -> dict[str, Any]:
    contents = SeedContents(instance_id="i", hostname="web1", **seed)
    files = seed_files(contents, password_hash=password, user_data=None, network=None)
    assert json.loads(files["meta-data"]) == {"instance-id": "i", "local-hostname": "web1"}
    first, _, rest = files["user-data"].partition(b"\n")
    assert first == b"#cloud-config"
    found: dict[str, Any] = json.loads(rest)
    return found


def test_without_a_user_the_image_has_its_own() -> None:
    assert config() == {"ssh_pwauth": False, "manage_etc_hosts": True}
    assert config(ssh_keys=("k",))["ssh_authorized_keys"] == ["k"]
    assert config(password="$6$h")["chpasswd"] == {"expire": False}


def test_a_user_is_made_with_keys_and_the_hash() -> None:
    (user,) = config(password="$6$h", user="ops", ssh_keys=("k",))["users"]
    assert (user["hashed_passwd"], user["lock_passwd"], user["ssh_authorized_keys"]) == ("$6$h", False, ["k"])
    (user,) = config(user="ops")["users"]
    assert (user["lock_passwd"], user["sudo"]) == (True, "ALL=(ALL) NOPASSWD:ALL")
    assert config(user="root", ssh_keys=("k",))["disable_root"] is False


def test_packages_and_commands_are_kept_as_they_are() -> None:
    found = config(packages=("vim",), run=("echo 'a: b' # \"c\"", "ü"))
    assert (found["packages"], found["package_update"]) == (["vim"], True)
    assert found["runcmd"] == ["echo 'a: b' # \"c\"", "ü"]


def test_own_user_data_is_not_changed() -> None:
    contents = SeedContents(instance_id="i", hostname="web1", user="ops")
    files = seed_files(contents, password_hash=None, user_data=b"#!/bin/sh\n\xff", network=b"version: 2\n")
    assert (files["user-data"], files["network-config"]) == (b"#!/bin/sh\n\xff", b"version: 2\n")
