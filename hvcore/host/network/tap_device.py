"""Tap devices: what the kernel can do, and a new one with its descriptors. Documentation/networking/tuntap.rst."""

from __future__ import annotations

import fcntl
import os
import struct
from dataclasses import dataclass
from typing import Final

__all__ = ["TUN", "VHOST_NET", "TapFeatures", "open_tap", "open_vhost", "tap_features"]

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
        return _features(fd)
    finally:
        os.close(fd)


def _features(fd: int) -> TapFeatures:
    (found,) = struct.unpack("=I", fcntl.ioctl(fd, _TUNGETFEATURES, bytes(4)))
    return TapFeatures(vnet_hdr=bool(found & _VNET_HDR), multi_queue=bool(found & _MULTI_QUEUE))


def open_tap(name: str, *, queues: int = 1, vnet_hdr: bool = True, tun: str = TUN) -> list[int]:
    """The descriptors of a new tap, one for each queue. The kernel removes the tap with its last descriptor.

    ``vnet_hdr`` False, or a kernel without it: packets have no virtio-net header. Raises OSError: EBUSY when there is a
    link of that name.
    """
    # The kernel would cut a longer name, and fill in a number for '%d'.
    if not 0 < len(name.encode()) <= _NAME_BYTES or not name.isascii() or "%" in name:
        raise ValueError(f"{name!r}: is not the name of a link")
    fds: list[int] = []
    try:
        for queue in range(queues):
            # Without O_NONBLOCK, which QEMU sets itself, so that both ends of a queue agree.
            fds.append(os.open(tun, os.O_RDWR | os.O_CLOEXEC))
            flags = _TAP | _NO_PI
            if vnet_hdr and _features(fds[0]).vnet_hdr:
                flags |= _VNET_HDR
            if queues > 1:
                flags |= _MULTI_QUEUE
            if queue == 0:
                flags |= _EXCL  # otherwise a tap of that name from another program would be taken over silently
            fcntl.ioctl(fds[-1], _TUNSETIFF, _REQUEST.pack(name.encode(), flags))
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return fds


def open_vhost(path: str = VHOST_NET) -> int:
    """A descriptor of vhost-net, for one queue of a tap."""
    return os.open(path, os.O_RDWR | os.O_CLOEXEC)
