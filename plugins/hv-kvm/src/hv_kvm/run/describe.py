"""Everything that a start of a guest would do, with symbols for what only a start makes."""

from __future__ import annotations

from collections.abc import Iterator

from hv_kvm.confinement import site_of
from hv_kvm.machine.bindings import Bindings
from hv_kvm.machine.render import render
from hv_kvm.machine.resource import HostNetwork
from hv_kvm.machine.spec import KvmSpec
from hv_kvm.qemu import choose
from hv_kvm.qemu.choose import Accel
from hvcore.plugin import Hooks, Host, Level, Plan, Site, Step

__all__ = ["describe", "symbols"]


def describe(hooks: Hooks, spec: KvmSpec, host: Host) -> Plan:
    """The plan. Raises `ProbeError` when the QEMU binary cannot be asked what it can do."""
    facts = choose.facts_of(spec, host)
    spec = choose.pin(spec, facts)
    accel, site = choose.accel_of(spec, host), site_of(spec, host)
    arguments = render(hooks, spec, facts, symbols(hooks, spec, site, accel))
    return Plan(name=spec.name, driver="kvm", steps=tuple(_steps(hooks, spec, site, accel)), arguments=arguments)


def symbols(hooks: Hooks, spec: KvmSpec, site: Site, accel: Accel) -> Bindings:
    """Bindings with a symbol such as ``{fd:qmp}`` for everything that only a start makes."""
    return Bindings(
        handles=hooks.kinds.placeholders(spec.resources, site),
        accel=accel.name,
        accel_why=accel.why,
        confined=site.level is not Level.OFF,
    )


def _steps(hooks: Hooks, spec: KvmSpec, site: Site, accel: Accel) -> Iterator[Step]:
    yield Step(kind="lock", what=f"the instance, and write to {site.dir}/record.json what follows")
    yield from hooks.kinds.steps(spec.resources, site)
    yield Step(kind="launch", what=f"{spec.qemu} ({accel.name}), {_confinement(spec, site.level)}")
    yield Step(kind="ready", what="when QMP answers, the confinement has been read back from /proc, and the guest runs")


def _confinement(spec: KvmSpec, level: Level) -> str:
    network = "the node's network" if spec.asks(HostNetwork) else "no network"
    own = {
        Level.STRICT: f"confined: a uid of its own, no capabilities, own mounts and /dev, {network}",
        Level.USER: f"confined in a user namespace of the caller: own mounts and /dev, {network}",
        Level.OFF: "not confined: it runs with all rights of the caller",
    }
    return own[level]
