"""The keys of an instance and of its disks, as an instance file has them, and how their values are read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from hvcore.errors import Problem
from hvcore.model.devices import Disk, Nic
from hvcore.model.names import DRIVER_PATTERN, name_problem
from hvcore.model.nic import BOOT_INDEX, NIC_KEYS
from hvcore.params.host_types import file
from hvcore.params.param import Param, ParamGroup, ParamType, Reject
from hvcore.params.types import boolean, integer, list_of, one_of, regexp, size_mib
from hvcore.params.words import nearest, shortened

__all__ = [
    "DEFINITION_KEYS",
    "DISK_KEYS",
    "INSTANCE_KEYS",
    "NIC_KEYS",
    "clean_instance",
    "definition_values",
    "read_values",
]

_HEX: Final = "[0-9a-fA-F]"


def _file_or_uri() -> ParamType:
    path = file()
    uri = regexp("[a-z][a-z0-9+.-]{1,31}:[!-~]{1,1000}", "an absolute path or a URI such as 'rbd:pool/image'")

    def parse(value: object) -> object:
        # A driver judges its own URIs; here they only have to be unlike a path.
        like_uri = isinstance(value, str) and re.match("[a-z][a-z0-9+.-]+:", value) is not None
        return uri.parse(value) if like_uri else path.parse(value)

    schema = {"anyOf": [path.json_schema(), uri.json_schema()]}
    return replace(path, kind="file or uri", expects=uri.expects, parse=parse, schema=schema)


def _of_driver(key: str, choices: Mapping[str, str], example: str) -> Param:
    what = f"Like the driver parameter disk_{key}, but only for this disk."
    return Param(key, one_of(choices), help=what, default_means=f"the value of disk_{key}", example=example)


_FORMATS: Final = {
    "raw": "The bytes of the file are the bytes of the disk.",
    "qcow2": "QEMU's format, which grows with its data and can have a backing file.",
}
_CACHES: Final = {
    "default": "QEMU decides.",
    "none": "Without the node's page cache (O_DIRECT).",
    "writeback": "With the node's page cache. Data is safe when the guest has flushed its disk.",
    "writethrough": "With the node's page cache. Data is safe when a write has finished, which is slow.",
}
_AIO: Final = {
    "threads": "A pool of threads in QEMU.",
    "native": "Linux AIO. Needs cache none.",
    "io_uring": "io_uring of the Linux kernel, 5.1 or later.",
}
_LAYERS: Final = (
    8  # under one disk; each costs a descriptor and a lookup for each block that is not in the layers above
)
_DISCARDS: Final = {
    "ignore": "The blocks stay allocated on the node.",
    "unmap": "The node frees the blocks, so that an image file shrinks.",
}

DISK_KEYS: Final = ParamGroup(
    "disks",
    Param(
        "path",
        _file_or_uri(),
        required=True,
        help="The image file or block device, or a URI that the driver understands. A relative path begins at the directory "
        "of the instance file, ~ at your home directory.",
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
        one_of(_FORMATS),
        default="raw",
        help="The format of the disk's file. It is never guessed, because a guest can write a qcow2 header to a raw disk.",
        example="qcow2",
    ),
    _of_driver("cache", _CACHES, "none"),
    _of_driver("aio", _AIO, "io_uring"),
    _of_driver("discard", _DISCARDS, "unmap"),
    Param(
        "base",
        list_of(file(), maximum=_LAYERS, one=True),
        default=(),
        help="The image that the disk begins as. The file at path has only what the guest changes. If that file does not exist, "
        "the start makes it. A base can have bases too: list all of them, the next one first. Instances can share a base, "
        "because they only read it. A start is refused if the base has changed since. Paths are as in path.",
        default_means="none: the file at path is the whole disk",
        example="/srv/images/debian.qcow2",
    ),
    Param(
        "base_format",
        one_of(_FORMATS),
        default="qcow2",
        help="The format of the last image in base. The others are always qcow2.",
        example="raw",
    ),
    Param(
        "size",
        size_mib(),
        unit="MiB",
        help="The size of the disk when the start makes its file. It cannot be smaller than the base.",
        default_means="the size of the base",
        example="20G",
    ),
    Param(
        "temporary",
        boolean(),
        default=False,
        help="Whether everything that the guest writes is lost when it stops. The file at path is only read, so several "
        "instances can share it.",
        example=True,
    ),
    BOOT_INDEX,
)
"""The keys of a table under ``[[disks]]`` of an instance file."""

INSTANCE_KEYS: Final = ParamGroup(
    "",
    Param(
        "driver",
        regexp(DRIVER_PATTERN, "a driver name such as 'kvm'"),
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
    Param(
        "vcpus",
        integer(minimum=1, maximum=4096),
        default=1,
        help="The number of virtual CPUs of the instance.",
        example=4,
    ),
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
        regexp("[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", "a profile name of letters, digits, '_', '.' and '-'"),
        help="The file of this node, profiles/NAME.toml, with values for parameters that the instance does not set.",
        default_means="no profile",
        example="web",
    ),
    Param(
        "tags",
        # No space: scripts get them in one text, with spaces between them.
        list_of(regexp("[A-Za-z0-9_.+*/:@-]{1,128}", "a tag of letters, digits and '_.+*/:@-'"), maximum=256),
        default=(),
        help="The tags of the instance: your own words about it. Network scripts get them.",
        example=["web", "owner:ops"],
    ),
)
"""The simple keys of an instance file, but for ``name``."""

DEFINITION_KEYS: Final = ParamGroup(
    "",
    Param(
        "autostart",
        boolean(),
        default=False,
        help="Whether hv start --autostart starts the instance, as the node's boot does. Only a definition has an effect: a "
        "file in the node's directory of definitions.",
        example=True,
    ),
    Param(
        "on_crash",
        one_of(
            {
                "keep": "It stays crashed, for you to look at.",
                "restart": "It is started again as it was, at most 3 times within 10 minutes.",
            }
        ),
        default="keep",
        help="What hv act and hv watch --act do after the instance has crashed, panicked or was killed.",
        example="restart",
    ),
    Param(
        "on_shutdown",
        one_of(
            {
                "keep": "It stays in the list as shutdown, and keeps what it holds.",
                "restart": "If the guest shut down on its own, it is started again, at most 3 times within 10 minutes.",
                "cleanup": "What it holds is freed, as by hv cleanup.",
            }
        ),
        default="keep",
        help="What hv act and hv watch --act do after the guest has shut down. Not after hv stop.",
        example="cleanup",
    ),
)
"""The keys that say what the node does with a definition. The instance and its record do not have them."""

_GUESSES: Final = 20  # a table with more unknown keys than this is not a matter of typing errors


_TABLES: Final[Mapping[str, tuple[type[Disk | Nic], ParamGroup]]] = {
    "disks": (Disk, DISK_KEYS),
    "nics": (Nic, NIC_KEYS),
}


def clean_instance(instance: object) -> tuple[dict[str, Any], list[Problem]]:
    """The clean values of the fields of an `Instance`, but for ``name`` and ``params``; and their problems."""
    clean, problems = _of_object(instance, "", INSTANCE_KEYS)
    for key, (cls, keys) in _TABLES.items():
        clean[key], found = _of_rows(getattr(instance, key), key, cls, keys)
        problems += found
    return clean, problems


def read_values(data: Mapping[Any, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """The arguments of an `Instance` in plain data, and every problem. Unknown keys are problems."""
    of_definition = tuple(param.key for param in DEFINITION_KEYS)
    values, problems = _table(data, "", INSTANCE_KEYS, ("name",), (*of_definition, "disks", "nics", "params"))
    problems += _fields(data, "", DEFINITION_KEYS)[1]
    values["name"] = data.get("name")
    wrong_name = name_problem(values["name"]) if values["name"] is not None else None
    problems += [wrong_name] if wrong_name else []
    for key, (cls, keys) in _TABLES.items():
        values[key], found = _rows(data.get(key, ()), key, cls, keys)
        problems += found
    values["params"] = data.get("params", {})
    if not isinstance(values["params"], Mapping):
        what = "must be a table of keys and values"
        problems.append(Problem(path="params", what=what, got=shortened(values["params"])))
    return values, problems


def definition_values(data: Mapping[Any, Any]) -> dict[str, Any]:
    """The values of `DEFINITION_KEYS` in plain data; of one that is wrong or missing its default."""
    values, _ = _fields(data, "", DEFINITION_KEYS)
    return {param.key: values.get(param.key, param.default) for param in DEFINITION_KEYS}


def _of_rows(rows: object, key: str, cls: type[Any], keys: ParamGroup) -> tuple[tuple[Any, ...], list[Problem]]:
    """The objects with clean values, and their problems."""
    if not isinstance(rows, list | tuple):
        return (), [Problem(path=key, what="must be a tuple", got=shortened(rows))]
    clean: list[Any] = []
    problems: list[Problem] = []
    for index, row in enumerate(rows):
        place = f"{key}[{index}]"
        if not isinstance(row, cls):
            problems.append(Problem(path=place, what=f"must be a {cls.__name__}", got=shortened(row)))
            continue
        values, found = _of_object(row, f"{place}.", keys)
        problems += found
        changed = {name: value for name, value in values.items() if getattr(row, name) != value}
        clean.append(replace(row, **changed) if changed and not found else row)
    return tuple(clean), problems


def _of_object(source: object, prefix: str, keys: ParamGroup) -> tuple[dict[str, Any], list[Problem]]:
    """The clean values of an object's fields, and its problems; only fields that can be unset may be None."""
    unset = [param.key for param in keys if not param.optional and getattr(source, param.key) is None]
    missing = [Problem(path=prefix + key, what="must be set", got="None", todo=f"set {key}") for key in unset]
    values, problems = _fields(source, prefix, keys)
    return values, [*missing, *problems]


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


def _rows(rows: object, key: str, cls: Callable[..., Any], keys: ParamGroup) -> tuple[tuple[Any, ...], list[Problem]]:
    if not isinstance(rows, list | tuple):
        return (), [Problem(path=key, what=f"must be a list of tables, written [[{key}]]", got=shortened(rows))]
    built: list[Any] = []
    problems: list[Problem] = []
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping):
            problems.append(Problem(path=f"{key}[{index}]", what="must be a table", got=shortened(row)))
            continue
        values, found = _table(row, f"{key}[{index}].", keys)
        problems += found
        if not found:
            built.append(cls(**values))
    return tuple(built), problems


def _table(
    data: Mapping[Any, Any], prefix: str, keys: ParamGroup, required: tuple[str, ...] = (), more: tuple[str, ...] = ()
) -> tuple[dict[str, Any], list[Problem]]:
    """The parsed values of ``keys``, and the problems of the table: unknown, missing and wrong keys."""
    known = (*required, *(param.key for param in keys), *more)
    problems: list[Problem] = []
    for key in data:
        if key not in known:
            near = nearest(str(key), known) if len(problems) < _GUESSES else None
            todo = f"did you mean {near!r}?" if near is not None else f"known here: {', '.join(known)}"
            shown = key if isinstance(key, str) and key.isprintable() and len(key) <= 64 else shortened(key)
            problems.append(Problem(path=f"{prefix}{shown}", what="unknown key", todo=todo))
    problems += [
        Problem(path=prefix + key, what="is required and not set", todo=f"set {key}")
        for key in (*required, *(param.key for param in keys if param.required))
        if data.get(key) is None
    ]
    values, wrong = _fields(data, prefix, keys)
    return values, [*problems, *wrong]
