"""A start of a guest without the start: the plan of one, and a rehearsal that finds option ids defined twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import hvcore.plugin as hv
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt
from hv_kvm.machine.placement import decide
from hv_kvm.machine.render import IdClashError, distinct, render
from hv_kvm.machine.resource import Bindings, HostNetwork
from hv_kvm.machine.spec import Device, KvmSpec
from hv_kvm.qemu.accelerator import Accel
from hv_kvm.run.startup.start import Pinned, pin

__all__ = ["describe", "rehearse", "symbols"]

_PROCESS: Final = hv.InstanceProcess(key="process")
_NOTHING: Final[frozenset[str]] = frozenset()
_FACTS: Final = Facts(
    version="none",
    package="",
    commands=_NOTHING,
    options={},
    machines=(),
    types=_NOTHING,
    cpu_models=_NOTHING,
    cpu_features=_NOTHING,
    block_drivers=_NOTHING,
    aio=_NOTHING,
    kvm_present=False,
    kvm_enabled=False,
)
_NODE: Final = hv.Host(run_dir=Path("/"), privileged=True, uid_pool=range(0), cgroups=hv.ControlGroups())
_SITE: Final = hv.Site(name="rehearsal", host=_NODE, level=hv.Level.STRICT, pure=True)


def describe(hooks: hv.Hooks, spec: KvmSpec, host: hv.Host) -> hv.Plan:
    """The steps and the command line of a start. Raises `ProbeError` when the QEMU binary does not answer."""
    pinned = pin(spec, host)
    bindings = symbols(hooks, pinned.spec, pinned.site, pinned.accel)
    arguments = render(hooks, pinned.spec, pinned.facts, bindings)
    return hv.Plan(name=spec.name, driver="kvm", steps=tuple(_steps(hooks, pinned)), arguments=arguments)


def symbols(hooks: hv.Hooks, spec: KvmSpec, site: hv.Site, accel: Accel) -> Bindings:
    """Bindings with a symbol such as ``{fd:qmp}`` for everything that only a start makes."""
    handles, confined = hooks.kinds.placeholders(spec.resources, site), site.level is not hv.Level.OFF
    return Bindings(handles=handles, accel=accel.name, accel_why=accel.why, confined=confined)


def _steps(hooks: hv.Hooks, pinned: Pinned) -> Iterator[hv.Step]:
    spec, site = pinned.spec, pinned.site
    yield hv.Step(kind="lock", what=f"the instance, and write its record to {site.dir}/record.json")
    yield from hooks.kinds.steps((*spec.resources, _PROCESS), site)
    network = "the node's network" if spec.resources_of(HostNetwork) else "no network"
    confinement = {
        hv.Level.STRICT: f"confined: its own uid, no capabilities, own mounts and /dev, {network}",
        hv.Level.USER: f"confined in a user namespace of the caller: own mounts and /dev, {network}",
        hv.Level.OFF: "not confined: with all rights of the caller",
    }
    yield hv.Step(kind="launch", what=f"{spec.qemu} ({pinned.accel.name}), {confinement[site.level]}")
    what = "when QMP answers, /proc shows that QEMU is confined, and the guest runs"
    yield hv.Step(kind="ready", what=what)


def rehearse(hooks: hv.Hooks) -> tuple[str, ...]:
    """Render a guest of defaults with a disk and a NIC. Raises `DriverLoadError` naming both plugins of a clash of ids.

    Returns a text for each plugin that could not be compared, because it needs a value or a QEMU that is missing here.
    A clash that only other values cause is found when a guest with those values is planned.
    """
    failures: list[str] = []
    options = [(plugin, found) for plugin, found in _rendered(hooks, failures) if isinstance(found, Opt)]
    try:
        list(distinct(hooks, options))
    except IdClashError as clash:
        both = " and ".join(clash.both)
        raise hv.DriverLoadError(f"option id {clash.option!r}: defined by both {both}; rename one") from clash
    return tuple(failures)


def _rendered(hooks: hv.Hooks, failures: list[str]) -> list[tuple[str, Opt | hv.HookError]]:
    values = {param.key: param.default for _, group in hooks.each("params") for param in group}
    # All marked as set, so that plugins do not leave them out.
    params = hv.Params(values, values, dict.fromkeys(values, "rehearsal"), frozenset())
    instance = hv.Instance(name="rehearsal", driver="kvm", disks=(hv.Disk(path="/disk"),), nics=(hv.Nic(),))
    planned = list(hooks.attempts("plan", Device, instance=instance, params=params))
    failures += [str(found) for _, found in planned if isinstance(found, hv.HookError)]
    try:
        spec = decide(instance, params, [found for _, found in planned if isinstance(found, Device)])
        bindings = symbols(hooks, spec, _SITE, Accel("tcg", ""))
    except Exception as error:  # noqa: BLE001 - the devices are an extension's, and so is what their methods raise
        failures.append(f"its devices cannot be placed, got {type(error).__name__}: {error}")
        return []
    rendered = list(hooks.attempts("render", Opt, spec=spec, facts=_FACTS, bindings=bindings))
    failures += [str(found) for _, found in rendered if isinstance(found, hv.HookError)]
    return rendered
