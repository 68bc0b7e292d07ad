"""Random numbers of the node for the guest, so that it does not wait for its own when it boots."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

import hvcore.plugin as hv
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.spec import Device, KvmSpec, PciDevice

__all__ = ["DEVICES", "PARAMS", "Rng", "plan", "render", "verify"]

_HARDWARE: Final = "is for the node alone, whose kernel feeds /dev/urandom from it"

PARAMS: Final = hv.ParamGroup(
    "rng",
    hv.Param(
        "virtio_rng",
        hv.boolean(),
        default=True,
        help="Whether the guest has a virtio device that gives it random numbers of the node.",
        example=False,
    ),
    hv.Param(
        "rng_source",
        hv.one_of("/dev/urandom", "/dev/random", refused={"/dev/hwrng": _HARDWARE, "/dev/hw_random": _HARDWARE}),
        default="/dev/urandom",
        help="Where the random numbers come from.",
        changes="launch",
        example="/dev/random",
    ),
    hv.Param(
        "rng_max_bytes",
        hv.integer(minimum=0, maximum=1 << 30),
        default=1024,
        unit="bytes",
        help="How many random bytes the guest gets in each rng_period; 0 is no limit.",
        example=4096,
    ),
    hv.Param(
        "rng_period",
        hv.integer(minimum=1, maximum=86_400_000),
        default=1000,
        unit="milliseconds",
        help="The time for which rng_max_bytes counts.",
        example=500,
    ),
    help="Random numbers for the guest.",
)
_MODEL: Final = "virtio-rng-pci"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rng(PciDevice):
    """The device, its source on the node, and its rate."""

    source: str
    max_bytes: int
    period_ms: int

    on_board: ClassVar[bool] = True


DEVICES: Final = (Rng,)


@hv.hookimpl
def plan(params: hv.Params) -> Iterator[Device]:
    """One, unless it is not wanted."""
    if params["virtio_rng"]:
        yield Rng(source=params["rng_source"], max_bytes=params["rng_max_bytes"], period_ms=params["rng_period"])


@hv.hookimpl
def verify(spec: KvmSpec, facts: Facts) -> Iterator[hv.Problem]:
    """The device must exist in this QEMU."""
    if spec.of(Rng) and not facts.has_type(_MODEL):
        what = facts.lacks(_MODEL)
        yield hv.Problem(path="params.virtio_rng", what=what, got="True", todo="set it to false")


@hv.hookimpl
def render(spec: KvmSpec) -> Iterator[Opt]:
    """Source and device."""
    for rng in spec.of(Rng):
        source: Props = {"id": "rng", "filename": rng.source}
        yield Opt(name="-object", head="rng-random", props=source, params=("virtio_rng", "rng_source"))
        props: Props = {"id": "rng-dev", "rng": "rng", **rng.address(spec)}
        if rng.max_bytes:
            props |= {"max-bytes": rng.max_bytes, "period": rng.period_ms}
        yield Opt(name="-device", head=_MODEL, props=props, params=("virtio_rng", "rng_max_bytes", "rng_period"))
