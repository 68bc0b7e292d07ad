"""Tap devices: what the kernel can do, and a new one with its descriptors. Documentation/networking/tuntap.rst."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable
from typing import Final

from hvcore.frozen import dataclass

__all__ = ["TUN", "VHOST_NET", "TapFeatures", "open_queues", "open_tap", "open_vhost", "tap_features"]

TUN: Final = "/dev/net/tun"
VHOST_NET: Final = "/dev/vhost-net"

# linux/if_tun.h
_TUNSETIFF, _TUNGETFEATURES = 0x400454CA, 0x800454CF
_TAP, _NO_PI, _VNET_HDR, _MULTI_QUEUE, _EXCL = 0x2, 0x1000, 0x4000, 0x100, 0x8000
_REQUEST: Final = struct.Struct("16sH22x")
_NAME_BYTES: Final = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class TapFeatures:
    """What the kernel's taps can do."""

    vnet_hdr: bool
    multi_queue: bool


def tap_features(tun: str = TUN) -> TapFeatures:
    """What the kernel's taps can do. Needs no privilege. Raises OSError when the node has no taps."""
    fd = os.open(tun, os.O_RDWR | os.O_CLOEXEC)
    try:
        (found,) = struct.unpack("=I", fcntl.ioctl(fd, _TUNGETFEATURES, bytes(4)))
    finally:
        os.close(fd)
    return TapFeatures(vnet_hdr=bool(found & _VNET_HDR), multi_queue=bool(found & _MULTI_QUEUE))


def open_tap(name: str, *, queues: int = 1, vnet_hdr: bool = True, tun: str = TUN) -> list[int]:
    """The descriptors of a new tap, one for each queue. The kernel removes the tap with its last descriptor.

    ``vnet_hdr`` False, or a kernel without it: packets have no virtio-net header. Raises OSError: EBUSY when there is a
    link of that name.
    """
    # The kernel would cut a longer name, and fill in a number for '%d'.
    if not 0 < len(name.encode()) <= _NAME_BYTES or not name.isascii() or "%" in name:
        raise ValueError(f"{name!r}: is not the name of a link")

    def opened() -> int:
        # Without O_NONBLOCK, which QEMU sets itself, so that both ends of a queue agree.
        return os.open(tun, os.O_RDWR | os.O_CLOEXEC)

    has_header = vnet_hdr and tap_features(tun).vnet_hdr
    # Otherwise a tap of that name from another program would be taken over silently.
    return open_queues(name, queues, opened, vnet_hdr=has_header, first=_EXCL)


def open_queues(name: str, queues: int, opened: Callable[[], int], *, vnet_hdr: bool, first: int = 0) -> list[int]:
    """A descriptor from ``opened`` for each queue of the tap or macvtap of that name. Raises OSError.

    The first one has the flags ``first`` more.
    """
    flags = _TAP | _NO_PI | (_VNET_HDR if vnet_hdr else 0) | (_MULTI_QUEUE if queues > 1 else 0)
    fds: list[int] = []
    try:
        while len(fds) < queues:
            more = 0 if fds else first
            fds.append(opened())
            fcntl.ioctl(fds[-1], _TUNSETIFF, _REQUEST.pack(name.encode(), flags | more))
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return fds


def open_vhost(path: str = VHOST_NET) -> int:
    """A descriptor of vhost-net, for one queue of a tap."""
    return os.open(path, os.O_RDWR | os.O_CLOEXEC)
