"""A file of the node that QEMU reads once, such as a password: copied to a place that only QEMU can read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from hv_kvm.machine.resource import GUEST_DIRECTORY, GUEST_USER, PrivateCopy
from hv_kvm.paths import GuestPaths
from hv_kvm.resources.left_behind import unlink_inside
from hvcore.plugin import Entry, Held, OperationError, Owner, Problem, ResourceKind, Site, Step, Turn

__all__ = ["ContentsError", "PrivateCopyKind", "password", "remove_copies"]

_MAX_BYTES: Final = 1 << 20


class ContentsError(ValueError):
    """The file cannot be copied as it is. The text says why, and never contains a part of the file."""


class PrivateCopyKind(ResourceKind[PrivateCopy, str], name="private-copy", turn=Turn.FILE):
    """The copy is in the guest's directory, until QEMU has read it."""

    def verify(self, resource: PrivateCopy, site: Site) -> Iterator[Problem]:
        """The file must be readable, and a password in it must be one that can work."""
        try:
            _contents(resource)
        except ContentsError as error:
            todo = "correct the file, or name another"
            yield Problem(path=resource.where, what=str(error), got=repr(resource.path), todo=todo)

    def describe(self, resource: PrivateCopy, site: Site) -> Iterator[Step]:
        """Which file is copied."""
        kind, part = ("password", "the first line of ") if resource.password_bytes else ("file", "")
        yield Step(
            kind=kind, what=f"copy {part}{resource.path} to a file that only QEMU can read, until QEMU has read it"
        )

    def placeholder(self, resource: PrivateCopy, site: Site) -> str:
        """The name of the copy in the guest's directory."""
        return resource.key

    def entry(self, resource: PrivateCopy, site: Site) -> Mapping[str, Any]:
        """Its name in the guest's directory."""
        return {"name": resource.key}

    def acquire(self, resource: PrivateCopy, held: Held) -> str:
        """Make the copy, which only the guest's uid can read. QEMU does not run yet, so no other process uses the directory."""
        user = held[GUEST_USER]
        try:
            data = _contents(resource)
        except ContentsError as error:
            what = f"{held.owner.name}: {resource.path!r} {error}"
            raise OperationError(f"{what}; correct the file, or name another") from error
        if data is not None:
            path, uid = GuestPaths(held.owner.dir).guest / resource.key, -1 if user is None else user.uid
            if not path.parent.exists():
                path.parent.mkdir(mode=0o700)
                os.chown(path.parent, uid, -1)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400)
            with open(fd, "wb") as file:
                os.fchown(fd, uid, -1)
                file.write(data)
        return f"{held[GUEST_DIRECTORY].path}/{resource.key}"

    def release(self, entry: Entry, owner: Owner) -> None:
        """Remove the copy of a start that failed: a password is never kept."""
        unlink_inside(GuestPaths(owner.dir).guest, entry.data["name"])


def _contents(resource: PrivateCopy) -> bytes | None:
    """The bytes for QEMU, None for an optional file that does not exist. Raises `ContentsError`."""
    try:
        # Not blocking: opening a FIFO that nothing writes to would wait for ever.
        fd = os.open(resource.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise ContentsError("is not a regular file")
            data = os.read(fd, _MAX_BYTES + 1)
        finally:
            os.close(fd)
    except OSError as error:
        if resource.optional and isinstance(error, FileNotFoundError):
            return None
        raise ContentsError(f"cannot be read ({error.strerror})") from error
    if len(data) > _MAX_BYTES:
        raise ContentsError("is larger than 1 MiB")
    return data if resource.password_bytes is None else _first_line(data, resource.password_bytes)


def _first_line(data: bytes, at_most: int) -> bytes:
    line = data.partition(b"\n")[0].removesuffix(b"\r")
    if not line:
        raise ContentsError("has no password in its first line; an empty password would let everyone in")
    if len(line) > at_most:
        raise ContentsError(f"has a password of {len(line)} bytes, of which QEMU would use only the first {at_most}")
    try:
        # QEMU wants UTF-8 (crypto/secret_common.c), and JSON has no NUL in a C string.
        if "\0" in line.decode("utf-8"):
            raise ContentsError("has a NUL byte in its password")
    except UnicodeDecodeError as error:
        raise ContentsError("has a password that is not UTF-8") from error
    return line


def password(resource: PrivateCopy) -> str:
    """The password as text, for QMP. Raises `ContentsError`."""
    return (_contents(resource) or b"").decode("utf-8")


def remove_copies(resources: Iterable[PrivateCopy], guest_dir: Path) -> None:
    """Remove the copies that exist: QEMU has read them, and the guest has not run yet."""
    for resource in resources:
        (guest_dir / resource.key).unlink(missing_ok=True)
