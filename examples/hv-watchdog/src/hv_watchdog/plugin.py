"""A watchdog that the guest has to feed: Intel's 6300ESB, which Linux and Windows know. QEMU: hw/watchdog/wdt_i6300esb.c."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import hv_kvm.typed_hooks
import hvcore
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.spec import Device, KvmSpec, PciDevice

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
class Watchdog(PciDevice):
    """What the guest sees, and what happens when it hangs. It is part of the spec, and so of the record."""

    action: str

    def on_board(self) -> bool:
        """True: a guest that gets one keeps its disks and NICs where they are."""
        return True


@hvcore.impl.params
def params() -> hvcore.ParamGroup:
    """Two parameters, under ``[params]`` beside the driver's own. Their names begin alike, so that none clashes."""
    return hvcore.ParamGroup(
        "watchdog",
        hvcore.Param("watchdog", hvcore.boolean(), default=False, help="Whether the guest has a watchdog."),
        hvcore.Param(
            "watchdog_action",
            hvcore.one_of(*ACTIONS),
            help="What happens to a guest that does not feed it. Unset: reset.",
            example="poweroff",
        ),
        help="A device that ends guests which hang. It begins to count when the guest opens it.",
    )


@hvcore.impl.check
def check(params: hvcore.Params) -> Iterator[hvcore.Problem]:
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
            yield hvcore.Problem(path="params.watchdog_action", what=what, got=repr(action), todo=todo)


@hvcore.impl.assess
def assess(params: hvcore.Params) -> Iterator[hvcore.Problem]:
    """What works and is rarely wanted: it warns, and nothing fails."""
    what = BRINGS_NOTHING_BACK.get(params["watchdog_action"])
    if what is not None:
        got = repr(params["watchdog_action"])
        yield hvcore.Problem(path="params.watchdog_action", what=f"brings no guest back: it {what}", got=got)


@hv_kvm.typed_hooks.devices
def devices() -> tuple[type[Device], ...]:
    """What it plans."""
    return (Watchdog,)


@hv_kvm.typed_hooks.plan
def plan(params: hvcore.Params) -> Iterator[Device]:
    """Decide it once, from values alone."""
    if params["watchdog"]:
        yield Watchdog(action=params["watchdog_action"] or "reset")


@hv_kvm.typed_hooks.verify
def verify(spec: KvmSpec, facts: Facts) -> Iterator[hvcore.Problem]:
    """What this QEMU lacks, asked of what the binary has and never of its version."""
    if spec.of(Watchdog) and not facts.has_type(MODEL):
        yield hvcore.Problem(path="params.watchdog", what=facts.lacks(MODEL))


@hv_kvm.typed_hooks.render
def render(spec: KvmSpec, facts: Facts) -> Iterator[Opt]:
    """Say how QEMU is told. `Opt` escapes; `params`, `why` and `capability` are what hv explain shows."""
    for watchdog in spec.of(Watchdog):
        props: Props = {"id": "watchdog0", **watchdog.address(spec)}
        yield Opt(name="-device", head=MODEL, props=props, params=("watchdog",))
        yield _action(watchdog, facts)


def _action(watchdog: Watchdog, facts: Facts) -> Opt:
    own = ("watchdog_action",)
    if facts.has_option("action", "watchdog"):
        props: Props = {"watchdog": watchdog.action}
        return Opt(name="-action", props=props, params=own, capability="action has watchdog")
    return Opt(name="-watchdog-action", head=watchdog.action, plain=True, params=own, capability="there is no action")
