"""The rules between parameters that Ganeti has, and those that it lacks: values that each refuses and accepts.

The ids are K1 to K19 in the order in which Ganeti's KVM hypervisor states them; M1 and on are the missing ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import pytest
from corpus import Corpus
from world import World

import hvcore
from hv_kvm.machine.facts import Facts
from hvcore import Disk, Nic, ParamsError, Problem

BRIDGED: Final = Nic(mode="bridged", link="br0")
KERNEL: Final = {"kernel_path": "/boot/k", "root_path": "/dev/vda1"}
SPICE: Final = {"spice_bind": "127.0.0.1"}
VNC: Final = {"vnc_bind_address": "127.0.0.1"}
TLS: Final = {**VNC, "vnc_tls": True}


@dataclass(frozen=True)
class Rule:
    """``path`` is the field that is refused. Keys that are not parameters are fields of the instance, or facts."""

    id: str
    says: str
    path: str
    refused: Mapping[str, Any]
    accepted: Mapping[str, Any]


RULES: Final = (
    Rule(
        "K1",
        "kernel_path set: root_path must be set",
        "params.root_path",
        {"kernel_path": "/boot/k", "root_path": None},
        KERNEL,
    ),
    Rule(
        "K2",
        "serial_speed is one that a UART has",
        "params.serial_speed",
        {"serial_speed": 1234},
        {"serial_speed": 9600},
    ),
    Rule(
        "K3",
        "vnc_x509_verify: vnc_x509_path set",
        "params.vnc_x509_verify",
        {**TLS, "vnc_x509_verify": True},
        {**TLS, "vnc_x509_verify": True, "vnc_x509_path": "/pki"},
    ),
    Rule(
        "K4a",
        "security_model user: security_domain set",
        "params.security_domain",
        {"security_model": "user"},
        {"security_model": "user", "security_domain": "guest"},
    ),
    Rule(
        "K4b",
        "security_model none: no security_domain",
        "params.security_domain",
        {"security_model": "none", "security_domain": "guest"},
        {"security_model": "none"},
    ),
    Rule(
        "K4c",
        "security_model pool: no security_domain",
        "params.security_domain",
        {"security_model": "pool", "security_domain": "guest"},
        {"security_model": "pool"},
    ),
    Rule(
        "K5",
        "spice_ip_version is the family of spice_bind",
        "params.spice_ip_version",
        {**SPICE, "spice_ip_version": 6},
        {**SPICE, "spice_ip_version": 4},
    ),
    *(
        Rule(f"K6 {key}", "SPICE's parameters need spice_bind", f"params.{key}", {key: value}, {**SPICE, key: value})
        for key, value in {
            "spice_ip_version": 4,
            "spice_password_file": "/pw",
            "spice_image_compression": "glz",
            "spice_jpeg_wan_compression": "always",
            "spice_zlib_glz_wan_compression": "never",
            "spice_streaming_video": "all",
        }.items()
    ),
    Rule(
        "K6 spice_use_tls",
        "and so does TLS",
        "params.spice_use_tls",
        {"spice_use_tls": True},
        {**SPICE, "spice_use_tls": True, "spice_x509_path": "/pki"},
    ),
    Rule(
        "K7",
        "disk_aio native: disk_cache none exactly",
        "params.disk_cache",
        {"disk_aio": "native"},
        {"disk_aio": "native", "disk_cache": "none"},
    ),
    Rule(
        "K8",
        "disk_aio io_uring: QEMU has it",
        "params.disk_aio",
        {"disk_aio": "io_uring", "facts.aio": {"threads", "native"}},
        {"disk_aio": "io_uring"},
    ),
    Rule(
        "K9",
        "boot_order cdrom: cdrom_image_path set",
        "params.boot_order",
        {"boot_order": "cdrom"},
        {"boot_order": "cdrom", "cdrom_image_path": "/cd"},
    ),
    Rule("K11", "spice_bind and vnc_bind_address not both", "params.spice_bind", {**SPICE, **VNC}, SPICE),
    Rule(
        "K12 vnc",
        "VNC's bind is an address, an interface or a path",
        "params.vnc_bind_address",
        {"vnc_bind_address": "a b"},
        {"vnc_bind_address": "/run/a.sock"},
    ),
    Rule(
        "K12 spice",
        "SPICE's bind is an address or an interface",
        "params.spice_bind",
        {"spice_bind": "/run/a.sock"},
        {"spice_bind": "::1"},
    ),
    Rule("K13", "SPICE is built in", "params.spice_bind", {**SPICE, "facts.commands": set()}, SPICE),
    Rule(
        "K14",
        "machine_version is one that QEMU has, and a PC",
        "params.machine_version",
        {"machine_version": "pc-i440fx-99.9"},
        {"machine_version": "pc-i440fx-7.2"},
    ),
    Rule(
        "K15",
        "more queues need vhost_net",
        "params.virtio_net_queues",
        {"virtio_net_queues": 2, "vhost_net": False, "nics": (BRIDGED,)},
        {"virtio_net_queues": 2, "vhost_net": True, "nics": (BRIDGED,)},
    ),
    Rule("K16", "QEMU has the disk's device", "params.disk_type", {"facts.types": {"VGA"}}, {}),
    Rule(
        "K17",
        "a disk can be read-only where its bus can",
        "disks[0].read_only",
        {"disks": (Disk(path="/a", read_only=True),), "disk_type": "ide"},
        {"disks": (Disk(path="/a", read_only=True),)},
    ),
    Rule(
        "K18",
        "a cdrom is ide, paravirtual or scsi-cd",
        "params.cdrom_disk_type",
        {"cdrom_image_path": "/cd", "cdrom_disk_type": "scsi-hd"},
        {"cdrom_image_path": "/cd", "cdrom_disk_type": "scsi-cd"},
    ),
    Rule(
        "K19",
        "cpu_mask with several parts: as many as vcpus",
        "params.cpu_mask",
        {"cpu_mask": "0:1", "vcpus": 3},
        {"cpu_mask": "0:1:2", "vcpus": 3},
    ),
    Rule(
        "M1",
        "boot_order floppy: floppy_image_path set",
        "params.boot_order",
        {"boot_order": "floppy"},
        {"boot_order": "floppy", "floppy_image_path": "/f"},
    ),
    Rule(
        "M2",
        "boot_order network: a NIC",
        "params.boot_order",
        {"boot_order": "network"},
        {"boot_order": "network", "nics": (Nic(mode="user"),)},
    ),
    Rule(
        "M3",
        "sockets x cores x threads fit the vcpus",
        "params.cpu_sockets",
        {"cpu_sockets": 1, "cpu_cores": 2, "cpu_threads": 2, "vcpus": 3},
        {"cpu_sockets": 1, "cpu_cores": 2, "cpu_threads": 2, "vcpus": 4},
    ),
    Rule(
        "M4",
        "vnc_x509_path needs vnc_tls",
        "params.vnc_x509_path",
        {**VNC, "vnc_x509_path": "/pki"},
        {**TLS, "vnc_x509_path": "/pki"},
    ),
    Rule(
        "M5",
        "migration_caps are capabilities of QEMU",
        "params.migration_caps",
        {"migration_caps": ["xbzrel"]},
        {"migration_caps": ["xbzrle"]},
    ),
    Rule("M6", "keymap is one that QEMU has", "params.keymap", {**VNC, "keymap": "xx"}, {**VNC, "keymap": "de"}),
)


def found(corpus: Corpus, facts: Facts, given: Mapping[str, Any]) -> list[Problem]:
    """The problems of check, or else those of verify."""
    fields = {key: given[key] for key in ("vcpus", "disks", "nics") if key in given}
    able: dict[str, Any] = {
        key.removeprefix("facts."): frozenset(value) for key, value in given.items() if key.startswith("facts.")
    }
    params = {key: value for key, value in given.items() if key not in fields and not key.startswith("facts.")}
    instance = hvcore.Instance(name="web1", driver="kvm", params=params, **{"disks": (Disk(path="/srv/a"),), **fields})
    try:
        spec = corpus.kvm.driver.plan(instance, corpus.kvm.check(instance))
    except ParamsError as error:
        return list(error.problems)
    return [
        problem for _, problem in corpus.kvm.hooks.items("verify", Problem, spec=spec, facts=replace(facts, **able))
    ]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_refuses_and_accepts(rule: Rule, corpus: Corpus, recorded: dict[str, Facts]) -> None:
    facts = recorded["7.2"]
    refused = {problem.path for problem in found(corpus, facts, rule.refused)}
    assert rule.path in refused
    assert found(corpus, facts, rule.accepted) == []


def test_every_rule_of_ganetis_is_here() -> None:
    """K4n and K12 for interfaces depend on the node, see below. K10 is obsolete: those network cards can boot."""
    assert {rule.id.split()[0].rstrip("abc") for rule in RULES if rule.id[0] == "K"} == {
        f"K{number}" for number in range(1, 20) if number != 10
    }


def test_k10_a_paravirtual_nic_boots(corpus: Corpus, recorded: dict[str, Facts]) -> None:
    given = {"boot_order": "network", "nic_type": "paravirtual", "nics": (Nic(mode="user"),)}
    assert found(corpus, recorded["7.2"], given) == []


@pytest.mark.live
@pytest.mark.parametrize(
    ("given", "path", "says"),
    [
        ({"security_model": "user", "security_domain": "nobody-here"}, "params.security_domain", "is not a user"),
        ({"security_model": "user", "security_domain": "root"}, "params.security_domain", "is root"),
        ({"vnc_bind_address": "nosuch0"}, "params.vnc_bind_address", "is not a network interface of this node"),
        ({"spice_bind": "nosuch0"}, "params.spice_bind", "is not a network interface of this node"),
        ({"disks": ["rbd:pool/image"]}, "disks[0].path", "library needs the node's configuration and keys"),
        ({"kernel_path": "/nosuch", "root_path": "/dev/vda1"}, "params.kernel_path", "No such file"),
    ],
    ids=["K4n user", "K4n root", "K12 vnc", "K12 spice", "M7 rbd confined", "files"],
)
def test_the_rules_of_the_node_refuse(given: dict[str, Any], path: str, says: str, world: World, root: None) -> None:
    with pytest.raises(hvcore.VerifyError) as caught:
        world.kvm.verify(world.instance(**given))
    assert [problem.path for problem in caught.value.problems if says in problem.what] == [path]


@pytest.mark.live
def test_the_rules_of_the_node_accept(world: World, root: None) -> None:
    world.kvm.verify(world.instance(security_model="user", security_domain="nobody"))
    world.kvm.verify(world.instance(vnc_bind_address="lo", keymap="de"))


@pytest.mark.live
def test_spice_at_an_interface_is_accepted(world: World, root: None) -> None:
    try:
        world.kvm.verify(world.instance(spice_bind="lo"))
    except hvcore.VerifyError as error:
        if "qemu-system-modules-spice" not in str(error):
            raise
        pytest.skip("this QEMU has SPICE as a module, which is not installed (qemu-system-modules-spice)")
