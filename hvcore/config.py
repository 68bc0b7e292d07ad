"""Files that people write: an instance, values for all instances of the node, and profiles that instances name.

::

    /etc/hvcore/node.toml             [params.kvm] ...   for every instance of driver kvm on this node
                                      uid_pool = "FIRST-LAST"   the uids for confined guests
    /etc/hvcore/profiles/NAME.toml    [params.kvm] ...   for those with profile = "NAME"
    /etc/hvcore/instances/NAME.toml   a definition: an instance that this node should have; see `default_definitions_dir`

Each is TOML, at most 1 MiB of UTF-8. Nothing is cached: a change counts from the next operation on, and running
instances keep their values.
"""

from __future__ import annotations

import codecs
import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from hvcore.errors import InstanceFileError, ParamsError, Problem
from hvcore.host.files import changed_by_others
from hvcore.model.instance import Instance, read_instance
from hvcore.model.layers import NO_LAYERS, NODE, Layer, Layers, profile_layer
from hvcore.params.words import kind_of, shortened

__all__ = [
    "Config",
    "absolute_params",
    "absolute_paths",
    "default_config_dir",
    "default_definitions_dir",
    "file_content",
    "file_text",
    "load_instance",
    "parse_instance_file",
    "read_instance_file",
    "reload_instance",
    "strict",
]

_URI: Final = "[A-Za-z][A-Za-z0-9+.-]+:"
_MAX_BYTES: Final = 1024 * 1024
_MAX_PARTS: Final = 200
_PART: Final = rb"""(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*"""
_LONG_KEY: Final = rb"""(?<![\w"'.-])(?:%b\.[ \t]*){%d}""" % (_PART, _MAX_PARTS)  # compiled for those who read a file
_UID_POOL: Final = "uid_pool"
# Above the users of the system, and below the ranges for user namespaces: see `hvcore.host.confinement.namespaces`.
_FIRST_UID: Final = 1000
_LAST_UID: Final = 1_900_019_711
_OVERFLOW: Final = 65_534
_FORM: Final = "write values below [params.DRIVER], such as [params.kvm]"


def default_config_dir() -> Path:
    """``HVCORE_CONFIG_DIR``, else /etc/hvcore."""
    return Path(os.environ.get("HVCORE_CONFIG_DIR") or "/etc/hvcore")


def default_definitions_dir() -> Path:
    """``instances`` in the configuration directory; for users other than root hvcore/instances in ``XDG_CONFIG_HOME``.

    Without that, it is in ~/.config. With ``HVCORE_CONFIG_DIR`` every user's definitions are there.
    """
    own = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    if os.geteuid() == 0 or os.environ.get("HVCORE_CONFIG_DIR") or not os.path.isabs(own):
        return default_config_dir() / "instances"
    return Path(own) / "hvcore" / "instances"


def strict() -> bool:
    """Whether ``HVCORE_STRICT=1`` is set: broken and deprecated things fail at once, for continuous integration."""
    return os.environ.get("HVCORE_STRICT", "") not in ("", "0")


def load_instance(path: str | Path) -> Instance:
    """The instance that a TOML file describes.

    Raises `InstanceFileError` if the file is not readable as TOML, else `ParamsError` with every problem in it.
    """
    return _checked(path, read_instance_file(path))


def reload_instance(path: str | Path) -> Instance:
    """Like `load_instance`, for a path that a record kept and the caller did not give.

    Also raises `InstanceFileError` if users other than root and the caller can change the file: it names programs to run.
    """
    data = parse_instance_file(file_content(path, protected=True), repr(str(path)))
    return _checked(path, absolute_paths(data, _directory(path)))


def read_instance_file(path: str | Path) -> dict[str, Any]:
    """The contents of an instance file, unchecked: for `Node.check`. Raises `InstanceFileError`.

    Relative paths of disks begin at the directory of the file.
    """
    return absolute_paths(parse_instance_file(file_content(path, protected=False), repr(str(path))), _directory(path))


def parse_instance_file(data: bytes, subject: str) -> dict[str, Any]:
    """Like `read_instance_file`, for text that was read already; ``subject`` names it in errors."""
    try:
        return _parsed(data)
    except ValueError as error:
        raise InstanceFileError(f"{subject}: {error}; see docs/reference/instance-file.md") from error


def absolute_paths(data: Mapping[str, Any], directory: str | Path) -> dict[str, Any]:
    """The contents of an instance file, with the paths of its disks made absolute. They begin at ``directory``."""
    disks = data.get("disks")
    if not isinstance(disks, list | tuple):
        return dict(data)
    return {**data, "disks": [absolute_params(disk, ("path", "base"), directory) for disk in disks]}


def absolute_params(values: Any, keys: Collection[str], directory: str | Path) -> Any:
    """The table, with the paths that some keys have made absolute. Anything but a table is returned unchanged."""
    if not isinstance(values, Mapping):
        return values
    return {key: _absolute(value, directory) if key in keys else value for key, value in values.items()}


def _absolute(value: object, directory: str | Path) -> object:
    """The path, or each path of a list, from ``directory`` or the home of a user (``~``). Other values are unchanged."""
    if isinstance(value, list):
        return [_absolute(one, directory) for one in value]
    if not isinstance(value, str) or not value or "\0" in value or value.startswith("/") or re.match(_URI, value):
        return value
    home = os.path.expanduser(value)
    return home if home != value else os.path.normpath(os.path.join(directory, value))


def _directory(path: str | Path) -> str:
    return os.path.dirname(os.path.abspath(path))


def _checked(path: str | Path, data: dict[str, Any]) -> Instance:
    instance, problems = read_instance(data)
    if instance is None:
        raise ParamsError(str(path), problems)
    return instance


def file_content(path: str | Path, *, protected: bool) -> bytes:
    """The contents of an instance file; if it is too large, only its start. Raises `InstanceFileError`.

    With ``protected``, a file that users other than root and the caller can change is refused.
    """
    subject = repr(str(path))
    try:
        return _read(path, protected=protected)
    except OSError as error:
        raise InstanceFileError(f"{subject}: cannot be read, got {error.strerror}; give an instance file") from error
    except _UnusableError as error:
        raise InstanceFileError(f"{subject}: {error}; {error.todo or 'give an instance file'}") from error
    except ValueError as error:
        raise InstanceFileError(f"{subject}: is not a path, {error}; give an instance file") from error


def file_text(path: str | Path, *, protected: bool) -> str:
    """Like `file_content`, as text: a byte order mark is left out. Raises `InstanceFileError`."""
    try:
        return file_content(path, protected=protected).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InstanceFileError(f"{str(path)!r}: is not UTF-8 at byte {error.start}; correct the file") from error


class Config:
    """The configuration in one directory. Neither the directory nor node.toml has to exist."""

    def __init__(self, directory: Path) -> None:
        self._dir = directory
        self._node = f"{directory}/node.toml"

    def uid_pool(self) -> range | None:
        """The uids for confined guests in node.toml; None without usable ones. Never raises: `layers` has the problem."""
        try:
            data = _read(self._node, protected=True)
            return _pool(_parsed(data)[_UID_POOL]) if _UID_POOL.encode() in data else None
        except (OSError, ValueError, LookupError):
            return None

    def layers(self, driver: str, profile: str | None) -> Layers:
        """The values of node and profile for that driver, and every problem in reading them. Never raises."""
        layers: list[Layer] = []
        problems: list[Problem] = []
        wanted = [(NODE, self._node)]
        if profile is not None:
            wanted.append((profile_layer(profile), f"{self._dir}/profiles/{profile}.toml"))
        for name, path in wanted:
            try:
                data = _parsed(_read(path, protected=True))
            except (FileNotFoundError, NotADirectoryError):
                if name != NODE:
                    problems.append(_no_profile(str(profile), path))
            except OSError as error:
                what, todo = f"cannot be read ({error.strerror})", "make the file readable, or remove it"
                problems.append(Problem(path=name, what=what, todo=todo, where=path))
            except _UnusableError as error:
                problems.append(Problem(path=name, what=str(error), todo=error.todo or "remove it", where=path))
            except ValueError as error:
                problems.append(Problem(path=name, what=str(error), todo="correct the file", where=path))
            else:
                problems += _key_problems(data, name, path)
                tables = data.get("params", {})
                if isinstance(tables, Mapping):
                    layers.append(Layer(name=name, file=path, values=tables.get(driver, {})))
                else:
                    what = f"is {kind_of(tables)}, not a table"
                    problems.append(Problem(path=f"{name}.params", what=what, todo=_FORM, where=path))
        return Layers(layers=tuple(layers), problems=tuple(problems)) if layers or problems else NO_LAYERS


def _pool(value: object) -> range:
    """The range in a text such as ``1880000000-1880065535``. Raises ValueError, whose text says what is wrong."""
    found = re.fullmatch("([0-9]{1,10})-([0-9]{1,10})", value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("is not a range of uids")
    first, last = map(int, found.groups())
    if first > last:
        raise ValueError("has its last uid before its first")
    if not (_FIRST_UID <= first and last <= _LAST_UID):
        raise ValueError(f"is not within {_FIRST_UID} and {_LAST_UID}")
    if first <= _OVERFLOW <= last:
        raise ValueError(f"has uid {_OVERFLOW}, which the system uses")
    return range(first, last + 1)


def _key_problems(data: Mapping[str, Any], name: str, path: str) -> Iterator[Problem]:
    """Keys beside ``params``: node.toml may have a usable pool of uids."""
    known = ("params", _UID_POOL) if name == NODE else ("params",)
    for key in data:
        if key not in known:
            yield Problem(path=f"{name}.{shortened(key)[1:-1]}", what="unknown key", todo=_FORM, where=path)
    if name != NODE or _UID_POOL not in data:
        return
    value = data[_UID_POOL]
    try:
        _pool(value)
    except ValueError as error:
        todo = "write the first and the last uid, such as '1880000000-1880065535'"
        yield Problem(path=f"{NODE}.{_UID_POOL}", what=str(error), got=repr(value)[:80], todo=todo, where=path)


def _no_profile(profile: str, path: str) -> Problem:
    try:
        files = os.listdir(os.path.dirname(path))
    except OSError:
        files = []
    names = sorted(name.removesuffix(".toml") for name in files if name.endswith(".toml"))
    todo = f"choose one of {', '.join(names)}, or create {path}" if names else f"create {path}"
    return Problem(path="profile", what="no such profile", got=repr(profile), todo=todo)


class _UnusableError(ValueError):
    def __init__(self, what: str, todo: str | None = None) -> None:
        super().__init__(what)
        self.todo = todo


def _read(path: str | Path, *, protected: bool) -> bytes:
    """The contents of a regular file; if it is too large, only the start. Raises OSError, `_UnusableError` and ValueError.

    With ``protected``, a file that users other than root and the caller can change is refused. Links are followed:
    configuration is often a link into another directory.
    """
    # Not blocking: opening a FIFO without a writer would wait for ever.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise _UnusableError("is a directory" if stat.S_ISDIR(found.st_mode) else "is not a regular file")
        # The file names programs that are run as the caller: kvm_path, for one.
        fault = changed_by_others(found) if protected else None
        if fault is not None:
            raise _UnusableError(fault, "chown it to root and chmod it 0644")
        with open(fd, "rb", closefd=False) as file:
            return file.read(_MAX_BYTES + 1)
    finally:
        os.close(fd)


def _parsed(data: bytes) -> dict[str, Any]:
    """The document. Raises ValueError, whose text continues the name of the file: ``is not TOML (...)``."""
    import tomllib  # noqa: PLC0415 - 3.2 ms, for those who read a file

    if len(data) > _MAX_BYTES:
        raise ValueError("is larger than 1 MiB")
    if re.search(_LONG_KEY, data):  # tomllib takes time with the square of the length: minutes for one file
        raise ValueError(f"has a key of more than {_MAX_PARTS} parts")
    try:
        return tomllib.loads(data.removeprefix(codecs.BOM_UTF8).decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 at byte {error.start}") from error
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    except ValueError as error:  # TOMLDecodeError is one; an integer of more than 4300 digits is another
        raise ValueError(f"is not TOML ({error})") from error
