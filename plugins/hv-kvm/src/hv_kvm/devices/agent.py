"""The channel to the QEMU guest agent, a program in the guest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from hv_kvm.machine.bindings import Bindings
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.spec import Device, KvmSpec, PciDevice, when_planned
from hvcore.plugin import Param, ParamGroup, Params, Problem, Resource, UnixSocket, boolean, hookimpl, when_given

__all__ = ["DEVICES", "PARAMS", "SOCKET", "Agent", "plan", "render", "verify"]

SOCKET: Final = "qga"
_SOCKET: Final = UnixSocket(key=SOCKET)

PARAMS: Final = ParamGroup(
    "agent",
    Param(
        "use_guest_agent",
        boolean(),
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

    def resources(self, spec: KvmSpec) -> Iterator[Resource[Any]]:
        """The socket for programs that speak the agent's protocol."""
        del spec
        yield _SOCKET


DEVICES: Final = (Agent,)


@hookimpl
@when_given("use_guest_agent")
def plan(params: Params) -> Iterator[Device]:
    """One channel, if it is wanted."""
    if params["use_guest_agent"]:
        yield Agent()


@hookimpl
@when_planned(Agent)
def verify(spec: KvmSpec, facts: Facts) -> Iterator[Problem]:
    """The device must exist in this QEMU."""
    if spec.of(Agent) and not facts.has_type(_MODEL):
        what = facts.lacks(_MODEL)
        yield Problem(path="params.use_guest_agent", what=what, got="True", todo="set it to false")


@hookimpl
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
