"""Reading an instance from a TOML file."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from hvcore.config.toml import MAX_TOML_BYTES, parse_toml
from hvcore.errors import InstanceFileError, ParamsError
from hvcore.model.instance import Instance, read_instance

__all__ = ["load_instance", "parse_instance_file", "read_instance_file"]


def load_instance(path: str | Path) -> Instance:
    """The instance that a TOML file describes.

    Raises `InstanceFileError` when it is not readable as TOML, `ParamsError` with every problem in it otherwise.
    """
    instance, problems = read_instance(read_instance_file(path))
    if instance is None:
        raise ParamsError(str(path), problems)
    return instance


def read_instance_file(path: str | Path) -> dict[str, Any]:
    """What stands in an instance file, unchecked: for `Node.check`. Raises `InstanceFileError`."""
    subject = repr(str(path))
    try:
        # Not blocking: opening a FIFO that nobody writes to would wait for ever.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            mode = os.fstat(fd).st_mode
            if not stat.S_ISREG(mode):
                kind = "a directory" if stat.S_ISDIR(mode) else "no regular file"
                raise InstanceFileError(f"{subject}: is {kind}; give an instance file")
            with open(fd, "rb", closefd=False) as file:
                data = file.read(MAX_TOML_BYTES + 1)
        finally:
            os.close(fd)
    except OSError as error:
        raise InstanceFileError(f"{subject}: cannot be read, got {error.strerror}; give an instance file") from error
    except ValueError as error:
        raise InstanceFileError(f"{subject}: is not a path, {error}; give an instance file") from error
    return parse_instance_file(data, subject)


def parse_instance_file(data: bytes, subject: str) -> dict[str, Any]:
    """As `read_instance_file`, of a text that is here already; ``subject`` names it in errors."""
    try:
        return parse_toml(data)
    except ValueError as error:
        raise InstanceFileError(f"{subject}: {error}; see docs/reference/instance-file.md") from error
