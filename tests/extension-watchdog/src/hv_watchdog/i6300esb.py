"""A watchdog that the guest has to feed: Intel's 6300ESB, which Linux and Windows know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import hvcore
from hv_kvm.facts import Facts
from hv_kvm.option import Opt, Props
from hv_kvm.spec import Device, KvmSpec, PciDevice

__all__ = ["PARAMS", "Watchdog", "assess", "check", "devices", "params", "plan", "render", "verify"]

PARAMS = hvcore.ParamGroup(
    "watchdog",
    hvcore.Param("watchdog", hvcore.boolean(), default=False, help="Whether the guest has a watchdog."),
    hvcore.Param(
        "watchdog_action",
        hvcore.one_of("reset", "shutdown", "poweroff", "pause", "none"),
        help="What happens to a guest that does not feed it. Unset: reset.",
        example="poweroff",
    ),
    help="A device that ends guests which hang.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watchdog(PciDevice):
    """The card, and what it does to a guest that hangs."""

    action: str


@hvcore.hookimpl
def params() -> hvcore.ParamGroup:
    """Two, beside the driver's own."""
    return PARAMS


@hvcore.hookimpl
def devices() -> tuple[type[Device], ...]:
    """What it plans."""
    return (Watchdog,)


@hvcore.hookimpl
def check(params: hvcore.Params) -> Iterator[hvcore.Problem]:
    """An action needs the device."""
    if params["watchdog_action"] is not None and not params["watchdog"]:
        got = repr(params["watchdog_action"])
        yield hvcore.Problem(path="params.watchdog_action", what="is set without one", got=got, todo="watchdog = true")


@hvcore.hookimpl
def assess(params: hvcore.Params) -> Iterator[hvcore.Problem]:
    """A watchdog that does nothing."""
    if params["watchdog_action"] == "none":
        yield hvcore.Problem(path="params.watchdog_action", what="helps nobody", got="'none'")


@hvcore.hookimpl
def plan(params: hvcore.Params) -> Iterator[Device]:
    """One, or none."""
    if params["watchdog"]:
        yield Watchdog(action=params["watchdog_action"] or "reset")


@hvcore.hookimpl
def verify(spec: KvmSpec, facts: Facts) -> Iterator[hvcore.Problem]:
    """Asked of what the binary has."""
    if spec.of(Watchdog) and not facts.has_type("i6300esb"):
        yield hvcore.Problem(path="params.watchdog", what=f"this QEMU ({facts.version}) has no i6300esb")


@hvcore.hookimpl
def render(spec: KvmSpec, facts: Facts) -> Iterator[Opt]:
    """The card, and the action in the form that this QEMU has."""
    for watchdog in spec.of(Watchdog):
        props: Props = {"id": "watchdog0", **watchdog.address(spec)}
        yield Opt(name="-device", head="i6300esb", props=props, params=("watchdog",))
        if facts.has_option("action", "watchdog"):
            acts: Props = {"watchdog": watchdog.action}
            can = "action has watchdog"
            yield Opt(name="-action", props=acts, params=("watchdog_action",), capability=can)
        else:
            can = "there is no action"
            yield Opt(
                name="-watchdog-action", head=watchdog.action, plain=True, params=("watchdog_action",), capability=can
            )
