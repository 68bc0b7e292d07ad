"""The second half of a parameter's check, where the instance will run: is the file there, is it a directory."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from hvcore.errors import Problem
from hvcore.params.param_type import NodeCheck
from hvcore.params.schema import Schema
from hvcore.params.values import Params

__all__ = ["node_problems"]


def node_problems(schema: Schema, params: Params) -> Iterator[Problem]:
    """What is wrong on this node with parameters that name a file or a directory."""
    for key, param in schema.params.items():
        value = params[key]
        wanted = param.type.node_check
        for one in value if isinstance(value, tuple) else (value,):
            if wanted is None or not isinstance(one, str) or not one.startswith("/"):
                continue
            what = _wrong(one, wanted)
            if what is not None:
                shown = None if param.secret else repr(one)[:80]
                yield Problem(path=f"params.{key}", what=what, got=shown, todo=f"give {param.expects} of this node")


def _wrong(path: str, wanted: NodeCheck) -> str | None:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return f"cannot be used ({os.strerror(error.errno or 0)})"
    except ValueError as error:
        return f"is not a path ({error})"
    if wanted is NodeCheck.DIRECTORY:
        return None if stat.S_ISDIR(mode) else "is not a directory"
    if stat.S_ISDIR(mode):
        return "is a directory, not a file"
    return None if os.access(path, os.R_OK) else "may not be read by us"
