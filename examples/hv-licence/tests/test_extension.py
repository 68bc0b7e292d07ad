"""A guest has a seat for as long as it runs, and no other guest has the same seat."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hv_licence.plugin import Licence, render

import hvcore
import hvcore.plugin as hv
from hv_kvm.plugin import Bindings, KvmSpec


@pytest.fixture
def node(tmp_path: Path) -> Iterator[hvcore.Node]:
    """A node without instances; those that a test leaves are stopped."""
    node = hvcore.Node(tmp_path / "run")
    yield node
    for info in node.instances():
        node.stop(info.name, force=True)


@pytest.fixture
def kvm(node: hvcore.Node) -> hvcore.DriverHandle:
    """The driver on that node."""
    return node.driver("kvm")


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """A pool without a taken seat."""
    pool = tmp_path / "pool"
    pool.mkdir()
    return pool


def guest(name: str, **params: object) -> hvcore.Instance:
    return hvcore.Instance(name=name, driver="kvm", memory_mib=32, params={"kvm_flag": "disabled", **params})


def seated(name: str, pool: Path, seats: int = 1) -> hvcore.Instance:
    return guest(name, licence_pool=str(pool), licence_seats=seats)


def test_the_guest_is_given_the_number_of_its_seat() -> None:
    licence = Licence(pool="/srv/licences", seats=2)
    fields = {"machine": "pc", "qemu": "", "kvm": "", "confinement": "off"}
    spec = KvmSpec(name="web1", uuid="", memory_mib=64, vcpus=1, acpi=True, devices=(licence,), **fields)
    handles = hv.Handles({licence.seat.key: "2"})
    (option,) = render(spec, Bindings(handles=handles, accel="tcg"))
    assert option.argv == ("-fw_cfg", "name=opt/licence/seat,string=2")


def test_plan_shows_the_seat(kvm: hvcore.DriverHandle, pool: Path) -> None:
    plan = kvm.plan(seated("web1", pool, 2))
    assert f"take one of 2 seats in {pool}" in [str(step.what) for step in plan.steps]
    assert "name=opt/licence/seat,string={seat}" in plan.argv
    assert os.listdir(pool) == []


@pytest.mark.parametrize("params", [{"licence_seats": 2}, {"licence_pool": "/srv"}])
def test_half_a_licence_is_refused(kvm: hvcore.DriverHandle, params: dict[str, object]) -> None:
    with pytest.raises(hvcore.ParamsError, match="set without the other of licence_pool and licence_seats; set both"):
        kvm.check(guest("web1", **params))


def test_a_pool_that_does_not_exist_is_reported_once(kvm: hvcore.DriverHandle, tmp_path: Path) -> None:
    with pytest.raises(hvcore.VerifyError) as caught:
        kvm.verify(seated("web1", tmp_path / "none"))
    assert str(caught.value).count("licence_pool") == 1


@pytest.mark.live
def test_a_seat_is_taken_for_as_long_as_the_guest_runs(node: hvcore.Node, kvm: hvcore.DriverHandle, pool: Path) -> None:
    kvm.start(seated("web1", pool), paused=True)
    assert os.readlink(pool / "1").endswith("/run/instances/web1")
    refused = r"params\.licence_pool: has no free seat, all 1 are taken by .*/run/instances/web1, got .*; stop one"
    with pytest.raises(hvcore.VerifyError, match=refused):
        kvm.start(seated("web2", pool))
    kvm.verify(seated("web1", pool))  # its own seat is no obstacle
    node.stop("web1", force=True)
    assert os.listdir(pool) == []
    kvm.start(seated("web2", pool), paused=True)
    assert os.listdir(pool) == ["1"]


@pytest.mark.live
def test_a_start_that_fails_gives_the_seat_back(kvm: hvcore.DriverHandle, pool: Path, tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(b"no kernel")
    instance = guest("web1", licence_pool=str(pool), licence_seats=1, kernel_path=str(tmp_path / "kernel"))
    with pytest.raises(hvcore.LaunchError):
        kvm.start(instance)
    assert os.listdir(pool) == []
