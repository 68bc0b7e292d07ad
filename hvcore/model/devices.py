"""The disks and network interfaces of an instance, as values."""

from __future__ import annotations

from hvcore.frozen import dataclass

__all__ = ["Disk", "ListedDevice", "Nic"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """One disk, by absolute path to an image file or a block device, or by a URI that its driver understands.

    ``cache``, ``aio`` and ``discard`` replace the driver's parameters ``disk_cache`` and so on, only for this disk, unless
    None. ``boot_index`` is its position in the boot order, from 1; None leaves that to the driver's parameters.

    ``base`` are the images under the disk, from the next one to the last one, whose format is ``base_format``: the disk's
    own file has only what differs. ``size`` in MiB is that of a file that a start makes. What is written to a ``temporary``
    disk goes to a file without a name, which ends with the instance.
    """

    path: str
    read_only: bool = False
    format: str = "raw"
    cache: str | None = None
    aio: str | None = None
    discard: str | None = None
    base: tuple[str, ...] = ()
    base_format: str = "qcow2"
    size: int | None = None
    temporary: bool = False
    boot_index: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Nic:
    """One network interface. A ``mac`` of None is derived from the instance's uuid and the position of the interface.

    The fields are the keys under ``[[nics]]`` of an instance file; the bandwidths are in bits per second. ``boot_index``
    is as that of a `Disk`. ``connected`` False is an interface whose cable is pulled out.
    """

    mode: str = "user"
    mac: str | None = None
    link: str | None = None
    name: str | None = None
    ip: tuple[str, ...] = ()
    vlan: str | None = None
    mtu: int | None = None
    bandwidth_to_guest: int | None = None
    bandwidth_from_guest: int | None = None
    forward: tuple[str, ...] = ()
    egress: str | None = None
    boot_index: int | None = None
    connected: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedDevice:
    """One device of a driver's parameter that lists devices: ``param`` usb_devices, ``item`` keyboard."""

    param: str
    item: str
