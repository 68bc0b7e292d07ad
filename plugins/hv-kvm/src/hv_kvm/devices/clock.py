"""The real-time clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hv_kvm.machine.option import Opt
from hv_kvm.machine.spec import Device, KvmSpec
from hvcore.plugin import Instance, Param, ParamGroup, Params, boolean, hookimpl

__all__ = ["DEVICES", "PARAMS", "Clock", "plan", "render"]

PARAMS: Final = ParamGroup(
    "clock",
    Param(
        "use_localtime",
        boolean(),
        default=False,
        help="Whether the guest's clock shows the node's local time.",
        example=True,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock(Device):
    """What the clock shows: ``utc`` or ``localtime``."""

    base: str


DEVICES: Final = (Clock,)


@hookimpl
def plan(instance: Instance, params: Params) -> Iterator[Device]:
    """One clock."""
    del instance
    yield Clock(base="localtime" if params["use_localtime"] else "utc")


@hookimpl
def render(spec: KvmSpec) -> Iterator[Opt]:
    """Its base."""
    for clock in spec.of(Clock):
        yield Opt(name="-rtc", props={"base": clock.base}, params=("use_localtime",))
