"""A watchdog that the guest has to feed: Intel's 6300ESB, which Linux and Windows know. QEMU: hw/watchdog/wdt_i6300esb.c."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

import hv_kvm.plugin as kvm
import hvcore.plugin as hv

__all__ = ["Watchdog", "assess", "check", "devices", "params", "plan", "render", "verify"]

MODEL: Final = "i6300esb"
# All of QEMU's, see WatchdogAction in its qapi/run-state.json.
ACTIONS: Final = ("reset", "shutdown", "poweroff", "pause", "inject-nmi", "debug", "none")
BRINGS_NOTHING_BACK: Final = {
    "pause": "keeps it until hv resume",
    "debug": "is a line in the log",
    "none": "is nothing",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Watchdog(kvm.PciDevice):
    """What the guest sees, and what happens when it hangs. It is part of the spec, and so of the record."""

    action: str

    on_board: ClassVar[bool] = True  # a guest that gets one keeps its disks and NICs where they are


@hv.impl.params
def params() -> hv.ParamGroup:
    """Two parameters, under ``[params]`` beside the driver's own. Their names begin alike, so that none clashes."""
    return hv.ParamGroup(
        "watchdog",
        hv.Param("watchdog", hv.boolean(), default=False, help="Whether the guest has a watchdog."),
        hv.Param(
            "watchdog_action",
            hv.one_of(*ACTIONS),
            help="What happens to a guest that does not feed it. Unset: reset.",
            example="poweroff",
        ),
        help="A device that ends guests which hang. It begins to count when the guest opens it.",
    )


@hv.impl.check
def check(params: hv.Params) -> Iterator[hv.Problem]:
    """What contradicts itself. Pure: it gives the same answer on every machine."""
    action = params["watchdog_action"]
    found = [
        (action is not None and not params["watchdog"], "is set without one", "watchdog = true"),
        (action == "shutdown" and not params["acpi"], "needs acpi, which is off", "use 'poweroff'"),
        (
            action == "reset" and params["reboot_behavior"] == "exit",
            "ends a guest with reboot_behavior 'exit'",
            "use 'poweroff'",
        ),
    ]
    for wrong, what, todo in found:
        if wrong:
            yield hv.Problem(path="params.watchdog_action", what=what, got=repr(action), todo=todo)


@hv.impl.assess
def assess(params: hv.Params) -> Iterator[hv.Problem]:
    """What works and is rarely wanted: it warns, and nothing fails."""
    what = BRINGS_NOTHING_BACK.get(params["watchdog_action"])
    if what is not None:
        got = repr(params["watchdog_action"])
        yield hv.Problem(path="params.watchdog_action", what=f"brings no guest back: it {what}", got=got)


@kvm.impl.devices
def devices() -> tuple[type[kvm.Device], ...]:
    """What it plans."""
    return (Watchdog,)


@kvm.impl.plan
def plan(params: hv.Params) -> Iterator[kvm.Device]:
    """Decide it once, from values alone."""
    if params["watchdog"]:
        yield Watchdog(action=params["watchdog_action"] or "reset")


@kvm.impl.verify
def verify(spec: kvm.KvmSpec, facts: kvm.Facts) -> Iterator[hv.Problem]:
    """What this QEMU lacks, asked of what the binary has and never of its version."""
    if spec.of(Watchdog) and not facts.has_type(MODEL):
        yield hv.Problem(path="params.watchdog", what=facts.lacks(MODEL))


@kvm.impl.render
def render(spec: kvm.KvmSpec, facts: kvm.Facts) -> Iterator[kvm.Opt]:
    """Say how QEMU is told. `Opt` escapes; `params`, `why` and `capability` are what hv explain shows."""
    for watchdog in spec.of(Watchdog):
        props: kvm.Props = {"id": "watchdog0", **watchdog.address(spec)}
        yield kvm.Opt(name="-device", head=MODEL, props=props, params=("watchdog",))
        yield _action(watchdog, facts)


def _action(watchdog: Watchdog, facts: kvm.Facts) -> kvm.Opt:
    own = ("watchdog_action",)
    if facts.has_option("action", "watchdog"):
        props: kvm.Props = {"watchdog": watchdog.action}
        return kvm.Opt(name="-action", props=props, params=own, capability="action has watchdog")
    return kvm.Opt(
        name="-watchdog-action", head=watchdog.action, plain=True, params=own, capability="there is no action"
    )
