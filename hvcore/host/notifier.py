"""Changes of files and directories, reported by inotify(7)."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from types import TracebackType
from typing import Final, NamedTuple, Self

from hvcore.errors import NodeError
from hvcore.host.libc import libc_call

__all__ = ["ENTRIES", "GONE", "GROWS", "OVERFLOW", "Change", "Notifier"]

# linux/inotify.h
_MODIFY: Final = 0x2
_ATTRIB: Final = 0x4  # also a change of the number of links, for a file that a process still has open
_MOVED_FROM: Final = 0x40
_MOVED_TO: Final = 0x80
_CREATE: Final = 0x100
_DELETE: Final = 0x200
_DELETE_SELF: Final = 0x400
_MOVE_SELF: Final = 0x800
_UNMOUNT: Final = 0x2000
_IGNORED: Final = 0x8000
_ONLYDIR: Final = 0x1000000
_DONT_FOLLOW: Final = 0x2000000

OVERFLOW: Final = 0x4000
"""The kernel has dropped changes, of any watch."""
GONE: Final = _DELETE_SELF | _MOVE_SELF | _UNMOUNT | _IGNORED
"""The watched file or directory was removed or moved away, or its file system was unmounted."""
ENTRIES: Final = _CREATE | _DELETE | _MOVED_FROM | _MOVED_TO | _DELETE_SELF | _MOVE_SELF | _ONLYDIR | _DONT_FOLLOW
"""Watch a directory for names that come and go."""
GROWS: Final = _MODIFY | _ATTRIB | _DELETE_SELF | _MOVE_SELF | _DONT_FOLLOW
"""Watch a file for changes of its contents, and for its end."""

_EVENT: Final = struct.Struct("iIII")
_READ_BYTES: Final = 64 * 1024


class Change(NamedTuple):
    """One change: the number of the watch, what happened, and the name in a watched directory."""

    watch: int
    mask: int
    name: str


class Notifier:
    """An inotify instance. ``fd`` is readable after a change. Raises `NodeError` if the node allows no more of them."""

    def __init__(self) -> None:
        try:
            self.fd = libc_call("inotify_init1", os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            what = f"files cannot be watched, got {error.strerror}"
            raise NodeError(f"{what}; see fs.inotify.max_user_instances in sysctl, and ulimit -n") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all watches. Harmless when that was done."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def watch(self, path: str, mask: int) -> int | None:
        """Watch the file or directory; its number, None if it cannot be watched. Raises `NodeError` at the node's limit."""
        try:
            return libc_call("inotify_add_watch", self.fd, os.fsencode(path), mask)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.ENOMEM):
                what = f"{path}: cannot be watched, got {error.strerror}"
                raise NodeError(f"{what}; raise fs.inotify.max_user_watches in sysctl") from error
            return None

    def unwatch(self, watch: int) -> None:
        """End one watch. Harmless for one that has ended."""
        try:
            libc_call("inotify_rm_watch", self.fd, watch)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise

    def changes(self) -> Iterator[Change]:
        """The changes that have arrived, up to 64 KiB of them. Does not wait."""
        try:
            data = os.read(self.fd, _READ_BYTES)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            watch, mask, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size
            yield Change(watch, mask, os.fsdecode(data[at : at + length].rstrip(b"\0")))
            at += length
