"""A watchdog that the guest has to feed: Intel's 6300ESB, which Linux and Windows know. QEMU: hw/watchdog/wdt_i6300esb.c."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

import hv_kvm.plugin as kvm
import hvcore.plugin as hv

__all__ = ["Watchdog", "assess", "check", "devices", "params", "plan", "render", "verify"]

MODEL: Final = "i6300esb"
# See WatchdogAction in QEMU's qapi/run-state.json.
ACTIONS: Final = {
    "reset": "Reset the guest.",
    "shutdown": "Ask the guest to shut down, by ACPI.",
    "poweroff": "Power the guest off.",
    "pause": "Pause the guest until hv resume.",
    "inject-nmi": "Send an NMI to the guest.",
    "debug": "Write a line to the log.",
    "none": "Do nothing.",
}
DOES_NOT_RESTART: Final = {
    "pause": "pauses it until hv resume",
    "debug": "only writes a line to the log",
    "none": "does nothing",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Watchdog(kvm.PciDevice):
    """The part of the spec that the guest sees, and the action when it hangs. hvcore keeps it in the record."""

    action: str

    on_board: ClassVar[bool] = True  # the slots of disks and NICs do not change when a guest gets one


@hv.impl.params
def params() -> hv.ParamGroup:
    """Two parameters, under ``[params]`` beside the driver's own. Their common prefix avoids clashes."""
    return hv.ParamGroup(
        "watchdog",
        hv.Param("watchdog", hv.boolean(), default=False, help="Whether the guest has a watchdog."),
        hv.Param(
            "watchdog_action",
            hv.one_of(ACTIONS),
            default_means="reset",
            help="What happens to a guest that no longer feeds the watchdog.",
            example="poweroff",
        ),
        help="A device that acts on a guest that hangs. It begins to count when the guest opens it.",
    )


@hv.impl.check
def check(params: hv.Params) -> Iterator[hv.Problem]:
    """Contradictions between values. Pure: the answer is the same on every machine."""
    action = params["watchdog_action"]
    found = [
        (action is not None and not params["watchdog"], "has no effect without a watchdog", "set watchdog = true"),
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
    """A warning about settings that work but are seldom useful."""
    what = DOES_NOT_RESTART.get(params["watchdog_action"])
    if what is not None:
        got = repr(params["watchdog_action"])
        yield hv.Problem(path="params.watchdog_action", what=f"does not restart a guest that hangs: it {what}", got=got)


@kvm.impl.devices
def devices() -> tuple[type[kvm.Device], ...]:
    """The devices that `plan` yields."""
    return (Watchdog,)


@kvm.impl.plan
def plan(params: hv.Params) -> Iterator[kvm.Device]:
    """Decide the device once, from the parameters only."""
    if params["watchdog"]:
        yield Watchdog(action=params["watchdog_action"] or "reset")


@kvm.impl.verify
def verify(spec: kvm.KvmSpec, facts: kvm.Facts) -> Iterator[hv.Problem]:
    """The problems of this QEMU, by what the binary has and never by its version."""
    if spec.of(Watchdog) and not facts.has_type(MODEL):
        yield hv.Problem(path="params.watchdog", what=facts.lacks(MODEL))


@kvm.impl.render
def render(spec: kvm.KvmSpec, facts: kvm.Facts) -> Iterator[kvm.Opt]:
    """The options of QEMU. `Opt` escapes the values; hv explain shows `params`, `why` and `capability`."""
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
