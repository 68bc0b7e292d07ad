"""The machine itself: its type, the accelerator, ACPI, and what a reboot of the guest does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hv_kvm.bindings import Bindings
from hv_kvm.facts import Facts
from hv_kvm.option import Opt
from hv_kvm.spec import SLOTS, Device, KvmSpec
from hvcore import Instance, Param, ParamGroup, Params, Problem, boolean, file, hookimpl, one_of, regexp

__all__ = ["PARAMS", "Machine", "check", "params", "plan", "render", "verify"]

PARAMS: Final = ParamGroup(
    "machine",
    Param("kvm_path", file(), default="/usr/bin/qemu-system-x86_64", help="The QEMU binary."),
    Param(
        "kvm_flag",
        one_of("enabled", "disabled"),
        help="Whether to use KVM. Unset: only if a trial guest really runs under it on this node.",
        example="disabled",
        changes="launch",
    ),
    Param(
        "machine_version",
        regexp("[a-z0-9][a-z0-9._-]{0,63}", "a machine type such as 'pc' or 'pc-q35-7.2'"),
        default="pc",
        help="The machine type. An alias is pinned to what it stands for when the instance is started.",
        example="pc-i440fx-7.2",
    ),
    Param("acpi", boolean(), default=True, help="Whether the guest has ACPI, and with it a power button."),
    Param(
        "reboot_behavior",
        one_of("reboot", "exit"),
        default="reboot",
        help="What happens when the guest reboots itself: it does, or the instance ends.",
    ),
    Param(
        "confinement",
        one_of("auto", "strict", "user", "off"),
        default="auto",
        help="How the process is confined: strict (own uid, root only), user (user namespace), off; auto picks.",
        changes="launch",
    ),
    help="What the guest is built on.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine(Device):
    """Whether the guest may reboot itself. The rest of the machine is in the spec."""

    may_reboot: bool


@hookimpl
def params() -> ParamGroup:
    """The family's parameters."""
    return PARAMS


@hookimpl
def check(instance: Instance, params: Params) -> Iterator[Problem]:
    """A machine to put things into, with a place for each of them."""
    if params["machine_version"] == "none":
        yield Problem(
            path="params.machine_version", what="has no machine in it", got="'none'", todo="use 'pc' or 'q35'"
        )
    wanted = len(instance.nics) + (len(instance.disks) if params["disk_type"] == "paravirtual" else 0)
    if wanted > SLOTS:
        what = f"{wanted} disks and NICs are more than the {SLOTS} places on the PCI bus"
        yield Problem(path="disks", what=what, todo="remove some")


@hookimpl
def plan(instance: Instance, params: Params) -> Iterator[Device]:
    """One machine."""
    del instance
    yield Machine(may_reboot=params["reboot_behavior"] == "reboot")


@hookimpl
def verify(spec: KvmSpec, facts: Facts) -> Iterator[Problem]:
    """The machine type must exist in this QEMU."""
    known = {machine.name for machine in facts.machines} | {machine.alias for machine in facts.machines}
    if spec.machine not in known:
        names = sorted(name for name in known if name and name.startswith(("pc", "q35")))
        todo = f"this QEMU ({facts.version}) has {', '.join(names[-6:])} and others"
        yield Problem(path="params.machine_version", what="no such machine type", got=repr(spec.machine), todo=todo)


@hookimpl
def render(spec: KvmSpec, bindings: Bindings) -> Iterator[Opt]:
    """Name, uuid, machine, and that it waits for us before its first instruction."""
    yield Opt(name="-name", props={"guest": spec.name, "debug-threads": True}, why="the instance's name")
    yield Opt(name="-uuid", head=spec.uuid, plain=True, why="the instance's uuid")
    yield Opt(name="-nodefaults", why="nothing that was not asked for")
    yield Opt(name="-no-user-config", why="no configuration file of the node changes the guest")
    yield Opt(
        name="-machine",
        head=spec.machine,
        props={"accel": bindings.accel, "acpi": None if spec.acpi else False},
        params=("machine_version", "kvm_flag", "acpi"),
        why=bindings.accel_why,
    )
    if not all(machine.may_reboot for machine in spec.of(Machine)):
        yield Opt(name="-no-reboot", params=("reboot_behavior",), why="a reboot of the guest ends the instance")
    yield Opt(name="-S", why="no instruction runs before everything has been checked")
