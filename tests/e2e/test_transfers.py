"""What a guest sends and receives over a user network arrives whole, both ways."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from linux_guest import LinuxGuest, guest_params, linux_guests
from own_network import ADDRESSES, own_network
from transfers import configure, received, sent

import hvcore
from hvcore.host.network.installed_passt import passt_options
from hvcore.model.network.passt_arguments import CLOSES_LOOPBACK

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]

MTUS = {"passt": 65520, "slirp": 1500}


@pytest.fixture(params=["passt", pytest.param("slirp", marks=pytest.mark.slow)])
def guest(request: pytest.FixtureRequest, node: hvcore.Node, tmp_path: Path) -> Iterator[LinuxGuest]:
    kind = request.param
    if kind == "passt" and shutil.which(kind) is None:
        pytest.skip("no passt on this machine: ./dev setup")
    params = {**guest_params(tmp_path, "virtio_pci", "virtio_net"), "user_network": kind}
    instance = hvcore.Instance(name="web1", driver="kvm", memory_mib=384, nics=(hvcore.Nic(),), params=params)
    with own_network(), linux_guests(node, instance) as (made,):
        configure(made, mtu=MTUS[kind])
        yield made


def out_and_in(guest: LinuxGuest, mib: int) -> None:
    guest.run(f"dd if=/dev/urandom of=/data bs=1M count={mib}", deadline_s=300)
    wanted = guest.run("md5sum </data", deadline_s=300).split()[0]
    assert sent(guest, "cat /data", ADDRESSES[4]) == (wanted, mib << 20)
    data = os.urandom(mib << 20)
    wanted = hashlib.md5(data, usedforsecurity=False).hexdigest()
    assert received(guest, data, "md5sum", ADDRESSES[4]).split()[0] == wanted


def test_1_mib_arrives_whole_both_ways(guest: LinuxGuest) -> None:
    out_and_in(guest, 1)


@pytest.mark.slow
def test_100_mib_arrive_whole_both_ways(
    guest: LinuxGuest, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if request.node.callspec.params["guest"] == "passt":
        known = passt_options("/usr/bin/passt", tmp_path_factory.mktemp("cache"))
        why = "passt of 2023 resets it after 24 seconds without an answer: docs/how-to/reach-a-guest.md"
        request.applymarker(pytest.mark.xfail(CLOSES_LOOPBACK not in known, reason=why, strict=False))
    out_and_in(guest, 100)
