"""The machine with one device more or less: decided from the spec, the instance, and what QEMU has by now.

The family plans the new device as for a start. No other device changes: none gets another name or another place.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import hvcore.plugin as hv
from hv_kvm.confinement import site_of
from hv_kvm.devices.disk import Disk
from hv_kvm.devices.media import Cdrom, Floppy
from hv_kvm.devices.nic import GuestNic
from hv_kvm.devices.usb import UsbController, UsbDevice
from hv_kvm.machine.placement import placed_beside
from hv_kvm.machine.resource import HostNetwork, Image, ShownFile
from hv_kvm.machine.spec import Device, KvmSpec
from hv_kvm.qemu.probe import facts_of
from hv_kvm.qmp import plugging
from hv_kvm.run.hotplug.guest_device import device_of, level_in, monitor_of
from hv_kvm.run.startup.user_networks import with_user_networks
from hv_kvm.run.startup.verify import same_disk_twice
from hvcore.plugin import dataclass

__all__ = ["attached", "detached", "fields_of", "listed", "problems_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Rows of an instance, and the devices that they become: ``disks`` becomes `Disk`, ``disk0`` and so on."""

    key: str
    kind: type[Disk | GuestNic]
    label: str
    filler: Any


_USB: Final = "usb_devices"
_ROWS: Final = (
    _Rows(key="disks", kind=Disk, label="disk", filler=hv.Disk(path="/none")),
    _Rows(key="nics", kind=GuestNic, label="nic", filler=hv.Nic()),
)


def fields_of(spec: KvmSpec) -> dict[str, str]:
    """The name of each disk and NIC, with its field of the instance: rows and devices have the same order.

    Drives of which the medium can be changed have the parameter of that.
    """
    fillable: tuple[Cdrom | Floppy, ...] = (
        *(drive for drive in spec.of(Cdrom) if not drive.needs_slot),
        *spec.of(Floppy),
    )
    drives = {drive.label: f"params.{drive.key}" for drive in fillable}
    listed = (device for device in spec.of(UsbDevice) if device.key == _USB)
    drives |= {device.label: f"params.{_USB}[{position}]" for position, device in enumerate(listed)}
    return drives | {
        device.label: f"{rows.key}[{position}]" for rows in _ROWS for position, device in enumerate(spec.of(rows.kind))
    }


def listed(spec: KvmSpec) -> tuple[str, ...]:
    """The parameters that list devices which the machine can have while it runs."""
    return (_USB,) if spec.of(UsbController) else ()


def attached(
    hooks: hv.Hooks, spec: KvmSpec, job: hv.Job, instance: hv.Instance, params: hv.Params, field: str
) -> tuple[KvmSpec, str]:
    """The machine with the last row of that field as a device, and its name. Raises `VerifyError` with every problem."""
    rows = next((rows for rows in _ROWS if field.startswith(f"{rows.key}[")), None)
    kind = "usb" if rows is None else rows.label
    if rows is None and field.partition("[")[0] != f"params.{_USB}":
        what = f"{job.name}: {field.partition('[')[0]} lists no devices that can be attached"
        raise hv.InputError(f"{what}; give one of params.{_USB}")
    taken = plugging.taken(monitor_of(job))
    number = _free_number(taken, spec, kind)
    if rows is None:
        planned = _planned(hooks, instance, params)
        without = [one for one in planned if not isinstance(one, UsbController | UsbDevice)]
        device: Device = replace(_last_usb(job.name, spec, planned, field), index=number)
    else:
        planned = _planned(hooks, _numbered(spec, instance, rows, number), params)
        nothing: Mapping[str, Any] = {rows.key: ()}
        without = _planned(hooks, replace(instance, **nothing), params)
        device = next(one for one in planned if one.label == f"{kind}{number}")
    problems = [hv.Problem(path=kind, what=why) for why in [device.fixed(spec)] if why is not None]
    problems += _also_needed(spec, planned, without, device)
    device = _with_free_boot_index(spec, device)
    try:
        after = placed_beside(spec, device, reserved=params["kvm_pci_reservations"], taken=taken.pci_slots)
    except ValueError as error:
        raise hv.VerifyError(job.name, [hv.Problem(path=kind, what=f"does not fit: {error}")]) from error
    # Only the new NIC chooses its network: the others have theirs since the start, whatever is installed now.
    after = replace(after, devices=(*spec.devices, with_user_networks(after).devices[-1]))
    if not problems:
        problems = list(problems_of(hooks, job, spec, after, after.devices[-1]))
    if problems:
        place = f"{kind}s[{number}]."
        raise hv.VerifyError.refusal(job.name, [replace(one, path=one.path.removeprefix(place)) for one in problems])
    return after, device.label


def _last_usb(name: str, spec: KvmSpec, planned: list[Device], field: str) -> UsbDevice:
    """The one device that the list has more than the machine. Raises `InputError` if the item names no device, or several."""
    before, after = (
        [one for one in devices if isinstance(one, UsbDevice) and one.key == _USB]
        for devices in (spec.devices, planned)
    )
    if len(after) != len(before) + 1:
        what = f"{name}: {field}: must be one device, got {len(after) - len(before)}"
        raise hv.InputError(f"{what}; attach them one after the other")
    return after[-1]


def detached(spec: KvmSpec, name: str, label: str) -> KvmSpec:
    """The machine without the device. Raises `OperationError` for one that has to stay."""
    device = device_of(spec, label)
    why = "is not part of the machine" if device is None else device.fixed(spec)
    if why is not None:
        raise hv.OperationError(f"{name}: {label} {why}; it stays until the instance stops")
    return replace(spec, devices=tuple(one for one in spec.devices if one is not device))


def _free_number(there: plugging.Taken, spec: KvmSpec, kind: str) -> int:
    """The first number that neither the machine nor QEMU uses: another program may have plugged something by hand."""
    names = {device.label for device in spec.devices} | there.block_nodes
    names |= {name.removesuffix("-dev") for name in there.devices}
    sets = there.fdsets - {one.fdset for one in spec.resources_of(Image)}
    first = 100  # of the sets of disks
    taken = {f"disk{number - first}" for number in sets if number >= first}
    return next(number for number in itertools.count() if f"{kind}{number}" not in names | taken)


def _numbered(spec: KvmSpec, instance: hv.Instance, rows: _Rows, new: int) -> hv.Instance:
    """The instance with each row at the number of its device, and the last one at ``new``.

    Numbers between, of devices that were detached, have a row that no device is made from.
    """
    given = getattr(instance, rows.key)
    numbers = [device.index for device in spec.of(rows.kind)]
    found = {**dict(zip(numbers, given[:-1], strict=True)), new: given[-1]}
    changes: Mapping[str, Any] = {rows.key: tuple(found.get(number, rows.filler) for number in range(max(found) + 1))}
    return replace(instance, **changes)


def _planned(hooks: hv.Hooks, instance: hv.Instance, params: hv.Params) -> list[Device]:
    return [device for _, device in hooks.items("plan", Device, instance=instance, params=params)]


def _also_needed(spec: KvmSpec, planned: list[Device], without: list[Device], device: Device) -> Iterator[hv.Problem]:
    """A problem for each class of device that a start would give the guest too, such as a controller."""
    there = {type(one) for one in (*spec.devices, *without, device)}
    for kind in sorted({type(one) for one in planned} - there, key=lambda kind: kind.__name__):
        words = re.sub("(?<=[a-z])(?=[A-Z])", " ", kind.__name__).lower()
        yield hv.Problem(path=device.label, what=f"needs a {words}, which the guest got none of at its start")


def _with_free_boot_index(spec: KvmSpec, device: Device) -> Device:
    """The device, without a boot index that another one has: the order of a running guest's devices stays as it is."""
    index = getattr(device, "boot_index", None)
    if index is None or all(getattr(other, "boot_index", None) != index for other in spec.devices):
        return device
    changes: Mapping[str, Any] = {"boot_index": None}
    return replace(device, **changes)


def problems_of(hooks: hv.Hooks, job: hv.Job, before: KvmSpec, after: KvmSpec, device: Device) -> Iterator[hv.Problem]:
    """Why this node, this QEMU or the sandbox of the running guest cannot give it that device of ``after``."""
    resources = tuple(device.resources(after))
    site = replace(site_of(after, job.host), level=level_in(job.record))
    yield from hooks.kinds.problems(resources, site)
    yield from same_disk_twice(after, of=device)
    alone = replace(after, devices=(device,))
    for _, problem in hooks.items("verify", hv.Problem, spec=alone, facts=facts_of(after, job.host)):
        yield problem
    if site.level is hv.Level.OFF:
        return
    known = {resource.key for resource in before.resources}
    for resource in resources:
        if isinstance(resource, HostNetwork | ShownFile) and resource.key not in known:
            what = "the network of the node" if isinstance(resource, HostNetwork) else repr(resource.path)
            text = f"needs {what} inside the sandbox, which was fixed at the start"
            yield hv.Problem(path=resource.where, what=text, todo="add it to the instance file, then stop and start")
            return
