"""What a host application wants to run: the instance, its disks and its NICs.

``read_instance`` turns a plain mapping (from TOML, JSON or a dict) into an `Instance` and
reports everything that is wrong with it at once.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from hvcore.errors import ParamsError, Problem
from hvcore.model.names import name_problem
from hvcore.params.host_types import file
from hvcore.params.param_type import ParamType, Reject
from hvcore.params.types import boolean, integer, one_of, regexp
from hvcore.params.words import nearest, shortened

__all__ = ["NIC_MODES", "Disk", "Instance", "Nic", "read_instance"]

NIC_MODES: Final = ("user", "bridged", "routed", "openvswitch", "macvtap", "ext")
# Instances without a uuid of their own get one that follows from their name, the same on every node.
_NAMESPACE: Final = "5a9c1a5e-9f07-4c5f-8f0e-2d8f3f6f5b11"


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """One disk, by absolute path to an image file or a block device, or by a URI that its driver understands.

    ``cache``, ``aio`` and ``discard`` take the place of the driver's parameters of that name for this disk alone; None
    leaves it to those. ``boot_index`` is its turn when the firmware looks for something to boot, from 1; None is never,
    unless the driver's parameters say otherwise.
    """

    path: str
    read_only: bool = False
    format: str = "raw"
    cache: str | None = None
    aio: str | None = None
    discard: str | None = None
    boot_index: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Nic:
    """One network interface. ``mac`` None means: derived from the instance's uuid and the position.

    ``boot_index`` is its turn when the firmware looks for something to boot, as that of a `Disk`.
    """

    mode: str = "user"
    mac: str | None = None
    link: str | None = None
    boot_index: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One instance as it is wanted. Build it with keywords; ``params`` are the driver's own.

    ``profile`` names values of the node for what ``params`` leaves open. ``memory_mib`` is in MiB. ``uuid`` is filled
    in from the name when it is not given. Raises `ParamsError` with every problem when a field is not what it has to
    be.
    """

    name: str
    driver: str
    memory_mib: int = 128
    vcpus: int = 1
    uuid: str = ""
    disks: tuple[Disk, ...] = ()
    nics: tuple[Nic, ...] = ()
    profile: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wrong_name = name_problem(self.name)
        problems = [wrong_name] if wrong_name else []
        problems += _of_object(self, "", _INSTANCE)
        for key, judge in (("disks", _of_disk), ("nics", _of_nic)):
            rows = getattr(self, key)
            if isinstance(rows, list | tuple):
                problems += [problem for index, row in enumerate(rows) for problem in judge(row, index)]
            else:
                problems.append(Problem(path=key, what="must be a tuple", got=shortened(rows)))
        if not isinstance(self.params, Mapping):
            problems.append(Problem(path="params", what="must be a mapping", got=shortened(self.params)))
        if problems:
            raise ParamsError(f"instance {shortened(self.name)}", problems)
        object.__setattr__(self, "disks", tuple(self.disks))
        object.__setattr__(self, "nics", tuple(self.nics))
        object.__setattr__(self, "params", dict(self.params))
        if not self.uuid:
            object.__setattr__(self, "uuid", str(_derived(_NAMESPACE, self.name)))

    def mac(self, index: int) -> str:
        """The MAC address of NIC ``index``: the one given, else one in QEMU's 52:54:00 range from the uuid."""
        given = self.nics[index].mac
        if given is not None:
            return given
        tail = _derived(self.uuid, f"nic{index}").bytes[:3]
        return "52:54:00:" + ":".join(f"{byte:02x}" for byte in tail)


def _derived(namespace: str, name: str) -> uuid.UUID:
    return uuid.uuid5(uuid.UUID(namespace), name)


_HEX: Final = "[0-9a-fA-F]"
_Parsers = Mapping[str, ParamType]


def _file_or_uri() -> ParamType:
    path = file()
    uri = regexp("[a-z][a-z0-9+.-]{1,31}:[!-~]{1,1000}", "an absolute path or a URI such as 'rbd:pool/image'")

    def parse(value: object) -> object:
        # A driver judges its own URIs; here they only have to be unlike a path.
        like_uri = isinstance(value, str) and re.match("[a-z][a-z0-9+.-]+:", value) is not None
        return uri.parse(value) if like_uri else path.parse(value)

    return replace(path, kind="file or uri", expects=uri.expects, parse=parse, schema={"type": "string"})


_BOOT_INDEX: Final = integer(minimum=1, maximum=1000)
_DISK: Final[_Parsers] = {
    "path": _file_or_uri(),
    "read_only": boolean(),
    "format": one_of("raw", "qcow2"),
    "cache": one_of("default", "none", "writeback", "writethrough"),
    "aio": one_of("threads", "native", "io_uring"),
    "discard": one_of("ignore", "unmap"),
    "boot_index": _BOOT_INDEX,
}
_NIC: Final[_Parsers] = {
    "mode": one_of(*NIC_MODES),
    # An even first byte: the lowest bit of it marks multicast, which no interface may have.
    "mac": regexp(f"{_HEX}[02468aceACE](:{_HEX}{{2}}){{5}}", "a unicast MAC address such as 'aa:00:00:4b:c1:01'"),
    "link": regexp(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,14}", "a network interface name of at most 15 characters"),
    "boot_index": _BOOT_INDEX,
}
_INSTANCE: Final[_Parsers] = {
    "driver": regexp("[a-z][a-z0-9_-]{0,63}", "a driver name such as 'kvm'"),
    "memory_mib": integer(minimum=1, maximum=64 * 1024 * 1024),
    "vcpus": integer(minimum=1, maximum=4096),
    # A file's name, so no path: it neither begins with a dot nor has a slash in it.
    "profile": regexp("[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", "a profile's name of letters, digits, '_', '.' and '-'"),
    "uuid": regexp(f"{_HEX}{{8}}(-{_HEX}{{4}}){{3}}-{_HEX}{{12}}", "a uuid of 36 characters"),
}
_LISTS: Final = ("disks", "nics")
_MAY_BE_NONE: Final = ("profile", "uuid", "mac", "link", "cache", "aio", "discard", "boot_index")
_GUESSES: Final = 20  # a table with more unknown keys than this is not a matter of typing errors
_REQUIRED: Final = {"": ("name", "driver"), "disks": ("path",), "nics": ()}


def _of_disk(disk: object, index: int) -> list[Problem]:
    if not isinstance(disk, Disk):
        return [Problem(path=f"disks[{index}]", what="must be a Disk", got=shortened(disk))]
    return _of_object(disk, f"disks[{index}].", _DISK)


def _of_nic(nic: object, index: int) -> list[Problem]:
    if not isinstance(nic, Nic):
        return [Problem(path=f"nics[{index}]", what="must be a Nic", got=shortened(nic))]
    return _of_object(nic, f"nics[{index}].", _NIC)


def _of_object(source: object, prefix: str, parsers: _Parsers) -> list[Problem]:
    """What is wrong with the fields of an object; None is for those that may be unset."""
    unset = [key for key in parsers if key not in _MAY_BE_NONE and getattr(source, key) is None]
    missing = [Problem(path=prefix + key, what="must be set", got="None", todo=f"set {key}") for key in unset]
    return [*missing, *_fields(source, prefix, parsers)[1]]


def _fields(source: object, prefix: str, parsers: _Parsers) -> tuple[dict[str, Any], list[Problem]]:
    """The parsed fields of an object or mapping, and a problem for each that is wrong. None and "" are unset."""
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for key, parser in parsers.items():
        value = source.get(key) if isinstance(source, Mapping) else getattr(source, key)
        if value is None or (value == "" and key == "uuid"):
            continue
        try:
            values[key] = parser.parse(value)
        except Reject as reject:
            todo = reject.todo or f"give {parser.expects}"
            problems.append(Problem(path=prefix + key, what=reject.what, got=shortened(value), todo=todo))
    return values, problems


def read_instance(data: object) -> tuple[Instance | None, tuple[Problem, ...]]:
    """An `Instance` from plain data (dicts, lists, strings, integers), and every problem found.

    The instance is None exactly when there are problems. Unknown keys are problems; ``params``
    is only looked at for its shape, the driver checks what is in it.
    """
    if not isinstance(data, Mapping):
        return None, (Problem(path="instance", what="must be a table of keys and values", got=shortened(data)),)
    known = ("name", *_INSTANCE, *_LISTS, "params")
    problems = [*_unknown(data, "", known), *_missing(data, "", _REQUIRED[""])]
    values, found = _fields(data, "", _INSTANCE)
    problems += found
    values["name"] = data.get("name")
    wrong_name = name_problem(values["name"]) if values["name"] is not None else None
    problems += [wrong_name] if wrong_name else []
    for key, build, parsers in (("disks", Disk, _DISK), ("nics", Nic, _NIC)):
        values[key], found = _tables(data.get(key, ()), key, build, parsers)
        problems += found
    params = data.get("params", {})
    if isinstance(params, Mapping):
        values["params"] = params
    else:
        problems.append(Problem(path="params", what="must be a table of keys and values", got=shortened(params)))
    return (None, tuple(problems)) if problems else (Instance(**values), ())


def _tables(
    rows: object, key: str, build: Callable[..., Any], parsers: _Parsers
) -> tuple[tuple[Any, ...], list[Problem]]:
    if not isinstance(rows, list | tuple):
        return (), [Problem(path=key, what=f"must be a list of tables, written [[{key}]]", got=shortened(rows))]
    built: list[Any] = []
    problems: list[Problem] = []
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping):
            problems.append(Problem(path=f"{key}[{index}]", what="must be a table", got=shortened(row)))
            continue
        prefix = f"{key}[{index}]."
        values, found = _fields(row, prefix, parsers)
        found += [*_unknown(row, prefix, tuple(parsers)), *_missing(row, prefix, _REQUIRED[key])]
        problems += found
        if not found:
            built.append(build(**values))
    return tuple(built), problems


def _unknown(data: Mapping[Any, Any], prefix: str, known: Iterable[str]) -> list[Problem]:
    known = tuple(known)
    problems: list[Problem] = []
    for key in data:
        if key in known:
            continue
        near = nearest(str(key), known) if len(problems) < _GUESSES else None
        todo = f"did you mean {near!r}?" if near is not None else f"known here: {', '.join(known)}"
        shown = key if isinstance(key, str) and key.isprintable() and len(key) <= 64 else shortened(key)
        problems.append(Problem(path=f"{prefix}{shown}", what="unknown key", todo=todo))
    return problems


def _missing(data: Mapping[Any, Any], prefix: str, required: Iterable[str]) -> list[Problem]:
    return [
        Problem(path=prefix + key, what="is required and not set", todo=f"set {key}")
        for key in required
        if data.get(key) is None
    ]
