"""What a guest would leave behind on its node, so that another node does not take it."""

from __future__ import annotations

from typing import Any

import pytest

import hvcore
from hv_kvm.run.migration.disk_copies import copied_disks
from hv_kvm.run.migration.refusals import left_behind
from hvcore.plugins.loader import load

DISK = hvcore.Disk(path="/srv/web1.img")
TEMPORARY = hvcore.Disk(path="/srv/base.img", temporary=True)


def refused(*disks: hvcore.Disk, params: dict[str, Any] | None = None, **wish: Any) -> list[str]:
    """The places of the problems."""
    kvm = load("kvm")
    instance = hvcore.Instance(name="web1", driver="kvm", disks=disks, params=params or {})
    spec = kvm.plan(instance, kvm.check(instance))
    return [problem.path for problem in left_behind(spec, hvcore.LandingWish(job="j1", **wish))]


@pytest.mark.parametrize("storage", ["shared", "mirror"])
def test_an_ordinary_guest_leaves_nothing(storage: str) -> None:
    assert refused(DISK, storage=storage) == []


def test_what_was_written_to_a_temporary_disk_has_to_be_copied() -> None:
    assert refused(DISK, TEMPORARY) == ["disks[1]"]
    assert refused(DISK, TEMPORARY, storage="mirror") == []


def test_a_usb_device_of_the_node_stays_there() -> None:
    assert refused(params={"usb_devices": "tablet,host:0123:abcd", "confinement": "off"}) == ["params.usb_devices"]


def test_a_guest_does_not_run_before_its_copied_disks_are_complete() -> None:
    assert refused(DISK, storage="mirror", mode="postcopy") == ["mode"]


def test_only_disks_that_the_guest_writes_to_are_copied() -> None:
    kvm = load("kvm")
    read_only = hvcore.Disk(path="/srv/data.img", read_only=True)
    instance = hvcore.Instance(name="web1", driver="kvm", disks=(DISK, read_only, TEMPORARY))
    assert copied_disks(kvm.plan(instance, kvm.check(instance))) == ("disk0", "disk2")
