"""The choice of this node for each NIC in mode user, made again at each start: passt, or QEMU's own network stack."""

from __future__ import annotations

from dataclasses import replace

from hv_kvm.devices.nic import UserNic
from hv_kvm.devices.shared.user_nic import PASST, SLIRP, UserBackend
from hv_kvm.machine.resource import GUEST_USER, HostNetwork
from hv_kvm.machine.spec import Device, KvmSpec
from hvcore.plugin import Identity, TcpPort, why_not_passt

__all__ = ["with_user_networks"]


def with_user_networks(spec: KvmSpec) -> KvmSpec:
    """The spec with the back end of each NIC in mode user."""
    if not spec.of(UserNic):
        return spec
    users = [resource for resource in spec.resources_of(Identity) if resource.key == GUEST_USER.key]
    user, shared = users[0].user if users else None, any(_connects(device, spec) for device in spec.devices)

    def chosen(device: Device) -> Device:
        if not isinstance(device, UserNic):
            return device
        backend = device.backend
        return replace(device, backend=replace(backend, chosen=_choice(backend), user=user, uid_shared=shared))

    return replace(spec, devices=tuple(map(chosen, spec.devices)))


def _connects(device: Device, spec: KvmSpec) -> bool:
    """Whether QEMU connects to other machines for this device, as for a network disk. A display only listens."""
    held = [] if isinstance(device, UserNic) else list(device.resources(spec))
    listens = any(isinstance(resource, TcpPort) for resource in held)
    return not listens and any(isinstance(resource, HostNetwork) for resource in held)


def _choice(backend: UserBackend) -> str:
    if backend.wanted is not None:
        return backend.wanted
    # If slirp is not enough, the check of passt says what it lacks.
    return PASST if backend.needs_passt or why_not_passt(backend.passt) is None else SLIRP
