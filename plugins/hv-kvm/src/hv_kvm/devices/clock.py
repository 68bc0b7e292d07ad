"""The real-time clock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import hvcore.plugin as hv
from hv_kvm.machine.option import Opt
from hv_kvm.machine.spec import Device, KvmSpec
from hvcore.plugin import dataclass

__all__ = ["DEVICES", "PARAMS", "Clock", "plan", "render"]

PARAMS: Final = hv.ParamGroup(
    "clock",
    hv.Param(
        "use_localtime",
        hv.boolean(),
        default=False,
        help="Whether the guest's real-time clock shows the node's local time instead of UTC. Windows expects local time.",
        example=True,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock(Device):
    """The time that the clock shows: ``utc`` or ``localtime``."""

    base: str


DEVICES: Final = (Clock,)


@hv.hookimpl
def plan(params: hv.Params) -> Iterator[Device]:
    """One clock."""
    yield Clock(base="localtime" if params["use_localtime"] else "utc")


@hv.hookimpl
def render(spec: KvmSpec) -> Iterator[Opt]:
    """Its base."""
    for clock in spec.of(Clock):
        yield Opt(name="-rtc", props={"base": clock.base}, params=("use_localtime",))
