"""Licence seats: a guest runs only while it has a seat of a pool, which is a directory that all nodes share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import hv_kvm.plugin as kvm
import hvcore.plugin as hv
from hv_licence.seat import Seat, SeatKind

__all__ = ["Licence", "check", "devices", "params", "plan", "render", "resource_kinds"]


@hv.impl.resource_kinds
def resource_kinds() -> tuple[SeatKind, ...]:
    """The kinds that this extension adds to the driver."""
    return (SeatKind(),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence(kvm.Device):
    """The part of the spec that the guest sees: a seat. A device need not be hardware."""

    pool: str
    seats: int

    @property
    def seat(self) -> Seat:
        """The seat that it holds while it runs."""
        return Seat(key="licence.seat", given_by="params.licence_pool", pool=self.pool, seats=self.seats)

    def resources(self, spec: kvm.KvmSpec) -> tuple[Seat]:
        """The resources that the guest holds while it runs."""
        return (self.seat,)


@hv.impl.params
def params() -> hv.ParamGroup:
    """Two parameters, under ``[params]`` beside the driver's own."""
    return hv.ParamGroup(
        "licence",
        hv.Param(
            "licence_pool", hv.directory(), default_means="no licence", help="The directory that holds the seats."
        ),
        hv.Param("licence_seats", hv.integer(minimum=1), default_means="no licence", help="The number of seats."),
    )


@hv.impl.check
def check(params: hv.Params) -> Iterator[hv.Problem]:
    """Both parameters are set, or neither."""
    if (params["licence_pool"] is None) is not (params["licence_seats"] is None):
        what = "is set without the other of licence_pool and licence_seats"
        yield hv.Problem(path="params.licence_pool", what=what, todo="set both")


@kvm.impl.devices
def devices() -> tuple[type[kvm.Device], ...]:
    """The devices that `plan` yields."""
    return (Licence,)


@kvm.impl.plan
def plan(params: hv.Params) -> Iterator[kvm.Device]:
    """Decide the device once, from the parameters only."""
    if params["licence_pool"] is not None:
        yield Licence(pool=params["licence_pool"], seats=params["licence_seats"])


@kvm.impl.render
def render(spec: kvm.KvmSpec, bindings: kvm.Bindings) -> Iterator[kvm.Opt]:
    """The guest reads the number in /sys/firmware/qemu_fw_cfg/by_name/opt/licence/seat/raw."""
    for licence in spec.of(Licence):
        props: kvm.Props = {"name": "opt/licence/seat", "string": bindings[licence.seat]}
        yield kvm.Opt(name="-fw_cfg", props=props, params=("licence_pool",))
