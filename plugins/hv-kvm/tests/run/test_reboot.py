"""A reboot of a guest: the machine that was saved, with the values that may change at a launch."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from corpus import Corpus
from distributions import installed
from world import World

import hvcore
import hvcore.plugin as hv
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.spec import KvmSpec, PciDevice
from hv_kvm.qemu.probe import pin
from hvcore import Disk, Instance, Nic, State
from hvcore.model.definitions.merge import merged
from hvcore.plugin import encode

# Not in a machine: migrations are checked and not done yet, QEMU's chroot is part of every confinement, and no NIC there is
# on a switch of Open vSwitch.
IN_NO_MACHINE = {
    "migration_bandwidth",
    "migration_caps",
    "migration_downtime",
    "migration_mode",
    "migration_port",
    "ovs_socket",
    "use_chroot",
}
TOGETHER: Mapping[str, object] = {
    "security_model": "user",
    "security_domain": "guest1",
}  # neither goes without the other
MACHINE = Instance(
    name="web1",
    driver="kvm",
    vcpus=2,
    disks=(Disk(path="/srv/a.img"), Disk(path="/srv/b.img", temporary=True)),
    nics=(Nic(mode="bridged", link="br0"), Nic(mode="user")),
)
MACHINES: list[Mapping[str, object]] = [
    {"vnc_bind_address": "127.0.0.1", "tpm_version": "2.0", "tpm_state_path": "/srv/tpm"},
    {"spice_bind": "127.0.0.1"},
    {"machine_version": "q35"},
]


def changed_by(
    corpus: Corpus, machine: Mapping[str, object], given: Mapping[str, object]
) -> tuple[KvmSpec, KvmSpec] | None:
    """That machine as planned without and with these values; None when it refuses the values or does not hold them."""
    try:
        before, after = (
            corpus.kvm.driver.plan(MACHINE, corpus.kvm.check(replace(MACHINE, params=params)))
            for params in (machine, {**machine, **given})
        )
    except hv.ParamsError:
        return None
    return None if before == after else (before, after)


def places(spec: KvmSpec) -> list[tuple[type, int]]:
    return [(type(one), one.slot) for one in spec.devices if isinstance(one, PciDevice)]


def test_each_value_of_a_launch_does_exactly_its_part_in_a_pinned_machine_and_moves_no_device(
    corpus: Corpus, recorded: dict[str, Facts]
) -> None:
    facts, found = recorded["7.2"], set()
    of_a_launch = {key: param for key, param in corpus.kvm.schema.params.items() if param.changes != "start"}
    for key, param in of_a_launch.items():
        for machine in MACHINES:
            both = changed_by(corpus, machine, TOGETHER if key in TOGETHER else {key: param.example})
            if both is None:
                continue
            saved, wanted = (pin(spec, facts) for spec in both)
            assert saved.machine != both[0].machine
            spec = corpus.kvm.read_spec(merged(encode(saved), *map(encode, both)))
            assert spec == wanted, key
            assert places(both[0]) == places(both[1]), key
            found.add(key)
    assert set(of_a_launch) - found == IN_NO_MACHINE


FILE = """
name = "web1"
driver = "kvm"
memory_mib = {memory_mib}

[[disks]]
path = "{disk}"

[params]
kvm_flag = "disabled"
{params}
"""


def write(world: World, memory_mib: int, params: str) -> Path:
    path = world.root / "web1.toml"
    path.write_text(FILE.format(memory_mib=memory_mib, disk=world.disk("web1.img"), params=params))
    return path


def argv(world: World) -> str:
    return Path(f"/proc/{world.pid()}/cmdline").read_bytes().replace(b"\0", b" ").decode()


@pytest.mark.live
def test_the_machine_stays_and_what_may_change_at_a_launch_is_taken(world: World) -> None:
    path = write(world, 32, "")
    world.kvm.start(hvcore.load_instance(path), source=path)
    record = world.record()
    assert record.source == str(path)
    # As if the alias meant another machine when the guest was started: QEMU was upgraded since.
    world.save(replace(record, spec={**record.spec, "machine": "pc-i440fx-6.2"}))
    write(world, 48, 'kvm_extra = "-msg timestamp=on"\nacpi = false')
    outcome = world.node.reboot("web1", force=True)
    assert outcome.notes == (
        "params.kvm_extra: the new values are used",
        "memory_mib, params.acpi: changed since its start; a reboot keeps the old values, stop and start take the new",
    )
    command = argv(world)
    assert "-machine pc-i440fx-6.2," in command
    assert "-msg timestamp=on" in command
    assert "-m 32" in command or "size=32M" in command or "size=33554432" in command
    assert {**world.record().spec, "devices": None} == {**record.spec, "machine": "pc-i440fx-6.2", "devices": None}


EXTENSION = """
import hvcore.plugin as hv
from dataclasses import dataclass
from hv_kvm.machine.spec import Device

@dataclass(frozen=True, slots=True, kw_only=True)
class Extra(Device):
    pass

@hv.hookimpl
def params():
    return hv.ParamGroup("x", hv.Param("x_flag", hv.boolean(), default=False, help="Mine."))

@hv.hookimpl(specname="devices")
def _devices():
    yield Extra
"""
BROKEN = {
    "a parameter of kvm's own": ("x_flag", "kvm_flag"),
    "params that raise": ("return hv.", "return nonsense."),
    "devices that raise": ("yield Extra", "yield nonsense"),
    "a device of kvm's own": ("class Extra(Device):\n    pass", "from hv_kvm.devices.disk import Disk as Extra"),
    "an import that fails": ("import hvcore.plugin as hv\n", "import hvcore_that_is_not_there\n"),
}


@pytest.mark.live
@pytest.mark.parametrize("broken", BROKEN)
def test_a_guest_is_seen_and_stopped_while_an_extension_of_kvm_is_broken(
    broken: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.start()
    installed(world.root, "kvm_x", "[hvcore.extensions]\nkvm.x = kvm_x:plugin\n")
    source = EXTENSION.replace(*BROKEN[broken])
    (world.root / "kvm_x.py").write_text(f"{source}\nimport sys\nplugin = sys.modules[__name__]\n")
    monkeypatch.syspath_prepend(str(world.root))
    node = hvcore.Node(world.run_dir, uid_pool=world.uids)
    try:
        assert [one.state for one in node.instances()] == [State.RUNNING]
        with pytest.raises(hv.HvError, match=r"kvm_x 1\.0"):
            node.reboot("web1")
        outcome = node.stop("web1", deadline_s=1)
        assert outcome.state is State.STOPPED
        assert "kvm_x 1.0" in outcome.notes[-1]
    finally:
        sys.modules.pop("kvm_x", None)


@pytest.mark.live
def test_a_guest_is_ended_by_force_while_two_distributions_claim_its_driver(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.start()
    installed(world.root, "hv_other", "[hvcore.drivers]\nkvm = hv_kvm.driver:KvmDriver\n")
    monkeypatch.syspath_prepend(str(world.root))
    node = hvcore.Node(world.run_dir, uid_pool=world.uids)
    assert [one.state for one in node.instances()] == [State.RUNNING]
    with pytest.raises(hv.DriverLoadError, match="uninstall all but one") as caught:
        node.stop("web1")
    assert caught.value.__notes__ == ["web1: hv stop --force stops it without its driver"]
    outcome = node.stop("web1", force=True)
    assert outcome.stopped_by == "kill"
    assert "uninstall all but one" in outcome.notes[0]
