"""Files of the node that only QEMU is to read: what is in them, and their copies in the guest's directory. Impure."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from hv_kvm.machine.spec import Handed

__all__ = ["HandedError", "contents", "hand_over", "password", "take_back"]

_MAX_BYTES: Final = 1 << 20


class HandedError(ValueError):
    """The file is not what it has to be. The text says how, never what is in it."""


def contents(handed: Handed) -> bytes | None:
    """What QEMU is to read, None for an optional file that is not there. Raises `HandedError`."""
    try:
        # Not blocking: opening a FIFO that nobody writes to would wait for ever.
        fd = os.open(handed.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        if handed.optional:
            return None
        raise HandedError("cannot be read (No such file or directory)") from error
    except OSError as error:
        raise HandedError(f"cannot be read ({error.strerror})") from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise HandedError("is not a regular file")
        data = os.read(fd, _MAX_BYTES + 1)
    except OSError as error:
        raise HandedError(f"cannot be read ({error.strerror})") from error
    finally:
        os.close(fd)
    if len(data) > _MAX_BYTES:
        raise HandedError("is larger than 1 MiB")
    return data if handed.password_bytes is None else _first_line(data, handed.password_bytes)


def _first_line(data: bytes, at_most: int) -> bytes:
    line = data.partition(b"\n")[0].removesuffix(b"\r")
    if not line:
        raise HandedError("has no password in its first line; an empty one would let everybody in")
    if len(line) > at_most:
        raise HandedError(f"has a password of {len(line)} bytes, of which only the first {at_most} would count")
    try:
        # QEMU wants UTF-8 (crypto/secret_common.c), and JSON has no NUL in a C string.
        if "\0" in line.decode("utf-8"):
            raise HandedError("has a NUL byte in its password")
    except UnicodeDecodeError as error:
        raise HandedError("has a password that is not UTF-8") from error
    return line


def password(handed: Handed) -> str:
    """The password as text, for QMP. Raises `HandedError`."""
    return (contents(handed) or b"").decode("utf-8")


def hand_over(files: Iterable[Handed], guest_dir: Path, uid: int | None) -> None:
    """Copy the files to where QEMU finds them, readable for the guest's uid alone. Raises `HandedError` and OSError.

    Before QEMU runs: nobody else can write in the guest's directory yet.
    """
    for handed in files:
        try:
            data = contents(handed)
        except HandedError as error:
            raise HandedError(f"{handed.path!r} {error}") from error
        if data is None:
            continue
        path = guest_dir / handed.name
        if path.parent != guest_dir:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            if uid is not None:
                os.chown(path.parent, uid, -1)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400)
        with open(fd, "wb") as file:
            if uid is not None:
                os.fchown(fd, uid, -1)
            file.write(data)


def take_back(files: Iterable[Handed], guest_dir: Path) -> None:
    """Remove the copies: QEMU has read them, and has not run the guest yet. That one is not there is fine."""
    for handed in files:
        (guest_dir / handed.name).unlink(missing_ok=True)
