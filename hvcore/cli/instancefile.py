"""Reading the FILE argument: an instance file, or stdin when it is ``-``."""

from __future__ import annotations

import sys
from typing import Final

import hvcore

__all__ = ["read_instance"]

_TOO_MANY_BYTES: Final = 1024 * 1024 + 1


def read_instance(node: hvcore.Node, file: str) -> hvcore.Instance:
    """The instance in the file, fully checked: every problem at once, those of the driver's parameters included.

    Raises `InstanceFileError` when the file is not readable as TOML, and `ParamsError` about the file.
    """
    stdin = file == "-"
    data = hvcore.parse_instance_file(_read_stdin(), "stdin") if stdin else hvcore.read_instance_file(file)
    try:
        return node.check(data)
    except hvcore.ParamsError as error:
        raise hvcore.ParamsError("stdin" if stdin else repr(file), error.problems) from None


def _read_stdin() -> bytes:
    if sys.stdin is None:
        raise hvcore.InstanceFileError("stdin: is closed; give it an instance file")
    try:
        return sys.stdin.buffer.read(_TOO_MANY_BYTES)
    except OSError as error:
        raise hvcore.InstanceFileError(f"stdin: cannot be read, got {error.strerror}; give an instance file") from error
