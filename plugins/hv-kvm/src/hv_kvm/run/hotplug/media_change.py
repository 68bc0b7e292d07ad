"""The medium in a drive of a running guest: out with the old one, in with the new one.

QEMU gets the path of each image that is inserted, as the name of its descriptors, and so can report which one is in
the drive, and a change that was interrupted anywhere can be repeated or undone. Each image has its own set of descriptors:
in a guest that is paused, QEMU before 9.1 keeps the sets of images that were taken out.
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable
from dataclasses import replace
from typing import Any, Final

import hvcore.plugin as hv
from hv_kvm.devices.media import Cdrom, Floppy
from hv_kvm.machine.option import Opt
from hv_kvm.machine.spec import Device, KvmSpec
from hv_kvm.qmp import QmpClient, QmpCommandError, plugging
from hv_kvm.run.hotplug.changed_machine import problems_of
from hv_kvm.run.hotplug.guest_device import GuestDevice, device_of, level_in

__all__ = ["has", "swap", "with_medium"]

_DEADLINE_S: Final = 5.0
_TRIES: Final = 20
_FIRST_SET: Final = 1000  # those below are for the families


def with_medium(hooks: hv.Hooks, spec: KvmSpec, job: hv.Job, label: str, path: str | None) -> KvmSpec:
    """The machine with that image in the drive, empty with None. Raises `VerifyError` for one that cannot be used."""
    drive = device_of(spec, label)
    if not isinstance(drive, Cdrom | Floppy):
        raise hv.OperationError(f"{job.name}: {label} has no medium to change; give a CD-ROM or floppy drive")
    new = drive.with_medium(path or "")
    after = replace(spec, devices=tuple(new if one is drive else one for one in spec.devices))
    problems = [] if path is None else list(problems_of(hooks, job, spec, after, new))
    if problems:
        raise hv.VerifyError.refusal(job.name, problems)
    return after


def has(client: QmpClient, job: hv.Job, after: KvmSpec, label: str) -> bool:
    """Whether the drive has the medium of ``after``."""
    drive = device_of(after, label)
    image, medium = _image(drive), plugging.medium(client, f"{label}-dev", deadline_s=_DEADLINE_S)
    if medium is None:
        return not image
    if not image.startswith("/"):
        return medium == image
    sets = plugging.names_in_fdsets(client, deadline_s=_DEADLINE_S)
    names = next((names for number, names in sets.items() if medium == _file_of(number)), frozenset())
    # Without a path it is the image of the start. Each change is saved with a path, so it is still that of the record.
    at_start = label in names and hv.encode(after) == job.record.spec
    return at_start or _named(label, image) in names


def swap(hooks: hv.Hooks, job: hv.Job, client: QmpClient, before: KvmSpec, after: KvmSpec, label: str) -> None:
    """Bring the medium of ``after`` into the drive. Raises `OperationError` when the guest keeps the drive locked."""
    old, new = device_of(before, label), device_of(after, label)
    if old is None or new is None:
        raise ValueError(label)
    out = GuestDevice(hooks=hooks, job=job, client=client, spec=before, device=old)
    if not has(client, job, after, label):
        _with_open_tray(out, "blockdev-remove-medium", {})
        _free(out)
        if _image(new):
            _put_in(GuestDevice(hooks=hooks, job=job, client=client, spec=after, device=new), before)
    elif _image(new):  # the rest of a change that was interrupted: the same steps again do nothing
        _close_tray(out)
    else:
        _free(out)


def _close_tray(drive: GuestDevice) -> None:
    tray = {"id": f"{drive.device.label}-dev"}
    drive.client.execute("blockdev-close-tray", tray, deadline_s=drive.job.deadline.left(at_least=_DEADLINE_S))


def _free(drive: GuestDevice) -> None:
    """Take the image that was in the drive from QEMU, then from the node what it needed."""
    client, job = drive.client, drive.job
    for option in reversed(drive.symbolic):
        if option.name not in ("-device", "-add-fd"):
            plugging.remove(client, option, "", deadline_s=job.deadline.left(at_least=_DEADLINE_S))
    for number in _sets_of(drive):
        client.execute("remove-fd", {"fdset-id": number}, deadline_s=job.deadline.left(at_least=_DEADLINE_S))
    if _sets_of(drive):
        job.remarks.append(f"QEMU keeps the image of {drive.device.label} open until the guest runs")
    keys = {entry.key for entry in job.record.ledger} & drive.keys
    if keys:
        job.release(*sorted(keys))


def _put_in(drive: GuestDevice, before: KvmSpec) -> None:
    client, label, job = drive.client, drive.device.label, drive.job
    without = replace(before, devices=tuple(one for one in before.devices if one.label != label))
    drive.hold_already(without)
    resources = tuple(drive.device.resources(drive.spec))
    image, options = _image(drive.device), drive.options(job.acquire(*resources, level=level_in(job.record)))
    number = _free_set(options, plugging.fdsets(client, deadline_s=job.deadline.left(at_least=_DEADLINE_S)))
    for option in options:
        if option.name != "-device":
            named = _with_set(_with_path(option, label, image), number)
            plugging.add(client, named, label, deadline_s=job.deadline.left())
    _with_open_tray(drive, "blockdev-insert-medium", {"node-name": label})
    _close_tray(drive)


def _with_open_tray(drive: GuestDevice, command: str, arguments: dict[str, str]) -> None:
    """Open the tray, and do this to the drive. The guest may close it between, as a BIOS does while it boots."""
    client, label, job = drive.client, drive.device.label, drive.job
    for last in (*[False] * _TRIES, True):
        try:
            for step, more in (("blockdev-open-tray", {}), (command, arguments)):
                given = {"id": f"{label}-dev", **more}
                client.execute(step, given, deadline_s=job.deadline.left(at_least=_DEADLINE_S))
        except QmpCommandError as error:
            if "is locked" in error.desc:
                what = f"{job.name}: the guest keeps {label} locked, because it uses the medium"
                raise hv.OperationError(f"{what}; unmount it in the guest, then try again") from error
            if "not open" not in error.desc or last:
                raise
        else:
            return


def _with_path(option: Opt, label: str, image: str) -> Opt:
    if option.name != "-add-fd":
        return option
    return replace(option, props={**option.props, "opaque": _named(label, image)})


def _file_of(number: int) -> str:
    return f"/dev/fdset/{number}"


def _sets_of(drive: GuestDevice) -> list[int]:
    """The sets with descriptors of images of that drive: of the start, inserted later, and left by an interrupted change."""
    label, sets = drive.device.label, plugging.names_in_fdsets(drive.client, deadline_s=_DEADLINE_S)
    return [number for number, names in sets.items() if any(name.partition(":")[0] == label for name in names)]


def _free_set(options: Iterable[Opt], taken: Container[int]) -> int | None:
    """The set in these options, or another one if it is taken; None for an image without descriptors."""
    given = next((option.props["set"] for option in options if option.name == "-add-fd"), None)
    if not isinstance(given, int):
        return None
    return next(number for number in itertools.chain([given], itertools.count(_FIRST_SET)) if number not in taken)


def _with_set(option: Opt, number: int | None) -> Opt:
    """The option with that set in place of the one that it names."""
    if number is None or option.name not in ("-add-fd", "-blockdev"):
        return option
    changed: dict[str, Any] = {"set": number} if option.name == "-add-fd" else {}
    changed |= {key: _file_of(number) for key, value in option.props.items() if _is_set(value)}
    return replace(option, props={**option.props, **changed})


def _is_set(value: object) -> bool:
    return isinstance(value, str) and value.startswith(_file_of(0)[:-1])


def _named(label: str, image: str) -> str:
    return f"{label}:{image}"


def _image(drive: Device | None) -> str:
    """The path or URL of the image in the drive; empty for none."""
    return drive.medium if isinstance(drive, Cdrom | Floppy) else ""
