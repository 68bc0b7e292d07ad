"""What a guest sees of its machine, with this node's QEMU and with another one."""

from __future__ import annotations

import os
from dataclasses import replace

import hvcore.plugin as hv
from hv_kvm.machine.abi import abi_of
from hv_kvm.machine.facts import Facts, resolve_machine
from hv_kvm.machine.option import Opt
from hv_kvm.machine.render import rendered
from hv_kvm.machine.spec import KvmSpec
from hv_kvm.machine.stand_in import left_out, stand_in
from hv_kvm.qemu import probe
from hv_kvm.qemu.cpu_words import cpu_words
from hv_kvm.qemu.rehearsal import rehearse_move
from hv_kvm.resources.image_contents import disk_sizes
from hv_kvm.run.startup.describe import symbols
from hv_kvm.run.startup.start import Pinned, pin
from hvcore.plugin import dataclass

__all__ = ["SeesMachine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Machine:
    """A machine on this node: what was decided, its options, and what the guest sees."""

    pinned: Pinned
    options: list[tuple[str, Opt]]
    abi: hv.Abi

    @property
    def throw_away(self) -> tuple[str, ...]:
        """The options of a guest without disks, networks and displays, under emulation."""
        options = stand_in((option for _, option in self.options), disk_sizes(self.pinned.spec))
        return ("-accel", "tcg", *(token for option in options for token in option.argv))


class SeesMachine:
    """The part of the driver that says what a guest sees."""

    _hooks: hv.Hooks

    def guest_abi(self, spec: KvmSpec, host: hv.Host) -> hv.Abi:
        """The facts about the machine on this node, with its disks and its QEMU. Raises `ProbeError`."""
        return _machine(self._hooks, spec, host).abi

    def upgrade(self, spec: KvmSpec, host: hv.Host, program: str, *, live: hv.Live | None) -> hv.Upgrade:
        """What another QEMU would change for the machine. Raises `InputError` if it is not QEMU, and `ProbeError`."""
        own = None if live is None else _replaced_program(live)
        return _upgraded(self._hooks, spec if own is None else replace(spec, qemu=own), host, program)


def _machine(hooks: hv.Hooks, spec: KvmSpec, host: hv.Host) -> _Machine:
    pinned = pin(spec, host)
    spec = pinned.spec
    bindings = symbols(hooks, spec, pinned.site, pinned.accel)
    found = rendered(hooks, spec, pinned.facts, bindings)
    cpu = next((option.argv for _, option in found if option.name == "-cpu"), ())
    words = cpu_words(spec.qemu, f"{spec.machine},accel={pinned.accel.name}", cpu, host=host)
    return _Machine(pinned=pinned, options=found, abi=abi_of(found, sizes=disk_sizes(spec), words=words))


def _replaced_program(live: hv.Live) -> str | None:
    """A path to the QEMU that the guest runs in, if the file that it was started from is gone; else None.

    An upgrade of a package replaces that file. The kernel keeps the old one until the guest has ended.
    """
    process = live.record.process
    program = None if process is None else f"/proc/{process.pid}/exe"
    try:
        return program if program is not None and os.readlink(program).endswith(" (deleted)") else None
    except OSError:
        return None


def _upgraded(hooks: hv.Hooks, spec: KvmSpec, host: hv.Host, program: str) -> hv.Upgrade:
    """If the lists have no difference of class ``wire``, the move is rehearsed: throw-away guests are saved and loaded."""
    other = replace(spec, qemu=program)
    try:
        facts = probe.facts_of(other, host)
    except probe.ProbeError as error:
        raise hv.InputError(str(error)) from error
    refusals = _refusals(hooks, other, facts)
    if refusals:
        return hv.Upgrade(refusals=refusals)
    before, after = _machine(hooks, spec, host), _machine(hooks, other, host)
    changes = hv.abi_changes(before.abi, after.abi)
    notes = tuple(
        f"machine type {machine.name} is deprecated in QEMU {facts.version}"
        for machine in facts.machines
        if machine.deprecated and machine.name == after.pinned.spec.machine
    )
    if any(change.kind is hv.AbiClass.WIRE for change in changes):
        return hv.Upgrade(changes=changes, notes=notes)
    absent = left_out(option for _, option in before.options)
    if absent:
        notes += (f"not rehearsed with {', '.join(absent)}, which needs something of the node",)
    try:
        refused = rehearse_move(spec.qemu, before.throw_away, program, after.throw_away, cache_dir=str(host.cache_dir))
    except probe.ProbeError as error:
        return hv.Upgrade(changes=changes, notes=(*notes, f"not rehearsed: {error.reason}"))
    words = () if refused is None else (f"QEMU {facts.version} does not load the state of its machine: {refused}",)
    return hv.Upgrade(changes=changes, refusals=words, notes=notes)


def _refusals(hooks: hv.Hooks, spec: KvmSpec, facts: Facts) -> tuple[str, ...]:
    """Why a QEMU with these features cannot run the machine on any node."""
    if resolve_machine(facts, spec.machine) is None:
        return (f"QEMU {facts.version} has no machine type {spec.machine}",)
    found = hooks.items("verify", hv.Problem, spec=probe.pin(spec, facts), facts=facts)
    return tuple(str(problem) for _, problem in found)
