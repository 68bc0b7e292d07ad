"""Network disks by their URIs: the disk that a URI names, and that two URIs of one disk have one name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hvcore
import hvcore.plugin
from hv_kvm.devices.shared.block_nodes import Gluster, Rbd, Server, network_props, parse_uri
from hvcore.deadline import Deadline
from hvcore.model.record import Phase
from hvcore.plugin import DiskClaim, Host, Job, Level, Site
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
def test_a_wrong_uri_raises_only_value_error(text: str, scheme: str) -> None:
    try:
        disk = parse_uri(scheme + text)
    except ValueError:
        return
    props = network_props(disk)
    assert all(isinstance(value, str | int | None) for value in props.values())
    assert all(key.startswith("file.") for key in props)


@given(st.lists(st.text("ab:@/\\;,=-_ .", min_size=1, max_size=8), min_size=2, max_size=2))
def test_escaped_names_of_an_image_are_read_unchanged(names: list[str]) -> None:
    def escaped(text: str) -> str:
        return "".join(f"\\{char}" if char in ":@/\\" else char for char in text)

    pool, image = names
    assert parse_uri(f"rbd:{escaped(pool)}/{escaped(image)}") == Rbd(pool=pool, image=image)


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
def test_a_network_disk_has_one_name_for_all_its_uris(one: str, other: str, *, same: bool) -> None:
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
        claims = spec.resources_of(DiskClaim)
        assert [job.acquire(*claims)[claim] for claim in claims] == [()]

    claim("web1", "rbd:pool/web1")
    with pytest.raises(hvcore.DiskInUseError, match="already in use by instance web1"):
        claim("web2", "rbd:pool/web1:id=admin")
    claim("web2", "rbd:pool/web2@old", read_only=True)
    claim("web3", "rbd:pool/web2@old", read_only=True)
