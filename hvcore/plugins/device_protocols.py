"""The optional methods of a driver for the devices of an instance that runs. `hvcore.plugins.protocols` has the others."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol, runtime_checkable

from hvcore.model.instance import Instance
from hvcore.params.values import Params
from hvcore.state.job import Job

__all__ = ["Attaches", "ChangesMedia", "ListsDevices", "Modifies", "ResizesDisks"]


@runtime_checkable
class Attaches(Protocol):
    """The driver can attach devices to an instance that runs, and detach them.

    Two specs that differ in one device are a change. The core decides it, writes it down, has the driver make it, and has
    it finished or undone after a crash: the driver never needs to know which of these it is for.
    """

    def devices(self, spec: Any) -> dict[str, str]:
        """The devices that have a name, each with the field of the instance that describes it: ``disk1``, ``disks[0]``.

        A device keeps its name as long as the instance has it. Pure.
        """

    def attached(self, job: Job, instance: Instance, params: Params, field: str) -> tuple[Any, str]:
        """The spec with one device more, and the device's name. Reads, and changes nothing.

        ``instance`` has the device already, as its last one of that kind: ``field`` is ``disks[2]``. Raises `VerifyError`
        with all problems if this node or this guest cannot have it.
        """

    def detached(self, job: Job, device: str) -> Any:
        """The spec without that device. Reads, and changes nothing. Raises `OperationError` if it has to stay."""

    def alter(self, job: Job, *, before: Any, after: Any, device: str) -> None:
        """Change the guest from ``before`` to ``after``, which differ in that device; acquire or release its resources.

        Each step that is done already is left out: an earlier call may have been interrupted anywhere. Raises
        `DeadlineError` when the guest does not react.
        """

    def altered(self, job: Job, *, before: Any, after: Any, device: str) -> bool:
        """Whether the guest has the device as in ``after``. Raises an `HvError` if that cannot be found out."""


@runtime_checkable
class ListsDevices(Attaches, Protocol):
    """The driver has parameters that list devices, such as ``usb_devices``, which can be attached and detached one by one."""

    def listed(self, spec: Any) -> Collection[str]:
        """The parameters whose devices the instance of that spec can get while it runs. Pure. `hv changes` asks."""


@runtime_checkable
class ChangesMedia(Attaches, Protocol):
    """The driver can change the medium in a drive of an instance that runs. `Attaches.alter` does so, as a change."""

    def with_medium(self, job: Job, device: str, path: str | None) -> Any:
        """The spec with that image in the drive; None empties it. Reads, and changes nothing.

        Raises `VerifyError` for an image that cannot be used, `OperationError` for a device that has no medium to change.
        """


@runtime_checkable
class Modifies(Attaches, Protocol):
    """The driver can change settings of a device of an instance that runs. `Attaches.alter` does so, as a change."""

    def modifiable(self, spec: Any, device: str) -> Collection[str]:
        """The keys of the device's table in an instance file that can change: ``link``, ``bandwidth_to_guest``. Pure."""

    def modified(self, job: Job, instance: Instance, device: str) -> Any:
        """The spec in which the device is as ``instance`` describes it. Only these keys differ. Reads, and changes nothing.

        Raises `VerifyError` with all problems if this node cannot do that.
        """


@runtime_checkable
class ResizesDisks(Protocol):
    """The driver can change the size of a disk of an instance that runs."""

    def disk_size(self, job: Job, device: str) -> int:
        """The size of the disk in bytes, as the guest sees it. Raises `OperationError` for a device that has none."""

    def resize_disk(self, job: Job, device: str, size_bytes: int) -> None:
        """Change the size, of the image too, and tell the guest."""
