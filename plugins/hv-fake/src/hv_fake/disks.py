"""The disks of a guest, which can be attached, modified and detached while it runs. Each holds a number of the node."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

import hvcore.plugin as hv
from hvcore.plugin import dataclass

__all__ = ["AttachesDisks", "FakeDisk", "bound", "disks_of", "seats"]

_PLUGGED: Final = "disks"  # in the bindings: the disks that the guest sees
_CACHES: Final = "caches"  # there too: how they are cached, by their names


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeDisk:
    """A disk. It keeps its number, and so its name, when others come and go."""

    number: int
    path: str
    cache: str | None = None

    @property
    def name(self) -> str:
        """The name for attach and detach."""
        return f"disk{self.number}"

    @property
    def seat(self) -> hv.UniqueValue:
        """The number of the node that the disk holds."""
        return hv.UniqueValue(key=self.name, space="fake-seat", value=None, first=1, last=65_535)


def disks_of(instance: hv.Instance) -> tuple[FakeDisk, ...]:
    """The disks of a start, in the order of the instance."""
    return tuple(
        FakeDisk(number=number, path=disk.path, cache=disk.cache) for number, disk in enumerate(instance.disks)
    )


def bound(disks: Iterable[FakeDisk]) -> dict[str, Any]:
    """The bindings of a guest that sees these disks."""
    return {_PLUGGED: [disk.name for disk in disks], _CACHES: {disk.name: disk.cache for disk in disks if disk.cache}}


def seats(disks: Iterable[FakeDisk]) -> tuple[hv.UniqueValue, ...]:
    """The resources of the disks."""
    return tuple(disk.seat for disk in disks)


class AttachesDisks(ABC):
    """The methods of `hvcore.plugin.Modifies`."""

    def devices(self, spec: Any) -> dict[str, str]:
        """The disks."""
        return {disk.name: f"disks[{position}]" for position, disk in enumerate(spec.disks)}

    def attached(self, job: hv.Job, instance: hv.Instance, params: hv.Params, field: str) -> tuple[Any, str]:
        """The spec with the last disk of the instance, at the first free number."""
        spec = self.read_spec(job.record.spec)
        if not field.startswith("disks["):
            problem = hv.Problem(path="nic", what="a guest of this driver has no network")
            raise hv.VerifyError(job.name, [problem])
        taken = {disk.number for disk in spec.disks}
        number = next(number for number in itertools.count() if number not in taken)
        disk = FakeDisk(number=number, path=instance.disks[-1].path, cache=instance.disks[-1].cache)
        return replace(spec, disks=(*spec.disks, disk)), disk.name

    def detached(self, job: hv.Job, device: str) -> Any:
        """The spec without the disk."""
        spec = self.read_spec(job.record.spec)
        return replace(spec, disks=tuple(disk for disk in spec.disks if disk.name != device))

    def modifiable(self, spec: Any, device: str) -> tuple[str, ...]:
        """The cache of a disk."""
        return ("cache",)

    def modified(self, job: hv.Job, instance: hv.Instance, device: str) -> Any:
        """The spec with the caches of the instance: its disks have the order of those of the spec."""
        spec = self.read_spec(job.record.spec)
        rows = zip(spec.disks, instance.disks, strict=True)
        return replace(spec, disks=tuple(replace(disk, cache=row.cache) for disk, row in rows))

    def alter(self, job: hv.Job, *, before: Any, after: Any, device: str) -> None:
        """Show the guest the disk as it is to be, or take it away."""
        bindings = job.record.bindings
        plugged = [name for name in bindings.get(_PLUGGED, ()) if name != device]
        caches = {name: cache for name, cache in bindings.get(_CACHES, {}).items() if name != device}
        new = next((disk for disk in after.disks if disk.name == device), None)
        if new is None:
            job.bind(**{_PLUGGED: plugged, _CACHES: caches})
            job.release(device)
            return
        if device not in bindings.get(_PLUGGED, ()):
            job.acquire(new.seat)
        if after.fail_at == "attach" and hv.encode(after) != job.record.spec:  # it is not undone
            raise hv.OperationError(f"{job.name}: fails on purpose half-way; unset params.fail_at")
        job.bind(**{_PLUGGED: [*plugged, device], _CACHES: {**caches, **bound([new])[_CACHES]}})
        job.update()

    def altered(self, job: hv.Job, *, before: Any, after: Any, device: str) -> bool:
        """What the bindings say."""
        bindings = job.record.bindings
        new = next((disk for disk in after.disks if disk.name == device), None)
        if new is None or device not in bindings.get(_PLUGGED, ()):
            return (new is not None) is (device in bindings.get(_PLUGGED, ()))
        return bool(bindings.get(_CACHES, {}).get(device) == new.cache)

    @abstractmethod
    def read_spec(self, data: object) -> Any:
        """The spec in a record."""
