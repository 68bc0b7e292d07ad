"""Reading an instance from a TOML file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hvcore.errors import InstanceFileError, ParamsError
from hvcore.host.files import read_regular
from hvcore.model.instance import Instance, read_instance

__all__ = ["load_instance", "read_toml"]

_MAX_BYTES = 1024 * 1024


def load_instance(path: str | Path) -> Instance:
    """The instance that a TOML file describes.

    Raises `InstanceFileError` when it is not readable as TOML, `ParamsError` with every problem in it otherwise.
    """
    instance, problems = read_instance(read_toml(path))
    if instance is None:
        raise ParamsError(str(path), problems)
    return instance


def read_toml(path: str | Path) -> dict[str, Any]:
    """The contents of a TOML file. Raises `InstanceFileError` saying where it is not TOML."""
    import tomllib  # not for those who only list

    name = str(path)
    try:
        data = read_regular(Path(os.path.realpath(path)), limit=_MAX_BYTES + 1)
    except OSError as error:
        raise InstanceFileError(f"{name!r}: cannot be read, got {error.strerror}; give an instance file") from error
    except ValueError as error:
        raise InstanceFileError(f"{name!r}: is not a path, {error}; give an instance file") from error
    if len(data) > _MAX_BYTES:
        raise InstanceFileError(f"{name!r}: is larger than 1 MiB; that is not an instance file")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InstanceFileError(f"{name!r}: is not UTF-8 at byte {error.start}; save it as UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise InstanceFileError(f"{name!r}: is not TOML, {error}; see docs/reference/instance-file.md") from error
