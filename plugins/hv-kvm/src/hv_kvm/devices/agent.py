"""The channel to the QEMU guest agent, a program in the guest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import hvcore.plugin as hv
from hv_kvm.machine.bindings import Bindings
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.spec import Device, KvmSpec, PciDevice, when_planned

__all__ = ["DEVICES", "PARAMS", "SOCKET", "Agent", "plan", "render", "verify"]

SOCKET: Final = "qga"
_SOCKET: Final = hv.UnixSocket(key=SOCKET)

PARAMS: Final = hv.ParamGroup(
    "agent",
    hv.Param(
        "use_guest_agent",
        hv.boolean(),
        default=False,
        help="Whether the guest has a channel for the QEMU guest agent; its socket is in the instance's directory.",
        example=True,
    ),
)
_MODEL: Final = "virtio-serial-pci"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent(PciDevice):
    """A virtio serial controller with one port, on a unix socket of the node."""

    on_board: ClassVar[bool] = True

    def resources(self, spec: KvmSpec) -> Iterator[hv.Resource[Any]]:
        """The socket for programs that speak the agent's protocol."""
        yield _SOCKET


DEVICES: Final = (Agent,)


@hv.hookimpl
@hv.when_given("use_guest_agent")
def plan(params: hv.Params) -> Iterator[Device]:
    """One channel, if it is wanted."""
    if params["use_guest_agent"]:
        yield Agent()


@hv.hookimpl
@when_planned(Agent)
def verify(spec: KvmSpec, facts: Facts) -> Iterator[hv.Problem]:
    """The device must exist in this QEMU."""
    if spec.of(Agent) and not facts.has_type(_MODEL):
        what = facts.lacks(_MODEL)
        yield hv.Problem(path="params.use_guest_agent", what=what, got="True", todo="set it to false")


@hv.hookimpl
@when_planned(Agent)
def render(spec: KvmSpec, bindings: Bindings) -> Iterator[Opt]:
    """Socket, controller, port."""
    keys = ("use_guest_agent",)
    for agent in spec.of(Agent):
        socket: Props = {"id": SOCKET, "fd": bindings[_SOCKET], "server": True, "wait": False}
        yield Opt(name="-chardev", head="socket", props=socket, params=keys)
        yield Opt(name="-device", head=_MODEL, props={"id": "agent", **agent.address(spec)}, params=keys)
        port: Props = {"id": "agent-port", "bus": "agent.0", "chardev": SOCKET, "name": "org.qemu.guest_agent.0"}
        yield Opt(name="-device", head="virtserialport", props=port, params=keys)
