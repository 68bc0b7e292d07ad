"""The character device of a macvtap interface, opened by its number: one descriptor for each queue.

The number is in sysfs, of which each mount shows one network namespace. The node of the device is made in a file system
that is mounted nowhere: /dev may have none, or that of an interface of another network namespace.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from hvcore.host.libc import system_call
from hvcore.host.network.tap_device import open_queues

__all__ = ["open_macvtap", "why_no_device_nodes"]

# The same on every architecture.
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_FSOPEN_CLOEXEC, _FSCONFIG_CMD_CREATE, _FSMOUNT_CLOEXEC = 1, 6, 1  # linux/mount.h
_NULL: Final = os.makedev(1, 3)


def open_macvtap(name: str, *, queues: int = 1, vnet_hdr: bool = True) -> list[int]:
    """The descriptors of the macvtap interface of that name, in the caller's network namespace. Raises OSError."""
    number, path = _device(name)
    return open_queues(name, queues, lambda: _opened(number, path), vnet_hdr=vnet_hdr)


def why_no_device_nodes() -> str | None:
    """Why this process cannot make and open the node of a device, in the kernel's words; None if it can."""
    try:
        os.close(_made(_NULL))
    except OSError as error:
        return error.strerror
    return None


def _device(name: str) -> tuple[int, str]:
    """The number of the interface's device, and the path that udev gives it."""
    with _unattached("sysfs") as root:
        folder = os.open(f"class/net/{name}/macvtap", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
        try:
            (device,) = os.listdir(folder)
            fd = os.open(f"{device}/dev", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
            with open(fd, encoding="ascii") as file:
                major, _, minor = file.read().partition(":")
        finally:
            os.close(folder)
    return os.makedev(int(major), int(minor)), f"/dev/{device}"


def _opened(number: int, path: str) -> int:
    try:
        return _made(number)
    except OSError:  # a container that may not make nodes, and may have this one
        with suppress(OSError):
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            if os.fstat(fd).st_rdev == number:
                return fd
            os.close(fd)
        raise


def _made(number: int) -> int:
    with _unattached("tmpfs") as root:
        os.mknod("device", stat.S_IFCHR | 0o600, number, dir_fd=root)
        return os.open("device", os.O_RDWR | os.O_CLOEXEC, dir_fd=root)


@contextmanager
def _unattached(kind: str) -> Iterator[int]:
    """The root of a new mount of that file system, which has no place and ends with the block. Raises OSError."""
    made = system_call(_FSOPEN, kind.encode(), _FSOPEN_CLOEXEC)
    try:
        system_call(_FSCONFIG, made, _FSCONFIG_CMD_CREATE, None, None, 0)
        root = system_call(_FSMOUNT, made, _FSMOUNT_CLOEXEC, 0)
    finally:
        os.close(made)
    try:
        yield root
    finally:
        os.close(root)
