"""The image under a qcow2 image: whether the header agrees with the instance, and an empty image on top of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Any, Final

from hv_kvm.machine.resource import Backing, Image
from hv_kvm.resources.qcow2_header import HEAD_BYTES, Qcow2Header, read_header
from hv_kvm.resources.qcow2_overlay import empty_overlay

__all__ = ["backing_problem", "head_and_size", "new_size", "overlay_on", "seen_size"]

_SECTOR: Final = 512
_NS: Final = 10**9

_Wrong = tuple[str, str]
"""What is wrong, and what to do."""


def head_and_size(path: str) -> tuple[bytes, int]:
    """The first bytes of a file or block device, and its size. Raises OSError."""
    with open(path, "rb", buffering=0) as file:
        return file.read(HEAD_BYTES), file.seek(0, os.SEEK_END)


def seen_size(path: str, kind: str) -> int:
    """The bytes that a guest sees of an image. Raises OSError, and ValueError for one that is not of that format."""
    head, size = head_and_size(path)
    if kind != "qcow2":
        return -(-size // _SECTOR) * _SECTOR
    header = read_header(head)
    if header is None:
        raise ValueError(f"{path!r} is not a qcow2 image")
    return header.size_bytes


def new_size(backing: Backing | None, size_bytes: int | None) -> int:
    """The size of an image that is made on top of another one. Raises OSError, and ValueError with what is wrong."""
    if backing is None:
        raise ValueError("has no base")
    least = seen_size(backing.path, backing.format)
    size = least if size_bytes is None else size_bytes
    if size < least:
        raise ValueError(f"would be made with {size} bytes, and its base {backing.path!r} has {least}")
    return size


def overlay_on(backing: Backing | None, size_bytes: int | None, *, named: bool) -> bytes:
    """An empty image on top of the backing file. If that is ``named``, it is in the header, with its state.

    Raises OSError, and ValueError with what is wrong.
    """
    size = new_size(backing, size_bytes)
    if backing is None or not named:
        return empty_overlay(size)
    name, state = os.fsencode(backing.path), _state_of(backing.path)
    return empty_overlay(size, backing=name, backing_format=backing.format, base_state=state)


def backing_problem(image: Image, header: Qcow2Header) -> _Wrong | None:
    """Why the header of the image does not agree with the base of the disk; None if it does. Raises OSError."""
    named, backing = header.backing, image.backing
    if backing is None:
        if named is None:
            return None
        todo = "name the file in base if you trust it, or make it one image with qemu-img convert -O qcow2"
        return f"is a qcow2 image with a backing file, {_shown(named)}", todo
    if named is None:
        what = "is a qcow2 image without a backing file, and the disk has a base"
        return what, "unset base, or give a path that does not exist yet"
    right = f"qemu-img rebase -u -b BASE -F {backing.format} FILE corrects the header"
    if not _same_file(os.path.join(os.path.dirname(image.path), os.fsdecode(named)), backing.path):
        return (
            f"has the backing file {_shown(named)} in its header, and base is {backing.path!r}",
            f"set base to it; {right}",
        )
    found = header.backing_format
    if found is not None and found != backing.format:
        what = f"has a backing file of format {found!r} in its header, and by the instance it is {backing.format!r}"
        return what, f"correct base_format; {right}"
    return None if header.base_state is None else _changed(backing.path, header.base_state)


def _shown(name: bytes) -> str:
    return repr(os.fsdecode(name))[:80]


def _same_file(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):
        return False


def _state_of(path: str) -> dict[str, int]:
    """What changes when another program writes to the image. The time of a block device says nothing."""
    found = os.stat(path)
    if stat.S_ISBLK(found.st_mode):
        return {"size": head_and_size(path)[1]}
    return {"size": found.st_size, "mtime_ns": found.st_mtime_ns}


def _changed(path: str, before: Mapping[str, Any]) -> _Wrong | None:
    now = _state_of(path)
    if now.get("size") != before.get("size"):
        what = f"was made from {path!r} when that had {before.get('size')} bytes, and now it has {now['size']}"
        return what, "restore the base as it was; the data of the disk do not fit any other"
    then = before.get("mtime_ns")
    if isinstance(then, int) and now.get("mtime_ns", then) != then:
        time = f"{then // _NS}.{then % _NS:09}"
        what = (
            f"was made from {path!r} before that was last changed, and the data of the disk fit only the base as it was"
        )
        return what, f"restore the base; if only its time is different, such as of a copy: touch -d @{time} {path}"
    return None
