"""The node's configuration: parameter values for all its instances, and profiles that instances name.

::

    /etc/hvcore/node.toml             [params.kvm] ...   for every instance of driver kvm on this node
    /etc/hvcore/profiles/NAME.toml    [params.kvm] ...   for those with profile = "NAME"

Read anew for every question: a change holds for whatever is asked next, and for no instance that runs already.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from hvcore.config.instance_file import MAX_TOML_BYTES, parse_toml
from hvcore.errors import Problem
from hvcore.host.files import changed_by_others
from hvcore.model.layers import NO_LAYERS, NODE, Layer, Layers, profile_layer
from hvcore.params.words import kind_of, shortened

__all__ = ["Config", "default_config_dir", "strict"]

_DEFAULT: Final = "/etc/hvcore"


def default_config_dir() -> Path:
    """``HVCORE_CONFIG_DIR``, else /etc/hvcore."""
    return Path(os.environ.get("HVCORE_CONFIG_DIR") or _DEFAULT)


def strict() -> bool:
    """Whether ``HVCORE_STRICT=1`` is set: what is broken or deprecated fails at once, for continuous integration."""
    return os.environ.get("HVCORE_STRICT", "") not in ("", "0")


class Config:
    """The configuration in one directory. That directory, and the node's file in it, need not exist."""

    def __init__(self, directory: Path) -> None:
        self._dir = directory
        self._node = f"{directory}/node.toml"

    def layers(self, driver: str, profile: str | None) -> Layers:
        """The values of node and profile for that driver, and every problem in reading them. Never raises."""
        layers: list[Layer] = []
        problems: list[Problem] = []
        wanted = [(NODE, self._node)]
        if profile is not None:
            wanted.append((profile_layer(profile), f"{self._dir}/profiles/{profile}.toml"))
        for name, path in wanted:
            try:
                data = _read(path)
            except (FileNotFoundError, NotADirectoryError):
                if name != NODE:
                    problems.append(self._no_profile(str(profile), Path(path)))
                continue
            except OSError as error:
                what, todo = f"cannot be read ({error.strerror})", "make it readable, or move it away"
                problems.append(Problem(path=name, what=what, todo=todo, where=path))
                continue
            except _NotUsableError as error:
                problems.append(Problem(path=name, what=error.what, todo=error.todo, where=path))
                continue
            problems += _strangers(name, path, data)
            tables = data.get("params", {})
            if isinstance(tables, Mapping):
                layers.append(Layer(name=name, file=path, values=tables.get(driver, {})))
            else:
                what = f"is {kind_of(tables)}, not a table"
                problems.append(Problem(path=f"{name}.params", what=what, todo=_FORM, where=path))
        return Layers(layers=tuple(layers), problems=tuple(problems)) if layers or problems else NO_LAYERS

    def _no_profile(self, profile: str, path: Path) -> Problem:
        try:
            names = sorted(name.removesuffix(".toml") for name in os.listdir(path.parent) if name.endswith(".toml"))
        except OSError:
            names = []
        there = f"this node has {', '.join(names)}" if names else "this node has none"
        return Problem(path="profile", what="no such profile", got=repr(profile), todo=f"{there}; it would be {path}")


_FORM: Final = "write values below [params.DRIVER], such as [params.kvm]"


def _strangers(name: str, path: str, data: Mapping[str, Any]) -> list[Problem]:
    return [
        Problem(path=f"{name}.{shortened(key)[1:-1]}", what="unknown key", todo=_FORM, where=path)
        for key in data
        if key != "params"
    ]


class _NotUsableError(Exception):
    def __init__(self, what: str, todo: str) -> None:
        super().__init__(what)
        self.what, self.todo = what, todo


def _read(path: str) -> dict[str, Any]:
    """The TOML in the file. Raises what `open` and `read` raise, and `_NotUsableError`."""
    data = _bytes(path)
    try:
        return parse_toml(data)
    except ValueError as error:
        raise _NotUsableError(str(error), "correct it there") from error


def _bytes(path: str) -> bytes:
    # Links are followed: configuration is often a link into some other directory. Who may write there is what counts.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise _NotUsableError("is not a regular file", "move it away")
        # It names programs that are run as the caller: kvm_path, for one.
        what = changed_by_others(found)
        if what is not None:
            raise _NotUsableError(what, "chown it to root and chmod it 0644")
        data = b""
        while len(data) <= MAX_TOML_BYTES and (piece := os.read(fd, MAX_TOML_BYTES + 1 - len(data))):
            data += piece
        return data
    finally:
        os.close(fd)
