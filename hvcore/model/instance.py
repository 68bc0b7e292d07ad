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
from hvcore.params.param import Param, ParamGroup, ParamType, Reject
from hvcore.params.types import boolean, integer, one_of, regexp
from hvcore.params.words import nearest, shortened

__all__ = ["DISK_KEYS", "INSTANCE_KEYS", "NIC_KEYS", "Disk", "Instance", "Nic", "read_instance"]

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
        problems += _of_object(self, "", INSTANCE_KEYS)
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


def _file_or_uri() -> ParamType:
    path = file()
    uri = regexp("[a-z][a-z0-9+.-]{1,31}:[!-~]{1,1000}", "an absolute path or a URI such as 'rbd:pool/image'")

    def parse(value: object) -> object:
        # A driver judges its own URIs; here they only have to be unlike a path.
        like_uri = isinstance(value, str) and re.match("[a-z][a-z0-9+.-]+:", value) is not None
        return uri.parse(value) if like_uri else path.parse(value)

    return replace(path, kind="file or uri", expects=uri.expects, parse=parse, schema={"type": "string"})


_BOOT_INDEX: Final = Param(
    "boot_index",
    integer(minimum=1, maximum=1000),
    help="The turn of this device when the firmware looks for something to boot, from 1.",
    default_means="as the driver's parameters say",
    example=1,
)


def _like_driver_parameter(key: str, type_: ParamType, example: str) -> Param:
    what = f"As the driver parameter disk_{key}, for this disk alone."
    return Param(key, type_, help=what, default_means=f"the value of disk_{key}", example=example)


DISK_KEYS: Final = ParamGroup(
    "disks",
    Param(
        "path",
        _file_or_uri(),
        required=True,
        help="The image file or block device, by absolute path, or a URI that the driver understands.",
        example="/srv/web1.img",
    ),
    Param(
        "read_only",
        boolean(),
        default=False,
        help="Whether the guest can only read the disk. Several instances can share a disk that they only read.",
        example=True,
    ),
    Param(
        "format",
        one_of(
            {
                "raw": "The bytes of the file are the bytes of the disk.",
                "qcow2": "QEMU's format, which grows with its data and can have a backing file.",
            }
        ),
        default="raw",
        help="The format of the disk's file. It is never guessed, because a guest can write a qcow2 header to a raw disk.",
        example="qcow2",
    ),
    _like_driver_parameter(
        "cache",
        one_of(
            {
                "default": "The same as writeback.",
                "none": "Bypass the page cache of the node.",
                "writeback": "Use the page cache, and write to the disk when the guest flushes.",
                "writethrough": "Use the page cache, and finish each write on the disk.",
            }
        ),
        "none",
    ),
    _like_driver_parameter(
        "aio",
        one_of(
            {
                "threads": "Threads of QEMU read and write.",
                "native": "Linux's own asynchronous input and output (libaio), only with cache none.",
                "io_uring": "io_uring, for Linux 5.1 or later.",
            }
        ),
        "io_uring",
    ),
    _like_driver_parameter(
        "discard",
        one_of(
            {
                "ignore": "Keep the blocks that the guest discards.",
                "unmap": "Free the blocks that the guest discards on the node too.",
            }
        ),
        "unmap",
    ),
    _BOOT_INDEX,
)
"""The keys of a table under ``[[disks]]`` of an instance file."""

NIC_KEYS: Final = ParamGroup(
    "nics",
    Param(
        "mode",
        one_of(
            {
                "user": "User-mode network of the driver, without privileges and without connections from outside.",
                "bridged": "A port of the bridge that link names.",
                "routed": "A tap interface to which the node routes.",
                "openvswitch": "A port of the Open vSwitch bridge that link names.",
                "macvtap": "A macvtap interface on the interface that link names.",
                "ext": "A network interface that something else makes.",
            }
        ),
        default="user",
        help="How the interface is connected. The driver decides which modes it supports.",
        example="bridged",
    ),
    Param(
        "mac",
        # An even first byte: the lowest bit of it marks multicast, which no interface may have.
        regexp(f"{_HEX}[02468aceACE](:{_HEX}{{2}}){{5}}", "a unicast MAC address such as 'aa:00:00:4b:c1:01'"),
        help="The MAC address of the interface.",
        default_means="derived from the uuid of the instance and the position of the interface",
        example="aa:00:00:4b:c1:01",
    ),
    Param(
        "link",
        regexp(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,14}", "a network interface name of at most 15 characters"),
        help="The network interface or bridge of the node to connect to, for modes that need one.",
        default_means="none",
        example="br0",
    ),
    _BOOT_INDEX,
)
"""The keys of a table under ``[[nics]]`` of an instance file."""

INSTANCE_KEYS: Final = ParamGroup(
    "",
    Param(
        "driver",
        regexp("[a-z][a-z0-9_-]{0,63}", "a driver name such as 'kvm'"),
        required=True,
        help="The driver that runs the instance; hv drivers lists them.",
        example="kvm",
    ),
    Param(
        "memory_mib",
        integer(minimum=1, maximum=64 * 1024 * 1024),
        default=128,
        unit="MiB",
        help="The memory of the instance.",
        example=1024,
    ),
    Param("vcpus", integer(minimum=1, maximum=4096), default=1, help="The number of its processors.", example=4),
    Param(
        "uuid",
        regexp(f"{_HEX}{{8}}(-{_HEX}{{4}}){{3}}-{_HEX}{{12}}", "a uuid of 36 characters"),
        help="The uuid of the instance.",
        default_means="derived from the name, the same on every node",
        example="0840e50d-fb84-559d-95fc-12fb3b4fa985",
    ),
    Param(
        "profile",
        # A file's name, so no path: it neither begins with a dot nor has a slash in it.
        regexp("[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", "a profile's name of letters, digits, '_', '.' and '-'"),
        help="A file of this node, profiles/NAME.toml, with values for parameters that the instance does not set.",
        default_means="no profile",
        example="web",
    ),
)
"""The simple keys of an instance file, but for ``name``."""

_LISTS: Final = ("disks", "nics")
_GUESSES: Final = 20  # a table with more unknown keys than this is not a matter of typing errors


def _of_disk(disk: object, index: int) -> list[Problem]:
    if not isinstance(disk, Disk):
        return [Problem(path=f"disks[{index}]", what="must be a Disk", got=shortened(disk))]
    return _of_object(disk, f"disks[{index}].", DISK_KEYS)


def _of_nic(nic: object, index: int) -> list[Problem]:
    if not isinstance(nic, Nic):
        return [Problem(path=f"nics[{index}]", what="must be a Nic", got=shortened(nic))]
    return _of_object(nic, f"nics[{index}].", NIC_KEYS)


def _of_object(source: object, prefix: str, keys: ParamGroup) -> list[Problem]:
    """What is wrong with the fields of an object; None is for those that may be unset."""
    unset = [param.key for param in keys if not param.optional and getattr(source, param.key) is None]
    missing = [Problem(path=prefix + key, what="must be set", got="None", todo=f"set {key}") for key in unset]
    return [*missing, *_fields(source, prefix, keys)[1]]


def _fields(source: object, prefix: str, keys: ParamGroup) -> tuple[dict[str, Any], list[Problem]]:
    """The parsed fields of an object or mapping, and a problem for each that is wrong. None and "" are unset."""
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for param in keys:
        key = param.key
        value = source.get(key) if isinstance(source, Mapping) else getattr(source, key)
        if value is None or (value == "" and key == "uuid"):
            continue
        try:
            values[key] = param.type.parse(value)
        except Reject as reject:
            todo = reject.todo or f"give {param.expects}"
            problems.append(Problem(path=prefix + key, what=reject.what, got=shortened(value), todo=todo))
    return values, problems


def read_instance(data: object) -> tuple[Instance | None, tuple[Problem, ...]]:
    """An `Instance` from plain data (dicts, lists, strings, integers), and every problem found.

    The instance is None exactly when there are problems. Unknown keys are problems; ``params``
    is only looked at for its shape, the driver checks what is in it.
    """
    if not isinstance(data, Mapping):
        return None, (Problem(path="instance", what="must be a table of keys and values", got=shortened(data)),)
    known = ("name", *(param.key for param in INSTANCE_KEYS), *_LISTS, "params")
    problems = [*_unknown(data, "", known), *_missing(data, "", "name", *_required(INSTANCE_KEYS))]
    values, found = _fields(data, "", INSTANCE_KEYS)
    problems += found
    values["name"] = data.get("name")
    wrong_name = name_problem(values["name"]) if values["name"] is not None else None
    problems += [wrong_name] if wrong_name else []
    for key, build, keys in (("disks", Disk, DISK_KEYS), ("nics", Nic, NIC_KEYS)):
        values[key], found = _tables(data.get(key, ()), key, build, keys)
        problems += found
    params = data.get("params", {})
    if isinstance(params, Mapping):
        values["params"] = params
    else:
        problems.append(Problem(path="params", what="must be a table of keys and values", got=shortened(params)))
    return (None, tuple(problems)) if problems else (Instance(**values), ())


def _tables(
    rows: object, key: str, build: Callable[..., Any], keys: ParamGroup
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
        values, found = _fields(row, prefix, keys)
        found += [*_unknown(row, prefix, [param.key for param in keys]), *_missing(row, prefix, *_required(keys))]
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


def _required(keys: ParamGroup) -> list[str]:
    return [param.key for param in keys if param.required]


def _missing(data: Mapping[Any, Any], prefix: str, *required: str) -> list[Problem]:
    return [
        Problem(path=prefix + key, what="is required and not set", todo=f"set {key}")
        for key in required
        if data.get(key) is None
    ]
