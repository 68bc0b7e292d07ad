"""Options of extensions that define an id twice, found when the driver is loaded: a command line is rendered. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import hvcore.plugin as hv
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt
from hv_kvm.machine.placement import decide
from hv_kvm.machine.render import IdClashError, distinct
from hv_kvm.machine.spec import Device
from hv_kvm.qemu.choose import Accel
from hv_kvm.run.describe import symbols

__all__ = ["rehearse"]

_NOTHING: Final[frozenset[str]] = frozenset()
_FACTS: Final = Facts(
    version="none",
    package="",
    commands=_NOTHING,
    options={},
    machines=(),
    types=_NOTHING,
    cpu_models=_NOTHING,
    block_drivers=_NOTHING,
    aio=_NOTHING,
    kvm_present=False,
    kvm_enabled=False,
)
_NODE: Final = hv.Host(run_dir=Path("/"), privileged=True, uid_pool=range(0), cgroups=hv.ControlGroups())
_SITE: Final = hv.Site(name="rehearsal", host=_NODE, level=hv.Level.STRICT, pure=True)


def rehearse(hooks: hv.Hooks) -> tuple[str, ...]:
    """Render a guest of defaults with a disk and a NIC. Raises `DriverLoadError` naming both plugins of a clash.

    Returns what could not be compared, a text for each failure: a plugin may need a value or a QEMU that is not there
    yet. What clashes for other values only is found when those are planned.
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
    params = hv.Params(
        values, values, dict.fromkeys(values, "rehearsal"), frozenset()
    )  # as if given: nobody is left out
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
