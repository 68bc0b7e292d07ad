"""The machine itself: its type, the accelerator, ACPI, and what a reboot of the guest does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import hvcore.plugin as hv
from hv_kvm.devices.shared.params import problem
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt
from hv_kvm.machine.placement import FIRST_SLOT, LAST_SLOT
from hv_kvm.machine.resource import Bindings
from hv_kvm.machine.spec import Device, KvmSpec
from hvcore.plugin import dataclass

__all__ = ["DEVICES", "PARAMS", "Machine", "assess", "check", "plan", "render", "verify"]

PARAMS: Final = hv.ParamGroup(
    "machine",
    hv.Param(
        "kvm_path",
        hv.file(),
        default="/usr/bin/qemu-system-x86_64",
        help="The QEMU program that runs the guest.",
        example="/usr/local/bin/qemu-system-x86_64",
    ),
    hv.Param(
        "kvm_flag",
        hv.one_of(
            {
                "enabled": "On the node's CPUs. If KVM does not work, the start fails.",
                "disabled": "On a CPU emulated in software (TCG), which is much slower.",
            }
        ),
        help="Whether the guest runs on the node's CPUs (KVM) or on an emulated CPU.",
        default_means="KVM if a test guest runs under it on this node, else software emulation",
        example="disabled",
        changes="launch",
    ),
    hv.Param(
        "machine_version",
        hv.regexp("[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "a machine type such as 'pc' or 'pc-q35-7.2'"),
        default="pc",
        help="The machine type: the chipset and the buses that the guest sees. 'pc' and 'q35' mean the newest version that "
        "QEMU has when the instance starts.",
        default_means="the newest i440fx machine of QEMU",
        example="pc-i440fx-7.2",
    ),
    hv.Param(
        "kvm_pci_reservations",
        hv.integer(minimum=0, maximum=32),
        default=12,
        unit="PCI slots",
        help="How many PCI slots are kept for other devices. Disks and NICs use the slots from this number on, so that "
        "another device does not move them.",
        example=8,
    ),
    hv.Param(
        "acpi",
        hv.boolean(),
        default=True,
        help="Whether the guest has ACPI. Without ACPI, hv stop cannot ask the guest to shut down, and powers it off.",
        example=False,
    ),
    hv.Param(
        "reboot_behavior",
        hv.one_of({"reboot": "The guest reboots.", "exit": "QEMU exits, so the instance stops."}),
        default="reboot",
        help="What happens when the guest reboots itself.",
        example="exit",
    ),
    hv.Param(
        "confinement",
        hv.one_of(
            {
                "auto": "The level that security_model needs. Otherwise strict if root starts the instance, else user.",
                "strict": "Its own uid, no capabilities, and a file system with only what QEMU needs. Only root can start it.",
                "user": "The uid of the caller in a user namespace, and a file system with only what QEMU needs.",
                "off": "No isolation: QEMU runs as the caller.",
            }
        ),
        default="auto",
        help="How the QEMU process is isolated from the node.",
        default_means="strict for root, user for other users",
        changes="launch",
        example="user",
    ),
    help="The machine that the guest runs on.",
)
# Machine types of QEMU that are not a PC with a PCI bus. verify finds others.
_NEVER: Final = {
    "none": "is a machine without any devices",
    "microvm": "has no PCI bus and no firmware that boots disks",
    "isapc": "has no PCI bus",
    "x-remote": "is one half of a split QEMU, not a whole machine",
    "xenpv": "works under Xen only",
    "xenfv": "works under Xen only",
    "nitro-enclave": "is an enclave without disks and NICs",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine(Device):
    """Whether the guest may reboot itself. The rest of the machine is in the spec."""

    may_reboot: bool


DEVICES: Final = (Machine,)


@hv.hookimpl
def check(instance: hv.Instance, params: hv.Params) -> Iterator[hv.Problem]:
    """The machine must be a PC, and its PCI bus must have room for all disks and NICs."""
    name = params["machine_version"]
    reason = _NEVER.get(name) or (_NEVER["xenfv"] if name.startswith("xenfv-") else None)
    if reason is not None:
        yield problem(params, "machine_version", reason, "use 'pc' or 'q35'")
    places = max(0, LAST_SLOT + 1 - max(FIRST_SLOT, params["kvm_pci_reservations"]))
    disks = len(instance.disks) if params["disk_type"] == "paravirtual" else 0
    wanted = len(instance.nics) + disks
    if wanted > places:
        what = f"{wanted} disks and NICs are more than the {places} PCI slots for them"
        todo = "remove some, put disks behind a SCSI controller, or lower kvm_pci_reservations"
        yield hv.Problem(path="disks" if disks else "nics", what=what, todo=todo)


@hv.hookimpl
def assess(params: hv.Params) -> Iterator[hv.Problem]:
    """An alias means another machine after an upgrade of QEMU, and so does the default."""
    name = params["machine_version"]
    if name in ("pc", "q35"):
        what = "means a different virtual machine after QEMU is upgraded"
        version = f"pc-{'q35' if name == 'q35' else 'i440fx'}-7.2"
        todo = f"pin a version, for example '{version}', in this file or in node.toml"
        yield problem(params, "machine_version", what, todo)


@hv.hookimpl
def plan(params: hv.Params) -> Iterator[Device]:
    """One machine."""
    yield Machine(may_reboot=params["reboot_behavior"] == "reboot")


@hv.hookimpl
def verify(spec: KvmSpec, facts: Facts) -> Iterator[hv.Problem]:
    """This QEMU must have the machine type, which must be a PC for as many vCPUs."""
    path, got = "params.machine_version", repr(spec.machine)
    found = next((machine for machine in facts.machines if spec.machine in {machine.name, machine.alias}), None)
    if found is None:
        yield hv.Problem(path=path, what=facts.lacks("such machine"), got=got, todo=f"use {_choice(spec, facts)}")
    elif not found.name.startswith("pc-"):
        yield hv.Problem(path=path, what="is not a PC", got=got, todo="use 'pc' or 'q35'")
    elif spec.vcpus > found.cpu_max:
        what = f"is more than the {found.cpu_max} vCPUs that {found.name} can have"
        yield hv.Problem(path="vcpus", what=what, got=str(spec.vcpus), todo="lower vcpus, or use 'q35'")


@hv.hookimpl
def render(spec: KvmSpec, facts: Facts, bindings: Bindings) -> Iterator[Opt]:
    """Name, uuid, machine, and -S."""
    yield Opt(name="-name", props={"guest": spec.name, "debug-threads": True}, why="name of the instance")
    yield Opt(name="-uuid", head=spec.uuid, plain=True, why="uuid of the instance")
    yield Opt(name="-nodefaults", why="no default devices")
    yield Opt(name="-no-user-config", why="no configuration file of the node is read")
    alias = next((machine.alias for machine in facts.machines if machine.name == spec.machine), None)
    yield Opt(
        name="-machine",
        head=spec.machine,
        props={"accel": bindings.accel, "acpi": None if spec.acpi else False},
        params=("machine_version", "kvm_flag", "acpi"),
        why=bindings.accel_why,
        capability=f"alias {alias} means {spec.machine}" if alias else "",
    )
    if not all(machine.may_reboot for machine in spec.of(Machine)):
        yield Opt(name="-no-reboot", params=("reboot_behavior",), why="the instance stops when the guest reboots")
    yield Opt(name="-S", why="the guest runs only after all checks have passed")


def _choice(spec: KvmSpec, facts: Facts) -> str:
    """The versions of the same machine: ``'pc-q35-2.4' to 'pc-q35-10.0'``."""
    family = "pc-q35-" if spec.q35 else "pc-i440fx-"
    numbers = [machine.name.removeprefix(family) for machine in facts.machines if machine.name.startswith(family)]
    ordered = sorted(numbers, key=lambda number: [int(digits) for digits in re.findall("[0-9]+", number)])
    return f"'{family}{ordered[0]}' to '{family}{ordered[-1]}'" if ordered else "another"
