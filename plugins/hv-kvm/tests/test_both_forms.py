"""Both forms of an option make one device, in the QEMU that is installed.

Each device of each golden case is there twice: from the command line; and by QMP, or when QEMU cannot plug such a one,
by an option with JSON. Nothing of the two may differ. Guests are stopped before their first instruction.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from both_forms import Here, Signature
from corpus import CASES, GOLDEN, Corpus, bindings
from introspection import Introspection
from pki import make_certificates
from qapi import wrong
from stage import Props

from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt, as_command
from hv_kvm.qemu.probe import probe

pytestmark = pytest.mark.live

KERNEL: Final = Path(__file__).resolve().parents[3] / ".cache" / "kernel" / "vmlinuz"
VHOST: Final = "/dev/vhost-net"

NOT_HERE: Final = {
    "media/cdrom-ftp": "a ftp server",
    "media/cdrom-https": "a https server",
    "disk/gluster": "a gluster server",
    "disk/gluster-unix": "a gluster server",
    "disk/rbd": "a rbd server",
    "disk/rbd-snapshot": "a rbd server",
    "disk/scsi-block": "a SCSI device",
    "disk/scsi-generic": "a SCSI device",
    "nic/bridged": VHOST,
    "nic/bridged-vlan-mtu": VHOST,
    "nic/ext": VHOST,
    "nic/macvtap": VHOST,
    "nic/mixed": VHOST,
    "nic/openvswitch": VHOST,
    "nic/queues": VHOST,
    "nic/routed": VHOST,
    "usb/host": "the host's USB device",
}
"""Cases with a device that a test machine cannot start, and what it needs. Both forms are checked by QMP's schema only.

The NICs are compared without vhost.
"""

NOT_IN_QEMU_7_2: Final = {
    "audio/not-in-this-qemu": "params.soundhw",
    "cpu/feature-of-a-later-release": "params.cpu_type",
    "cpu/model-of-a-later-release": "params.cpu_type",
    "cpu/model-that-went": "params.cpu_type",
    "machine/later-version": "params.machine_version",
}
"""Cases that this QEMU refuses and another recorded one does not, by what it refuses.

The one device among them, ``virtio-sound-pci``, is checked here in neither form.
"""

PLUGGED: Final = {
    *("virtio-balloon-pci", "virtio-blk-pci", "virtio-net-pci", "virtio-rng-pci", "virtio-scsi-pci"),
    *("virtio-serial-pci", "virtserialport", "lsi53c895a", "megasas", "dc390", "scsi-cd", "scsi-hd"),
    *("AC97", "ES1370", "intel-hda", "e1000", "ne2k_pci"),
    *("piix3-usb-uhci", "usb-ccid", "usb-kbd", "usb-mouse", "usb-tablet", "usb-wacom-tablet"),
}
"""Devices that are compared with one that ``device_add`` adds."""

NOT_PLUGGED: Final = {
    "Bus 'pcie.0' does not support hotplugging": {
        *("virtio-balloon-pci", "virtio-blk-pci", "virtio-rng-pci", "virtio-scsi-pci", "virtio-serial-pci"),
        *("e1000", "intel-hda", "qemu-xhci"),
    },
    "Parameter 'driver' expects a pluggable device type": {
        *("VGA", "cirrus-vga", "qxl-vga", "virtio-vga", "vmware-svga"),
    },
    "Bus 'isa.0' does not support hotplugging": {"adlib", "cs4231a", "gus", "sb16", "isa-fdc"},
    "Bus 'fdc.0' does not support hotplugging": {"floppy"},
    "Bus 'floppy-bus.0' does not support hotplugging": {"floppy"},
    "Bus 'sound-hda.0' does not support hotplugging": {"hda-duplex"},
    "Bus 'ide.0' does not support hotplugging": {"ide-hd"},
    "Bus 'ide.1' does not support hotplugging": {"ide-hd", "ide-cd"},
    "Bus 'ide.4' does not support hotplugging": {"ide-cd"},
    "Bus 'ide.5' does not support hotplugging": {"ide-cd"},
}
"""QEMU's message about the other devices, which are compared with one from an option with JSON.

So are the block nodes and objects of the firmware, the TPM, the memory and the displays.
"""


@pytest.fixture(scope="module")
def here(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Here:
    qemu = shutil.which("qemu-system-x86_64")
    if qemu is None or os.geteuid() != 0:
        pytest.skip("needs qemu-system-x86_64, and root for taps: sudo ./dev test")
    facts = probe(qemu, cache_dir=None)
    if facts.release != "7.2":
        pytest.skip(f"the tables here are of QEMU 7.2, not of {facts.release}")
    folder = tmp_path_factory.mktemp("forms")
    certificates = make_certificates(folder / "pki") if shutil.which("openssl") else None
    return Here(corpus, qemu, facts, Props(qemu, folder, KERNEL, certificates))


def named(case: Path) -> str:
    return f"{case.parent.name}/{case.stem}"


def test_both_forms_make_one_device(here: Here) -> None:
    """One case with block nodes, back ends of the network, objects and devices; the slow test has all cases."""
    found = here.both(GOLDEN / "nic/user.toml")
    assert found.differences == {}
    added = ("balloon", "rng-dev", "disk0-dev", "nic0-dev")
    assert found.came_later >= {f"/machine/peripheral/{name}" for name in added}


def test_a_difference_is_seen(here: Here) -> None:
    """Proves that the other tests of this module can fail."""

    def change(option: Opt) -> Opt:
        others = {"rng-random": {"filename": "/dev/random"}, "virtio-blk-pci": {"write-cache": "off"}}
        return replace(option, props={**option.props, **others.get(str(option.head), {})})

    found = here.both(GOLDEN / "disk/read-only.toml", change=change)
    assert found.differences.keys() == {
        "/objects/rng/filename",
        "/machine/peripheral/disk0-dev/write-cache",
        "/machine/peripheral/disk0-dev/virtio-backend/write-cache",
        "block /machine/peripheral/disk0-dev/virtio-backend",
    }


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_both_forms_of_every_device_make_one_device(here: Here) -> None:
    needs = {case: here.missing(case) for case in here.machines}
    chosen = dict(_cover(here, needs))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(chosen, pool.map(here.both, chosen, chosen.values()), strict=True))
    assert {named(case): twice.differences for case, twice in found.items() if twice.differences} == {}
    proven = set().union(*(new for case, new in chosen.items() if not needs[case]))
    left = {case for case, machine in here.machines.items() if machine.signatures - proven}
    assert {named(case): needs[case] for case in left} == _expected()
    refused: dict[str, set[str]] = {}
    for (kind, _), refusal in (row for twice in found.values() for row in twice.refused.items()):
        refused.setdefault(refusal, set()).add(kind)
    assert refused == NOT_PLUGGED
    assert {kind for twice in found.values() for kind, _ in twice.plugged} == PLUGGED


def _cover(here: Here, needs: Mapping[Path, str]) -> Iterator[tuple[Path, set[Signature]]]:
    """A few cases that together have all devices: each adds devices to those before it."""
    left = set().union(*(machine.signatures for machine in here.machines.values()))
    order = sorted(here.machines, key=lambda case: (bool(needs[case]), -len(here.machines[case].signatures)))
    for case in order:
        new = here.machines[case].signatures & left
        if new and needs[case] in ("", VHOST):
            yield case, new
            left -= new


def _expected() -> dict[str, str]:
    return {name: need for name, need in NOT_HERE.items() if need != VHOST or not os.path.exists(VHOST)}


def test_every_value_is_of_the_type_that_qemu_takes(here: Here) -> None:
    """Also for devices that cannot be started here. By the rules of QEMU 10: 7.2 accepts a text in place of a number."""
    options: dict[tuple[str, ...], Opt] = {}
    for case in CASES:
        if here.corpus.answer(case, here.facts).kind == "argv":
            spec = here.corpus.spec(case, here.facts)
            bound = bindings(here.corpus.kvm, case, spec)
            options |= {option.argv: option for option in here.corpus.options(spec, here.facts, bound)}
    with Introspection.of(here.qemu) as says:
        commands = [command for command in map(as_command, options.values()) if command]
        assert {problem for it in commands for problem in wrong(says, it.name, it.arguments)} == set()
    assert {it.name for it in commands} >= {"device_add", "blockdev-add", "object-add", "netdev_add", "chardev-add"}


def test_a_wrong_type_would_be_seen(here: Here) -> None:
    blockdev = {"driver": "raw", "node-name": "d", "file": {"driver": "rbd", "pool": "p", "image": "i"}}
    server = {"host": "h", "port": 6789}
    wrongs: list[tuple[str, dict[str, object]]] = [
        ("device_add", {"driver": "virtio-net-pci", "mq": "on"}),
        ("device_add", {"driver": "virtio-net-pci", "vectors": "4"}),
        ("device_add", {"driver": "virtio-blk-pci", "write-cache": True}),
        ("device_add", {"driver": "virtio-blk-pci", "addr": 12}),
        ("device_add", {"driver": "virtio-blk-pci", "no-such": 1}),
        ("device_add", {"driver": "scsi-hd", "lun": True}),
        ("blockdev-add", {**blockdev, "read-only": "on"}),
        ("blockdev-add", {**blockdev, "discard": "no"}),
        ("blockdev-add", {**blockdev, "file": {**blockdev["file"], "server": [server]}}),  # type: ignore[dict-item]
        ("blockdev-add", {**blockdev, "file": {"driver": "rbd", "pool": "p"}}),
        ("netdev_add", {"type": "tap", "id": "n", "vhost": "on"}),
        ("object-add", {"qom-type": "memory-backend-file", "id": "m", "mem-path": "/m", "size": "512M"}),
        ("chardev-add", {"id": "c", "backend": {"type": "socket", "data": {"fd": "3"}}}),
    ]
    with Introspection.of(here.qemu) as says:
        assert [list(wrong(says, *it)) for it in wrongs if not list(wrong(says, *it))] == []


def test_the_table_of_what_this_qemu_lacks_is_exact(here: Here, recorded: dict[str, Facts]) -> None:
    others = [facts for release, facts in recorded.items() if release != "7.2"]
    lacking = {}
    for case in CASES:
        answer = here.corpus.answer(case, here.facts)
        if answer.kind == "error" and any(here.corpus.answer(case, facts).kind == "argv" for facts in others):
            lacking[named(case)] = answer.text.partition(":")[0]
    assert lacking == NOT_IN_QEMU_7_2
