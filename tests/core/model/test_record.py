"""Records as they stand on disk: read back whole, or refused."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hvcore import Disk, Instance, Nic, RecordError
from hvcore.model.record import RECORD_VERSION, Change, Phase, parse_record, record_bytes
from hvcore.plugin import Entry, ProcessId, Record

DATA = Path(__file__).parents[1] / "data"
# Written by the first version of hvcore. Neither this nor the file may ever be changed: nodes have such records.
V1 = Record(
    name="web1",
    driver="fake",
    phase=Phase.RUNNING,
    boot_id="0b3c8a52-5d0e-4d39-8f6a-3a1f8a8f2f10",
    instance=Instance(
        name="web1",
        driver="fake",
        memory_mib=512,
        vcpus=2,
        disks=(Disk(path="/srv/web1,\n.img"), Disk(path="/srv/cd.iso", read_only=True)),
        nics=(Nic(mode="user"), Nic(mode="bridged", mac="aa:00:00:4b:c1:01", link="br0")),
        params={"motd": "grüß", "ignores_powerdown": True},
    ),
    spec={"kind": "FakeSpec", "memory_mib": 512, "motd": "grüß", "fail_at": None},
    bindings={"uid": 1880000000, "guest": "running"},
    ledger=(Entry(kind="uid"), Entry(kind="link", data={"path": "/run/vnc"})),
    process=ProcessId(pid=4711, start_ticks=99, boot_id="0b3c8a52-5d0e-4d39-8f6a-3a1f8a8f2f10"),
    monitor=ProcessId(pid=4710, start_ticks=98, boot_id="0b3c8a52-5d0e-4d39-8f6a-3a1f8a8f2f10"),
    paused=True,
    started_at=1790000000.25,
)
V2 = replace(V1, instance=replace(V1.instance, profile="db"))
V3 = replace(V2, instance=replace(V2.instance, nics=(Nic(mode="user", boot_index=2), *V2.instance.nics[1:])))
V4 = replace(V3, observer="hv_fake.plugin:observe")
LEDGER = (Entry(kind="uid", key="uid"), Entry(kind="link", key="vnc.link", data={"path": "/run/vnc"}))
PARAMS = {"motd": "grüß", "ignores_powerdown": True, "fail_at": None}
V5 = replace(V4, ledger=LEDGER, params=PARAMS, source="/srv/web1.toml")
WIRED = Nic(
    mode="bridged",
    link="br0",
    name="front",
    ip=("192.0.2.7", "2001:db8::7/64"),
    vlan="trunk:10,20-30",
    mtu=1400,
    bandwidth_to_guest=80_000_000,
    bandwidth_from_guest=8_000_000,
)
PRIVATE = Nic(mode="user", forward=("127.0.0.1:8080:80", "[::1]:5353:53/udp"), egress="internet")
V6 = replace(V5, instance=replace(V5.instance, nics=(*V5.instance.nics, WIRED, PRIVATE), tags=("web", "owner:ops")))
DEVICES = {"disk0": "disks[0]", "disk1": "disks[1]"}
SMALLER = replace(V6.instance, disks=V6.instance.disks[:1])
CHANGE = Change(
    op="detach",
    device="disk1",
    instance=SMALLER,
    spec={"kind": "FakeSpec"},
    params=PARAMS,
    devices={"disk0": "disks[0]"},
)
V7 = replace(V6, phase=Phase.CHANGING, devices=DEVICES, change=CHANGE)
V8 = replace(V7, phase=Phase.ARRIVING, change=None)


def sealed(body: bytes) -> bytes:
    return body + f"\ncrc32:{zlib.crc32(body):08x}\n".encode()


def test_a_record_of_the_first_version_can_be_read_for_ever() -> None:
    assert parse_record((DATA / "record-v1.json").read_bytes(), "web1") == V1


def test_a_record_of_the_second_version_can_be_read_for_ever() -> None:
    assert parse_record((DATA / "record-v2.json").read_bytes(), "web1") == V2


def test_a_record_of_the_third_version_can_be_read_for_ever() -> None:
    assert parse_record((DATA / "record-v3.json").read_bytes(), "web1") == V3


def test_a_record_of_the_fourth_version_can_be_read_for_ever() -> None:
    assert parse_record((DATA / "record-v4.json").read_bytes(), "web1") == V4


def test_a_record_of_the_fifth_version_can_be_read_for_ever() -> None:
    assert parse_record((DATA / "record-v5.json").read_bytes(), "web1") == V5


def test_a_record_of_the_sixth_version_can_be_read_for_ever() -> None:
    assert parse_record((DATA / "record-v6.json").read_bytes(), "web1") == V6


def test_a_record_of_the_seventh_version_can_be_read_for_ever() -> None:
    assert parse_record((DATA / "record-v7.json").read_bytes(), "web1") == V7


def test_a_record_of_the_eighth_version_can_be_read_for_ever() -> None:
    assert parse_record((DATA / "record-v8.json").read_bytes(), "web1") == V8


def test_the_eighth_version_is_still_written_like_that() -> None:
    assert RECORD_VERSION == 8
    assert record_bytes(V8) == (DATA / "record-v8.json").read_bytes()


def test_what_was_written_is_read_back_the_same(record: Callable[..., Record]) -> None:
    wanted = record()
    assert parse_record(record_bytes(wanted), "web1") == wanted


def test_a_torn_record_is_refused_wherever_it_was_torn(record: Callable[..., Record]) -> None:
    data = record_bytes(record())
    for length in range(len(data)):
        with pytest.raises(RecordError, match="web1: damaged"):
            parse_record(data[:length], "web1")


def test_one_wrong_bit_anywhere_is_noticed(record: Callable[..., Record]) -> None:
    data = record_bytes(record())
    for index in range(len(data)):
        for bit in (0, 5):
            flipped = data[:index] + bytes([data[index] ^ 1 << bit]) + data[index + 1 :]
            with pytest.raises(RecordError):
                parse_record(flipped, "web1")


@pytest.mark.parametrize("tail", [b"x", b"\n", b"{}", b" "])
def test_anything_after_the_end_is_noticed(record: Callable[..., Record], tail: bytes) -> None:
    with pytest.raises(RecordError, match="damaged"):
        parse_record(record_bytes(record()) + tail, "web1")


def test_a_record_of_a_newer_version_is_refused_and_says_what_to_do(record: Callable[..., Record]) -> None:
    with pytest.raises(RecordError, match=rf"newer hvcore, got version {RECORD_VERSION + 1}; upgrade"):
        parse_record(record_bytes(replace(record(), version=RECORD_VERSION + 1)), "web1")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[1]",
        b"null",
        b'"x"',
        b"\xff\xfe",
        b"{}",
        b'{"version":0}',
        b'{"version":true}',
        b'{"version":"1"}',
        b'{"version":1}',
        b'{"version":1,"kind":"Record","x":1}',
        b"[" * 100000,
    ],
)
def test_a_good_checksum_over_nonsense_is_refused_all_the_same(body: bytes) -> None:
    with pytest.raises(RecordError, match="web1: "):
        parse_record(sealed(body), "web1")


@pytest.mark.parametrize(
    "change",
    [
        {"phase": "dreaming"},
        {"spec": []},
        {"process": 7},
        {"ledger": {}},
        {"extra": 1},
        {"name": 7},
        {"instance": {"kind": "Instance", "name": "../x", "driver": "fake"}},
    ],
)
def test_wrong_fields_are_refused_with_their_place(record: Callable[..., Record], change: dict[str, Any]) -> None:
    body = json.dumps({**json.loads(record_bytes(record()).splitlines()[0]), **change}).encode()
    with pytest.raises(RecordError, match=f"web1: not a record: web1.*{next(iter(change))}"):
        parse_record(sealed(body), "web1")
