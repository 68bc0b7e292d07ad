"""Where its root file system comes from, what is kept of changes to it, and what of the node is shown in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import hvcore.plugin as hv

__all__ = ["DEFAULT_OVERLAY_MIB", "PARAMS", "Bind", "check"]

DEFAULT_OVERLAY_MIB: Final = 256
_OURS: Final = ("/", "/dev", "/proc")  # bubblewrap's own mounts, and the root itself

_BIND_EXPECTS: Final = "'SOURCE:TARGET' or 'SOURCE:TARGET:rw', absolute paths without a colon"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """``source`` on the node, ``target`` inside."""

    source: str
    target: str
    writable: bool

    @staticmethod
    def of(text: str) -> Bind:
        """From its written form, which has been checked."""
        source, target, *mode = text.split(":")
        return Bind(source=source, target=target, writable=mode == ["rw"])


def _bind() -> hv.ParamType:
    """The type of a parameter. Its clean value is the text: a list of texts is what files and forms can hold."""
    path = hv.file()

    def parse(value: object) -> str:
        if not isinstance(value, str):
            raise hv.Reject("is not a text", f"give {_BIND_EXPECTS}")
        parts = value.split(":")
        if len(parts) not in (2, 3) or parts[2:] not in ([], ["rw"], ["ro"]):
            raise hv.Reject("is not of the right form", f"give {_BIND_EXPECTS}")
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
        help="A directory of the node that is its root file system, in place of a disk.",
        example="/srv/roots/web1",
    ),
    hv.Param(
        "overlay",
        hv.one_of("none", "memory", "directory"),
        default="none",
        help="Where changes to its root go: into it; into memory, gone after the stop; or into overlay_directory.",
        example="memory",
    ),
    hv.Param(
        "overlay_directory",
        hv.directory(),
        help="The directory of the node that keeps what is changed, for overlay = directory.",
        example="/srv/changes/web1",
    ),
    hv.Param(
        "overlay_size",
        hv.size_mib(minimum=1),
        unit="MiB",
        help=f"How much the changes in memory may take, for overlay = memory; unset, {DEFAULT_OVERLAY_MIB}.",
        example=64,
    ),
    hv.Param(
        "binds",
        hv.list_of(_bind()),
        default=(),
        help="Files and directories of the node to show inside, read-only unless :rw follows.",
        example=["/srv/www:/var/www", "/srv/data:/data:rw"],
    ),
    hv.Param(
        "resolv_conf",
        hv.one_of("image", "node"),
        default="image",
        help="Whose /etc/resolv.conf it has: its root's own, or the node's as it is at the start.",
        example="node",
    ),
    hv.Param(
        "allow_suid",
        hv.boolean(),
        default=False,
        help="Let set-uid programs in its root take effect; possible only with isolation = none.",
        example=True,
    ),
    hv.Param(
        "allow_devices",
        hv.boolean(),
        default=False,
        help="Let device nodes in its root work; possible only with isolation = none.",
        example=True,
    ),
    help="Its root file system: a disk, or a directory, or changes on top of one of them.",
)


@hv.hookimpl
def check(instance: hv.Instance, params: hv.Params) -> Iterator[hv.Problem]:
    """One root, and nothing asked for that would have no effect."""
    directory = params["root_directory"]
    if not instance.disks and directory is None:
        todo = "give the disk with the root file system, or set params.root_directory"
        yield hv.Problem(path="disks", what="is empty", todo=todo)
    if instance.disks and directory is not None:
        what = "is a second root beside params.root_directory"
        yield hv.Problem(path="disks[0]", what=what, got=repr(instance.disks[0].path), todo="remove one of them")
    for index, disk in enumerate(instance.disks[1:], 1):
        what = "is a second disk, and only the root file system is mounted"
        yield hv.Problem(path=f"disks[{index}]", what=what, got=repr(disk.path), todo="remove it")
    for index, disk in enumerate(instance.disks):
        yield from _disk(disk, f"disks[{index}]")
    yield from _overlay(params)
    yield from _binds(params["binds"])
    if params["isolation"] == "namespaces":
        for key in ("allow_suid", "allow_devices"):
            if params[key]:
                what = "has no effect in namespaces, which never gain privileges"
                yield hv.Problem(path=f"params.{key}", what=what, got="true", todo="unset it, or isolation = 'none'")


def _disk(disk: hv.Disk, path: str) -> Iterator[hv.Problem]:
    if disk.format != "raw":
        what = "cannot be mounted by the kernel"
        yield hv.Problem(path=f"{path}.format", what=what, got=repr(disk.format), todo="convert it to raw")
    if not disk.path.startswith("/"):
        what = "is no file or block device, which is all that can be mounted"
        yield hv.Problem(path=f"{path}.path", what=what, got=repr(disk.path), todo="give a path")
    for key in ("cache", "aio", "discard", "boot_index"):
        value = getattr(disk, key)
        if value is not None:
            what = "has no effect on a disk that is mounted"
            yield hv.Problem(path=f"{path}.{key}", what=what, got=repr(value), todo="remove it")


def _overlay(params: hv.Params) -> Iterator[hv.Problem]:
    overlay, directory = params["overlay"], params["overlay_directory"]
    if overlay == "directory" and directory is None:
        what = "is not set, and overlay = 'directory' needs it"
        yield hv.Problem(path="params.overlay_directory", what=what, todo="give a directory of the node")
    if overlay != "directory" and directory is not None:
        what = f"has no effect with overlay = {overlay!r}"
        todo = "unset it, or overlay = 'directory'"
        yield hv.Problem(path="params.overlay_directory", what=what, got=repr(directory), todo=todo)
    if overlay != "memory" and params["overlay_size"] is not None:
        what = f"has no effect with overlay = {overlay!r}"
        todo = "unset it, or overlay = 'memory'"
        yield hv.Problem(path="params.overlay_size", what=what, got=str(params["overlay_size"]), todo=todo)
    lower = params["root_directory"]
    if directory is not None and lower is not None and (_within(directory, lower) or _within(lower, directory)):
        what = "and params.root_directory are one inside the other"
        yield hv.Problem(path="params.overlay_directory", what=what, got=repr(directory), todo="keep them apart")


def _within(inner: str, outer: str) -> bool:
    """By components of the path; both are absolute and normalised."""
    return f"{inner.rstrip('/')}/".startswith(f"{outer.rstrip('/')}/")


def _binds(texts: tuple[str, ...]) -> Iterator[hv.Problem]:
    targets = [Bind.of(text).target for text in texts]
    for target in dict.fromkeys(targets):
        got = repr(target)
        if targets.count(target) > 1:
            what = "shows two things at one place"
            yield hv.Problem(path="params.binds", what=what, got=got, todo="leave one out")
        if target in _OURS or target.startswith(("/dev/", "/proc/")):
            what = "would cover the root, /dev or /proc"
            yield hv.Problem(path="params.binds", what=what, got=got, todo="show it elsewhere")
