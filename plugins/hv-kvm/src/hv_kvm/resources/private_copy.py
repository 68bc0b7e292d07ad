"""A copy that only QEMU may read of a file of the node: a password, a certificate's key."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from hv_kvm.machine.resource import GUEST_DIRECTORY, GUEST_USER, PrivateCopy
from hv_kvm.paths import GuestPaths
from hvcore.plugin import Held, OperationError, Problem, ResourceKind, Site, Step, Turn

__all__ = ["ContentsError", "PrivateCopyKind", "password", "remove_copies"]

_MAX_BYTES: Final = 1 << 20


class ContentsError(ValueError):
    """The file is not as it has to be. The text says how, never what is in it."""


class PrivateCopyKind(ResourceKind[PrivateCopy, str], name="private-copy", turn=Turn.FILE):
    """It is in the guest's directory until QEMU has read it: the ledger need not know."""

    def verify(self, resource: PrivateCopy, site: Site) -> Iterator[Problem]:
        """The file has to be readable, and a password in it one that can work."""
        try:
            _contents(resource)
        except ContentsError as error:
            todo = "correct the file, or name another"
            yield Problem(path=resource.where, what=str(error), got=repr(resource.path), todo=todo)

    def describe(self, resource: PrivateCopy, site: Site) -> Iterator[Step]:
        """What is copied."""
        kind, part = ("password", "the first line of ") if resource.password_bytes else ("file", "")
        yield Step(kind=kind, what=f"copy {part}{resource.path} for QEMU alone, until it has read it")

    def placeholder(self, resource: PrivateCopy, site: Site) -> str:
        """Nothing: the directory that it is in is named by the guest's."""
        return resource.key

    def acquire(self, resource: PrivateCopy, held: Held) -> str:
        """Make the copy, readable for the guest's uid alone. Before QEMU runs: the directory is still only ours."""
        user = held[GUEST_USER]
        try:
            data = _contents(resource)
        except ContentsError as error:
            what = f"{held.owner.name}: {resource.path!r} {error}"
            raise OperationError(f"{what}; correct the file, or name another") from error
        if data is not None:
            path = GuestPaths(held.owner.dir).guest / resource.key
            _write(path, data, None if user is None else user.uid)
        return f"{held[GUEST_DIRECTORY].path}/{resource.key}"


def _write(path: Path, data: bytes, uid: int | None) -> None:
    if not path.parent.exists():
        path.parent.mkdir(mode=0o700)
        if uid is not None:
            os.chown(path.parent, uid, -1)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400)
    with open(fd, "wb") as file:
        if uid is not None:
            os.fchown(fd, uid, -1)
        file.write(data)


def _contents(resource: PrivateCopy) -> bytes | None:
    """What QEMU reads, None for an optional file that is not there. Raises `ContentsError`."""
    try:
        # Not blocking: opening a FIFO that nothing writes to would wait for ever.
        fd = os.open(resource.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        if resource.optional:
            return None
        raise ContentsError("cannot be read (No such file or directory)") from error
    except OSError as error:
        raise ContentsError(f"cannot be read ({error.strerror})") from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ContentsError("is not a regular file")
        data = os.read(fd, _MAX_BYTES + 1)
    except OSError as error:
        raise ContentsError(f"cannot be read ({error.strerror})") from error
    finally:
        os.close(fd)
    if len(data) > _MAX_BYTES:
        raise ContentsError("is larger than 1 MiB")
    return data if resource.password_bytes is None else _first_line(data, resource.password_bytes)


def _first_line(data: bytes, at_most: int) -> bytes:
    line = data.partition(b"\n")[0].removesuffix(b"\r")
    if not line:
        raise ContentsError("has no password in its first line; an empty one would let everybody in")
    if len(line) > at_most:
        raise ContentsError(f"has a password of {len(line)} bytes, of which only the first {at_most} would count")
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
    """Remove the copies: QEMU has read them, and has not run the guest yet. That one is not there is fine."""
    for resource in resources:
        (guest_dir / resource.key).unlink(missing_ok=True)
