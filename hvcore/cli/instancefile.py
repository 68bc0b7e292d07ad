"""Reading the FILE argument: an instance file, or stdin when it is ``-``."""

from __future__ import annotations

import os
import stat
import sys
import tomllib
from typing import Any, Final

import hvcore

__all__ = ["read_instance"]

_MAX_BYTES: Final = 1024 * 1024


def read_instance(node: hvcore.Node, file: str) -> hvcore.Instance:
    """The instance in the file, fully checked: every problem at once, those of the driver's parameters included.

    Raises `InstanceFileError` when the file is not readable as TOML, and `ParamsError` about the file.
    """
    data = _parse(_read_stdin() if file == "-" else _read_file(file), _subject(file))
    try:
        return node.check(data)
    except hvcore.ParamsError as error:
        raise hvcore.ParamsError(_subject(file), error.problems) from None


def _subject(file: str) -> str:
    return "stdin" if file == "-" else repr(file)


def _read_stdin() -> bytes:
    if sys.stdin is None:
        raise hvcore.InstanceFileError("stdin: is closed; give it an instance file")
    try:
        return sys.stdin.buffer.read(_MAX_BYTES + 1)
    except OSError as error:
        raise hvcore.InstanceFileError(f"stdin: cannot be read, got {error.strerror}; give an instance file") from error


def _read_file(file: str) -> bytes:
    try:
        # Not blocking: opening a FIFO that nobody writes to would wait for ever.
        fd = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            mode = os.fstat(fd).st_mode
            if not stat.S_ISREG(mode):
                kind = "a directory" if stat.S_ISDIR(mode) else "no regular file"
                raise hvcore.InstanceFileError(f"{file!r}: is {kind}; give an instance file, or - to read stdin")
            with os.fdopen(os.dup(fd), "rb") as stream:
                return stream.read(_MAX_BYTES + 1)
        finally:
            os.close(fd)
    except OSError as error:
        raise hvcore.InstanceFileError(
            f"{file!r}: cannot be read, got {error.strerror}; give an instance file"
        ) from error
    except ValueError as error:
        raise hvcore.InstanceFileError(f"{file!r}: is not a path, {error}; give an instance file") from error


def _parse(data: bytes, subject: str) -> dict[str, Any]:
    if len(data) > _MAX_BYTES:
        raise hvcore.InstanceFileError(f"{subject}: is larger than 1 MiB; that is not an instance file")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise hvcore.InstanceFileError(f"{subject}: is not UTF-8 at byte {error.start}; save it as UTF-8") from error
    except RecursionError as error:
        raise hvcore.InstanceFileError(f"{subject}: is nested too deeply; that is not an instance file") from error
    except ValueError as error:  # TOMLDecodeError is one; an integer of more than 4300 digits is another
        raise hvcore.InstanceFileError(f"{subject}: is not TOML, {error}; correct it there") from error
