"""The part of a parameter's check that needs this node: is the file there, is it a directory."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from hvcore.errors import Problem
from hvcore.params.param import NodeCheck
from hvcore.params.schema import Schema
from hvcore.params.values import Params

__all__ = ["node_problems"]


def node_problems(schema: Schema, params: Params) -> Iterator[Problem]:
    """Why parameters that name a file or a directory cannot be used on this node."""
    for key, param in schema.params.items():
        check, value = param.type.node_check, params[key]
        for path in value if isinstance(value, tuple) else (value,):
            what = None
            if check is not None and isinstance(path, str) and path.startswith("/"):
                what = _problem(path, check)
            if what is not None:
                shown = None if param.secret else repr(path)[:80]
                yield Problem(path=f"params.{key}", what=what, got=shown, todo=f"give {param.expects} of this node")


def _problem(path: str, check: NodeCheck) -> str | None:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return f"cannot be used ({os.strerror(error.errno or 0)})"
    except ValueError as error:
        return f"is not a path ({error})"
    if check is NodeCheck.DIRECTORY:
        return None if stat.S_ISDIR(mode) else "is not a directory"
    if stat.S_ISDIR(mode):
        return "is a directory, not a file"
    return None if os.access(path, os.R_OK) else "cannot be read by this user"
