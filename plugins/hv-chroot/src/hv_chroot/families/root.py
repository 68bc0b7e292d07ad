"""The root file system of an instance: its source, its changes, and the files of the node that are bound into it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import hvcore.plugin as hv
from hvcore.plugin import dataclass

__all__ = ["DEFAULT_OVERLAY_MIB", "PARAMS", "Bind", "check", "is_within"]

DEFAULT_OVERLAY_MIB: Final = 256
_OURS: Final = ("/", "/dev", "/proc")  # bubblewrap mounts these itself

_BIND_EXPECTS: Final = "'SOURCE:TARGET' or 'SOURCE:TARGET:rw', absolute paths without a colon"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """``source`` on the node, mounted at ``target`` inside."""

    source: str
    target: str
    writable: bool

    @staticmethod
    def of(text: str) -> Bind:
        """The bind that a checked ``SOURCE:TARGET[:rw]`` describes."""
        source, target, *mode = text.split(":")
        return Bind(source=source, target=target, writable=mode == ["rw"])


def _bind() -> hv.ParamType:
    path = hv.file()

    def parse(value: object) -> str:
        if not isinstance(value, str):
            raise hv.Reject("is not a text", f"give {_BIND_EXPECTS}")
        parts = value.split(":")
        if len(parts) not in (2, 3) or parts[2:] not in ([], ["rw"], ["ro"]):
            raise hv.Reject("has the wrong form", f"give {_BIND_EXPECTS}")
        for part in parts[:2]:
            path.parse(part)
        return value.removesuffix(":ro")

    one = r"(?:/(?!\.{1,2}(?:[/:]|$))[^/:\u0000]+)+"
    schema = {"type": "string", "maxLength": 8194, "pattern": f"^{one}:(?:/|{one})(?::r[ow])?$"}
    return hv.ParamType("bind", _BIND_EXPECTS, parse, schema)


PARAMS: Final = hv.ParamGroup(
    "root",
    hv.Param(
        "root_directory",
        hv.directory(),
        default_means="the disk of the instance",
        help="The directory of the node that is the root file system, in place of a disk.",
        example="/srv/roots/web1",
    ),
    hv.Param(
        "overlay",
        hv.one_of(
            {
                "none": "To the root itself.",
                "memory": "To memory. They are lost when the instance stops.",
                "directory": "To overlay_directory.",
            }
        ),
        default="none",
        help="Where changes to the root are written.",
        example="memory",
    ),
    hv.Param(
        "overlay_directory",
        hv.directory(),
        default_means="none",
        help="The directory of the node that keeps the changes. Only with overlay = directory.",
        example="/srv/changes/web1",
    ),
    hv.Param(
        "overlay_size",
        hv.size_mib(minimum=1),
        unit="MiB",
        default_means=f"{DEFAULT_OVERLAY_MIB} MiB",
        help="How much the changes can take. Only with overlay = memory.",
        example=64,
    ),
    hv.Param(
        "binds",
        hv.list_of(_bind()),
        default=(),
        help="The files and directories of the node that the instance sees in its root, read-only unless :rw follows.",
        example=["/srv/www:/var/www", "/srv/data:/data:rw"],
    ),
    hv.Param(
        "resolv_conf",
        hv.one_of({"image": "The file in the root.", "node": "A read-only copy of the node's file at the start."}),
        default="image",
        help="The /etc/resolv.conf that the processes see.",
        example="node",
    ),
    hv.Param(
        "allow_suid",
        hv.boolean(),
        default_means="true with isolation = none, else false",
        help="Whether set-uid programs in the root run with the rights of their owner. Only with isolation = none.",
        example=False,
    ),
    hv.Param(
        "allow_devices",
        hv.boolean(),
        default_means="true with isolation = none, else false",
        help="Whether device nodes in the root can be opened. Only with isolation = none.",
        example=False,
    ),
    help="The root file system: a disk or a directory, with an optional overlay.",
)


@hv.hookimpl
def check(instance: hv.Instance, params: hv.Params) -> Iterator[hv.Problem]:
    """One root, and no setting without effect."""
    directory = params["root_directory"]
    if not instance.disks and directory is None:
        todo = "give the disk with the root file system, or set params.root_directory"
        yield hv.Problem(path="disks", what="is empty", todo=todo)
    if instance.disks and directory is not None:
        what = "cannot be used together with params.root_directory"
        yield hv.Problem(path="disks[0]", what=what, got=repr(instance.disks[0].path), todo="remove one of them")
    for index, disk in enumerate(instance.disks[1:], 1):
        what = "is a second disk, and only the first one is mounted"
        yield hv.Problem(path=f"disks[{index}]", what=what, got=repr(disk.path), todo="remove it")
    for index, disk in enumerate(instance.disks):
        yield from _disk(disk, f"disks[{index}]")
    yield from _overlay(params)
    yield from _binds(params["binds"])
    if params["isolation"] == "namespaces":
        for key in ("allow_suid", "allow_devices"):
            if params[key]:
                what, todo = "has no effect with isolation = 'namespaces'", "unset it, or set isolation = 'none'"
                yield hv.Problem(path=f"params.{key}", what=what, got="true", todo=todo)


def _disk(disk: hv.Disk, path: str) -> Iterator[hv.Problem]:
    if disk.format != "raw":
        what = "cannot be mounted by the kernel"
        yield hv.Problem(path=f"{path}.format", what=what, got=repr(disk.format), todo="convert it to raw")
    if not disk.path.startswith("/"):
        what = "is not a file or block device"
        yield hv.Problem(path=f"{path}.path", what=what, got=repr(disk.path), todo="give a path")
    for key in ("cache", "aio", "discard", "base", "size", "temporary", "boot_index"):
        value = getattr(disk, key)
        if value not in (None, (), False):
            what = "has no effect on a mounted disk"
            yield hv.Problem(path=f"{path}.{key}", what=what, got=repr(value), todo="remove it")


def _overlay(params: hv.Params) -> Iterator[hv.Problem]:
    overlay, directory = params["overlay"], params["overlay_directory"]
    if overlay == "directory" and directory is None:
        what = "is not set, and overlay = 'directory' needs it"
        yield hv.Problem(path="params.overlay_directory", what=what, todo="give a directory of the node")
    for key, needed in (("overlay_directory", "directory"), ("overlay_size", "memory")):
        if overlay != needed and params[key] is not None:
            what, todo = f"has no effect with overlay = {overlay!r}", f"unset it, or set overlay = {needed!r}"
            yield hv.Problem(path=f"params.{key}", what=what, got=repr(params[key]), todo=todo)
    lower = params["root_directory"]
    if directory is not None and lower is not None and (is_within(directory, lower) or is_within(lower, directory)):
        what, todo = "is inside params.root_directory, or contains it", "give a separate directory"
        yield hv.Problem(path="params.overlay_directory", what=what, got=repr(directory), todo=todo)


def is_within(inner: str, outer: str) -> bool:
    """Whether the path is the other one or below it."""
    return f"{inner.rstrip('/')}/".startswith(f"{outer.rstrip('/')}/")


def _binds(texts: tuple[str, ...]) -> Iterator[hv.Problem]:
    targets = [Bind.of(text).target for text in texts]
    for target in dict.fromkeys(targets):
        got = repr(target)
        if targets.count(target) > 1:
            yield hv.Problem(path="params.binds", what="has two binds to one target", got=got, todo="remove one")
        if target in _OURS or target.startswith(("/dev/", "/proc/")):
            what = "would cover the root, /dev or /proc"
            yield hv.Problem(path="params.binds", what=what, got=got, todo="choose another target")
