"""Instance files, and TOML as it is read everywhere here: at most 1 MiB of UTF-8."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, Final

from hvcore.errors import InstanceFileError, ParamsError
from hvcore.host.files import changed_by_others
from hvcore.model.instance import Instance, read_instance

__all__ = ["MAX_TOML_BYTES", "load_instance", "parse_instance_file", "parse_toml", "read_again", "read_instance_file"]

MAX_TOML_BYTES: Final = 1024 * 1024


def load_instance(path: str | Path) -> Instance:
    """The instance that a TOML file describes.

    Raises `InstanceFileError` when it is not readable as TOML, `ParamsError` with every problem in it otherwise.
    """
    instance, problems = read_instance(read_instance_file(path))
    if instance is None:
        raise ParamsError(str(path), problems)
    return instance


def read_again(path: str | Path) -> Instance:
    """As `load_instance`, for a file that was named some time ago, and not by the caller.

    Raises `InstanceFileError` also when others than root and we can change the file: it names programs that are run.
    """
    instance, problems = read_instance(parse_instance_file(_content(path, named_now=False), repr(str(path))))
    if instance is None:
        raise ParamsError(str(path), problems)
    return instance


def read_instance_file(path: str | Path) -> dict[str, Any]:
    """What stands in an instance file, unchecked: for `Node.check`. Raises `InstanceFileError`."""
    return parse_instance_file(_content(path), repr(str(path)))


def _content(path: str | Path, *, named_now: bool = True) -> bytes:
    subject = repr(str(path))
    try:
        # Not blocking: opening a FIFO that nobody writes to would wait for ever.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                kind = "a directory" if stat.S_ISDIR(found.st_mode) else "no regular file"
                raise InstanceFileError(f"{subject}: is {kind}; give an instance file")
            fault = None if named_now else changed_by_others(found)
            if fault is not None:
                raise InstanceFileError(f"{subject}: {fault}; chown it to root and chmod it 0644")
            with open(fd, "rb", closefd=False) as file:
                return file.read(MAX_TOML_BYTES + 1)
        finally:
            os.close(fd)
    except OSError as error:
        raise InstanceFileError(f"{subject}: cannot be read, got {error.strerror}; give an instance file") from error
    except ValueError as error:
        raise InstanceFileError(f"{subject}: is not a path, {error}; give an instance file") from error


def parse_instance_file(data: bytes, subject: str) -> dict[str, Any]:
    """As `read_instance_file`, of a text that is here already; ``subject`` names it in errors."""
    try:
        return parse_toml(data)
    except ValueError as error:
        raise InstanceFileError(f"{subject}: {error}; see docs/reference/instance-file.md") from error


def parse_toml(data: bytes) -> dict[str, Any]:
    """The document. Raises ValueError, whose text goes on after the name of the file: ``is not TOML (...)``."""
    import tomllib  # noqa: PLC0415 - 3.2 ms, for those who read a file

    if len(data) > MAX_TOML_BYTES:
        raise ValueError("is larger than 1 MiB")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 at byte {error.start}") from error
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    except ValueError as error:  # TOMLDecodeError is one; an integer of more than 4300 digits is another
        raise ValueError(f"is not TOML ({error})") from error
