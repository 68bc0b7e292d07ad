"""Disks over the network by their URIs, qcow2 headers, PCI slots and free-form lists: pure functions, values in and out."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hvcore
import hvcore.plugin
from hv_kvm.devices.balloon import Balloon
from hv_kvm.devices.clock import Clock
from hv_kvm.devices.nic import UserNic
from hv_kvm.devices.shared.block_nodes import network_props
from hv_kvm.devices.shared.network_disk import Gluster, Rbd, Server, parse_uri
from hv_kvm.devices.shared.param_types import listed
from hv_kvm.machine.placement import place
from hv_kvm.machine.resource import MemoryFile
from hv_kvm.machine.spec import Device, PciDevice
from hv_kvm.resources.image import copy_template
from hv_kvm.resources.memory_file import MemoryFileKind
from hv_kvm.resources.qcow2 import qcow2_problem
from hvcore.deadline import Deadline
from hvcore.model.record import Phase
from hvcore.plugin import DiskClaim, Host, Job, Level, Reject, Site
from hvcore.plugins.loader import load
from hvcore.state.store import Store


@pytest.mark.parametrize(
    ("uri", "disk"),
    [
        ("rbd:rbd/web1", Rbd(pool="rbd", image="web1")),
        ("rbd:Pool-1/Web_1", Rbd(pool="Pool-1", image="Web_1")),
        ("rbd:pool/space/web1", Rbd(pool="pool", namespace="space", image="web1")),
        ("rbd:pool/web1@a-b", Rbd(pool="pool", image="web1", snapshot="a-b")),
        (r"rbd:p\:o/w\@e\/b", Rbd(pool="p:o", image="w@e/b")),
        ("rbd:p/i:id=me:conf=/etc/ceph/a.conf", Rbd(pool="p", image="i", user="me", conf="/etc/ceph/a.conf")),
        (
            r"rbd:p/i:mon_host=10.0.0.1;[fe80\:\:1]\:99;m-1_x",
            Rbd(
                pool="p",
                image="i",
                servers=(
                    Server(host="10.0.0.1", port=6789),
                    Server(host="fe80::1", port=99),
                    Server(host="m-1_x", port=6789),
                ),
            ),
        ),
        (
            "gluster://Host-1/Vol_1/a/B.img",
            Gluster(volume="Vol_1", path="a/B.img", servers=(Server(host="Host-1", port=24007),)),
        ),
        (
            "gluster+tcp://[fe80::1]:1/v/a%20b",
            Gluster(volume="v", path="a b", servers=(Server(host="fe80::1", port=1),)),
        ),
        (
            "gluster+unix:///v/a?socket=/run/g.sock",
            Gluster(volume="v", path="a", servers=(Server(path="/run/g.sock"),)),
        ),
    ],
)
def test_a_uri_is_read_as(uri: str, disk: Rbd | Gluster) -> None:
    assert parse_uri(uri) == disk


@given(
    st.text(max_size=60), st.sampled_from(["rbd:", "rbd:p/i", "gluster://", "gluster+unix:///", "gluster+tcp://h/", ""])
)
def test_no_uri_makes_the_parser_fail_otherwise_than_by_saying_so(text: str, scheme: str) -> None:
    try:
        disk = parse_uri(scheme + text)
    except ValueError:
        return
    props = network_props(disk)
    assert all(isinstance(value, str | int | None) for value in props.values())
    assert all(key.startswith("file.") for key in props)


@given(st.lists(st.text("ab:@/\\;,=-_ .", min_size=1, max_size=8), min_size=2, max_size=2))
def test_escaped_names_of_an_image_come_back_as_they_were(names: list[str]) -> None:
    def escaped(text: str) -> str:
        return "".join(f"\\{char}" if char in ":@/\\" else char for char in text)

    pool, image = names
    assert parse_uri(f"rbd:{escaped(pool)}/{escaped(image)}") == Rbd(pool=pool, image=image)


def header(version: int = 3, backing: int = 0, features: int = 0, magic: bytes = b"QFI\xfb") -> bytes:
    return (magic + struct.pack(">IQ", version, backing)).ljust(72, b"\0") + struct.pack(">Q", features).ljust(
        32, b"\0"
    )


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (header(), None),
        (header(version=2), None),
        (header(features=1), None),
        (header(version=2, features=4), None),
        (header(backing=104), "a backing file"),
        (header(version=2, backing=104), "a backing file"),
        (header(features=4), "data are in another file"),
        (header(features=2), "marked as corrupt"),
        (header(version=4), "version 4"),
        (header(magic=b"\x7fELF"), "not a qcow2 image"),
        (b"", "not a qcow2 image"),
    ],
)
def test_a_qcow2_header_says(data: bytes, what: str | None) -> None:
    found = qcow2_problem(data)
    assert (found is None) if what is None else (found is not None and what in found.what)


@given(st.binary(max_size=120))
def test_no_header_makes_it_fail(data: bytes) -> None:
    qcow2_problem(b"QFI\xfb" + data)


def nic(index: int = 0) -> UserNic:
    return UserNic(index=index, model="e1000", mac="", boot_index=None)


def slots(*devices: Device, **more: Any) -> list[int | None]:
    return [device.slot if isinstance(device, PciDevice) else None for device in place(devices, **more)]


def test_what_is_on_board_gets_the_reserved_slots() -> None:
    assert slots(Balloon(), nic(), Clock(base="utc"), Balloon(), nic(1), reserved=12) == [3, 12, None, 4, 13]


def test_a_device_more_on_board_moves_no_nic() -> None:
    assert slots(*[Balloon()] * 12, nic(), reserved=12)[-1] == slots(nic(), reserved=12)[0] == 12
    assert slots(*[Balloon()] * 12, nic(), reserved=12)[-2] == 15


def test_without_reservations_both_begin_at_the_first() -> None:
    assert slots(Balloon(), nic(), nic(1), reserved=0) == [5, 3, 4]


@pytest.mark.parametrize(("reserved", "fit"), [(0, 28), (12, 19), (30, 1), (31, 0), (32, 0)])
def test_more_devices_than_slots_are_refused(reserved: int, fit: int) -> None:
    place([nic(index) for index in range(fit)], reserved=reserved)
    with pytest.raises(ValueError, match=f"more PCI devices than the {fit} slots"):
        place([nic(index) for index in range(fit + 1)], reserved=reserved)


def test_a_list_takes_commas_and_spaces_and_its_own_result() -> None:
    kind = listed("[A-Za-z]", "letters", max_items=3)
    assert kind.parse(" A, b  c,") == "a,b,c"
    assert kind.parse("a,b,c") == "a,b,c"
    for value, what in (("a b c d", "more than 3"), (" , ", "nothing"), ("a,b=c", "'b=c'")):
        with pytest.raises(Reject, match=what):
            kind.parse(value)


@given(st.text("ab,= ", max_size=9) | st.text(max_size=5))
def test_the_schema_of_a_list_accepts_what_the_check_does(value: str) -> None:
    kind = listed("[ab]|ba", "letters", max_items=3)
    try:
        kind.parse(value)
    except Reject:
        accepted = False
    else:
        accepted = True
    assert jsonschema.Draft202012Validator(kind.json_schema()).is_valid(value) == accepted


def test_a_template_is_copied_once_and_whole(tmp_path: Path) -> None:
    template, path = tmp_path / "template", tmp_path / "new"
    template.write_bytes(b"first" * 1000)
    copy_template(str(template), str(path))
    assert path.read_bytes() == template.read_bytes()
    template.write_bytes(b"second")
    copy_template(str(template), str(path))
    assert path.read_bytes() == b"first" * 1000
    assert sorted(tmp_path.iterdir()) == [path, template]


def test_memory_that_does_not_fit_its_directory_is_told(tmp_path: Path) -> None:
    def found(size_mib: int, directory: str = str(tmp_path)) -> list[str]:
        wanted = MemoryFile(key="mem_path", directory=directory, size_mib=size_mib)
        host = Host(run_dir=tmp_path, privileged=False, uid_pool=range(0))
        site = Site(name="web1", host=host, level=Level.USER)
        return [str(problem) for problem in MemoryFileKind().verify(wanted, site)]

    assert found(1) == []
    assert "free, the instance needs" in found(1 << 40)[0]
    assert "cannot be used" in found(1, "/nowhere")[0]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("rbd:p/i", "rbd:p/i:id=me:conf=/etc/ceph/a.conf:mon_host=10.0.0.1", True),
        ("rbd:p/i", "rbd:p/n/i", False),
        ("rbd:p/i", "rbd:p/i@s", False),
        (r"rbd:p\/i/i", "rbd:p/i/i", False),
        (r"rbd:p/i\@s", "rbd:p/i@s", False),
        ("gluster://a/v/x.img", "gluster+unix:///v//./x.img?socket=/run/g", True),
        ("gluster://a/v/x.img", "gluster://a/v/y/../x.img", True),
        ("gluster://a/v/x.img", "gluster://a/w/x.img", False),
    ],
)
def test_a_network_disk_has_one_name_however_it_is_reached(one: str, other: str, *, same: bool) -> None:
    assert (parse_uri(one).canonical == parse_uri(other).canonical) is same


def test_a_network_disk_has_one_user(tmp_path: Path) -> None:
    host = Host(run_dir=tmp_path, privileged=False, uid_pool=range(0))

    def claim(name: str, uri: str, *, read_only: bool = False) -> None:
        kvm, disk = load("kvm"), hvcore.Disk(path=uri, read_only=read_only)
        instance = hvcore.Instance(name=name, driver="kvm", disks=(disk,))
        spec = kvm.driver.plan(instance, kvm.check(instance))
        record = hvcore.plugin.Record(
            name=name, driver="kvm", phase=Phase.STARTING, boot_id="", instance=instance, spec={}
        )
        store = Store(tmp_path)
        store.create(name)
        site = Site(name=name, host=host, level=Level.USER)
        job = Job(
            store=store,
            record=record,
            site=site,
            kinds=kvm.hooks.kinds,
            deadline=Deadline(5),
            progress=lambda text: None,
        )
        claims = spec.asks(DiskClaim)
        assert [job.acquire(*claims)[claim] for claim in claims] == [()]

    claim("web1", "rbd:pool/web1")
    with pytest.raises(hvcore.DiskInUseError, match="already in use by instance web1"):
        claim("web2", "rbd:pool/web1:id=admin")
    claim("web2", "rbd:pool/web2@old", read_only=True)
    claim("web3", "rbd:pool/web2@old", read_only=True)
