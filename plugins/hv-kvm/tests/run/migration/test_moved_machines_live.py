"""Migrations of real guests with an operating system, changed devices, firmware and a TPM."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from linux_guest import console, guest_params, linux_guests
from moved import Side, move
from world import PATIENCE_S

import hvcore

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(900)]

_OVMF = Path("/usr/share/OVMF/OVMF_CODE_4M.fd"), Path("/usr/share/OVMF/OVMF_VARS_4M.fd")


def test_a_linux_guest_keeps_its_memory_its_processes_and_its_changed_devices(sides: tuple[Side, Side]) -> None:
    one, other = sides
    modules = ("virtio_pci", "virtio_blk", "virtio_mem", "virtio_balloon", "virtio_net")
    params: dict[str, Any] = guest_params(one.world.root, *modules)
    params |= {"vcpus_max": 2, "memory_max": 384, "kernel_args": "quiet panic=1 memhp_default_state=online_movable"}
    instance = replace(one.world.instance(disks=[]), memory_mib=256, params=params)
    with linux_guests(one.world.node, instance) as (guest,):
        node = one.world.node
        assert node.resize_vcpus("web1", 2, deadline_s=PATIENCE_S).reached
        assert node.resize_memory("web1", 320, deadline_s=PATIENCE_S).reached
        node.attach("web1", hvcore.Disk(path=one.world.disk("late.img")), deadline_s=PATIENCE_S)
        boot = guest.run("cat /proc/sys/kernel/random/boot_id")
        guest.run("dd if=/dev/urandom of=/words bs=1M count=20 && md5sum /words > /sum")
        guest.run("(while true; do date > /beat; sleep 0.1; done) > /dev/null 2>&1 & true")
    move(one, other)
    with console(other.world.node, "web1") as moved:
        assert moved.run("cat /proc/sys/kernel/random/boot_id") == boot
        moved.run("md5sum -c /sum")
        moved.run("rm /beat; until [ -e /beat ]; do sleep 0.1; done")
        moved.run("dd if=/dev/vda of=/dev/null bs=64k count=4")
    assert other.world.info().memory_mib == 320
    other.world.node.detach("web1", "disk0", deadline_s=PATIENCE_S)
    move(other, one, mode="paused")
    with console(one.world.node, "web1") as back:
        back.run("md5sum -c /sum")
        assert back.run("cat /proc/sys/kernel/random/boot_id") == boot


def test_firmware_variables_and_the_keys_of_a_tpm_arrive(sides: tuple[Side, Side]) -> None:
    if shutil.which("swtpm") is None or not all(path.exists() for path in _OVMF):
        pytest.skip("no swtpm or no OVMF on this machine: ./dev setup")
    one, other = sides
    found = []
    for side in sides:
        (side.world.root / "tpm").mkdir()
        disk, variables = str(one.world.root / "web1.img"), str(one.world.root / "vars.fd")
        params = {"tpm_version": "2.0", "tpm_state_path": str(side.world.root / "tpm")}
        firmware = {"machine_version": "q35", "boot_firmware": "uefi", "uefi_vars_path": variables}
        one.world.disk("web1.img")
        found.append(one.world.instance(disks=[disk], memory_mib=64, **params, **firmware))
    one.world.kvm.start(found[0], deadline_s=PATIENCE_S)
    spec = other.loaded.plan(found[1], other.loaded.check(found[1]))
    before = {path.name for path in (one.world.root / "tpm").iterdir()}
    one.send(other.land(one, spec=spec))
    state = one.until()
    assert state.state is hvcore.TransferState.COMPLETED, (state, other.transfer())
    other.until()
    other.run_landed()
    one.end()
    assert other.world.info().state is hvcore.State.RUNNING
    assert other.world.info().reason is None
    other.end()
    assert {path.name for path in (other.world.root / "tpm").iterdir()} == before
