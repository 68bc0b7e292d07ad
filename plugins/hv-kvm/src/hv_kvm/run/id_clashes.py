"""A rehearsal of a command line when the driver is loaded with extensions: do their options define one id twice? Pure."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from hv_kvm.machine.facts import Facts
from hv_kvm.machine.render import IdClashError, render
from hv_kvm.machine.spec import Device, decide
from hv_kvm.qemu.choose import Accel
from hv_kvm.run.describe import symbols
from hvcore import Disk, DriverLoadError, Hooks, Instance, Level, Nic

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


def rehearse(hooks: Hooks) -> None:
    """Render a guest of defaults with a disk and a NIC. Raises `DriverLoadError` naming both plugins of a clash.

    Only that is judged: what an extension needs a QEMU or a value for it may well fail without here, and what clashes
    for other values only is found when those are planned.
    """
    clash = _clash(hooks)
    if clash is not None:
        raise DriverLoadError(f"option id {clash.option!r}: defined by both {' and '.join(clash.both)}; rename one")


def _clash(hooks: Hooks) -> IdClashError | None:
    with suppress(Exception):
        params = {param.key: param.default for _, group in hooks.each("params") for param in group}
        instance = Instance(name="rehearsal", driver="kvm", disks=(Disk(path="/disk"),), nics=(Nic(),))
        found = hooks.items("plan", Device, instance=instance, params=params)
        spec = decide(instance, params, (device for _, device in found))
        try:
            render(hooks, spec, _FACTS, symbols(spec, Level.STRICT, Accel("tcg", "")))
        except IdClashError as error:
            return error
    return None
