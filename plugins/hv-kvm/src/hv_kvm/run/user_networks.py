"""The choice of this node for each NIC in mode user, made again at each start: passt, or QEMU's own network stack."""

from __future__ import annotations

from dataclasses import replace

from hv_kvm.devices.nic import UserNic
from hv_kvm.devices.shared.user_nic import PASST, SLIRP, UserBackend
from hv_kvm.machine.spec import Device, KvmSpec
from hvcore.plugin import why_not_passt

__all__ = ["with_user_networks"]


def with_user_networks(spec: KvmSpec) -> KvmSpec:
    """The spec with the back end of each NIC in mode user."""
    if not spec.of(UserNic):
        return spec
    return replace(spec, devices=tuple(map(_chosen, spec.devices)))


def _chosen(device: Device) -> Device:
    if not isinstance(device, UserNic):
        return device
    return replace(device, backend=replace(device.backend, chosen=_choice(device.backend)))


def _choice(backend: UserBackend) -> str:
    if backend.wanted is not None:
        return backend.wanted
    # If slirp is not enough, the check of passt says what it lacks.
    return PASST if backend.needs_passt or why_not_passt(backend.passt) is None else SLIRP
