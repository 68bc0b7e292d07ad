"""Small virtio devices: the memory balloon, random numbers, and the channel of the QEMU guest agent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Final

import hvcore.plugin as hv
from hv_kvm.devices.shared.params import lacking
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.resource import Bindings
from hv_kvm.machine.spec import Device, KvmSpec, PciDevice
from hv_kvm.paths import AGENT
from hvcore.plugin import dataclass

__all__ = ["DEVICES", "PARAMS", "Agent", "Balloon", "Rng", "plan", "render", "verify"]

_AGENT: Final = hv.UnixSocket(key=AGENT)
_HARDWARE: Final = "belongs to the node's kernel, which feeds /dev/urandom from it"

PARAMS: Final = hv.ParamGroup(
    "virtio",
    hv.Param(
        "memory_balloon",
        hv.boolean(),
        default=True,
        help="Whether the guest has a virtio balloon device, so that 'hv balloon' can take memory from the running guest.",
        example=False,
    ),
    hv.Param(
        "memory_stats_interval",
        hv.integer(minimum=0, maximum=86_400),
        default=0,
        unit="seconds",
        help="How often the guest reports its free memory and other figures through the balloon, for 'hv top' and "
        "'hv metrics'.",
        default_means="never",
        changes="launch",
        example=10,
    ),
    hv.Param(
        "virtio_rng",
        hv.boolean(),
        default=True,
        help="Whether the guest has a virtio device with random numbers from the node, so that its boot does not wait for "
        "entropy.",
        example=False,
    ),
    hv.Param(
        "rng_source",
        hv.one_of(
            {
                "/dev/urandom": "Never waits.",
                "/dev/random": "Waits while the node has too little entropy, on older kernels for a long time.",
            },
            refused={"/dev/hwrng": _HARDWARE, "/dev/hw_random": _HARDWARE},
        ),
        default="/dev/urandom",
        help="The device of the node that the random numbers come from.",
        changes="launch",
        example="/dev/random",
    ),
    hv.Param(
        "rng_max_bytes",
        hv.integer(minimum=0, maximum=1 << 30),
        default=1024,
        unit="bytes",
        help="How many random bytes the guest can read in each rng_period. 0 means no limit.",
        example=4096,
    ),
    hv.Param(
        "rng_period",
        hv.integer(minimum=1, maximum=86_400_000),
        default=1000,
        unit="milliseconds",
        help="The period in which the guest can read rng_max_bytes random bytes.",
        example=500,
    ),
    hv.Param(
        "use_guest_agent",
        hv.boolean(),
        default=False,
        help="Whether the guest has a virtio channel for the QEMU guest agent, by which 'hv exec' runs programs in the guest. "
        "The node's end is a socket in the instance's directory.",
        example=True,
    ),
    help="The memory balloon, random numbers, and the channel of the guest agent.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Balloon(PciDevice):
    """The balloon, through which a running guest can give memory back.

    ``size_mib`` is the memory that it leaves to the guest, None for all. The guest reports statistics every ``stats_s``
    seconds, 0 for never.
    """

    size_mib: int | None = None
    stats_s: int = 0

    on_board: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Rng(PciDevice):
    """The source of random numbers, a device of the node, and its rate."""

    source: str
    max_bytes: int
    period_ms: int

    on_board: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent(PciDevice):
    """A virtio serial controller with one port, on a Unix socket of the node for clients of the agent."""

    on_board: ClassVar[bool] = True

    def resources(self, spec: KvmSpec) -> Iterator[hv.Resource[Any]]:
        """The socket."""
        yield _AGENT


DEVICES: Final = (Balloon, Rng, Agent)
_MODELS: Final = {
    Balloon: ("virtio-balloon-pci", "memory_balloon"),
    Rng: ("virtio-rng-pci", "virtio_rng"),
    Agent: ("virtio-serial-pci", "use_guest_agent"),
}


@hv.hookimpl
def plan(params: hv.Params) -> Iterator[Device]:
    """The devices whose parameters are true."""
    if params["memory_balloon"]:
        yield Balloon(stats_s=params["memory_stats_interval"])
    if params["virtio_rng"]:
        yield Rng(source=params["rng_source"], max_bytes=params["rng_max_bytes"], period_ms=params["rng_period"])
    if params["use_guest_agent"]:
        yield Agent()


@hv.hookimpl
def verify(spec: KvmSpec, facts: Facts) -> Iterator[hv.Problem]:
    """This QEMU must have the devices."""
    for kind, (model, key) in _MODELS.items():
        if spec.of(kind):
            yield from lacking(facts, model, f"params.{key}", "set it to false", "True")


@hv.hookimpl
def render(spec: KvmSpec, bindings: Bindings) -> Iterator[Opt]:
    """The balloon; source and device of random numbers; socket, controller and port of the agent."""
    for balloon in spec.of(Balloon):
        props: Props = {"id": "balloon", **balloon.address(spec)}
        yield Opt(name="-device", head="virtio-balloon-pci", props=props, params=("memory_balloon",))
    for rng in spec.of(Rng):
        props = {"id": "rng", "filename": rng.source}
        yield Opt(name="-object", head="rng-random", props=props, params=("virtio_rng", "rng_source"))
        props = {"id": "rng-dev", "rng": "rng", **rng.address(spec)}
        if rng.max_bytes:
            props |= {"max-bytes": rng.max_bytes, "period": rng.period_ms}
        keys: tuple[str, ...] = ("virtio_rng", "rng_max_bytes", "rng_period")
        yield Opt(name="-device", head="virtio-rng-pci", props=props, params=keys)
    for agent in spec.of(Agent):
        keys = ("use_guest_agent",)
        props = {"id": _AGENT.key, "fd": bindings[_AGENT], "server": True, "wait": False}
        yield Opt(name="-chardev", head="socket", props=props, params=keys)
        yield Opt(name="-device", head="virtio-serial-pci", props={"id": "agent", **agent.address(spec)}, params=keys)
        props = {"id": "agent-port", "bus": "agent.0", "chardev": _AGENT.key, "name": "org.qemu.guest_agent.0"}
        yield Opt(name="-device", head="virtserialport", props=props, params=keys)
