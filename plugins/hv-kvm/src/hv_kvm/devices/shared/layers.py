"""The files of a disk with a base, from the one that the guest writes to down to the last: a disk of one file has one. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import hvcore.plugin as hv
from hv_kvm.devices.shared.block_nodes import descriptors, file_props
from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.resource import Backing, Bindings, Image

__all__ = ["FIRST_FDSET", "base_nodes", "base_problems", "bases", "fdset_of"]

FIRST_FDSET: Final = 100
_FIRST_OF_BASES: Final = 1_000_000
_PER_DISK: Final = 100
_SHARED: Final = "a base is only read, so guests can share it"


def fdset_of(disk: int, layer: int) -> int:
    """The set of descriptors for a layer of a disk; 0 is the upper one."""
    return FIRST_FDSET + disk if layer == 0 else _FIRST_OF_BASES + _PER_DISK * disk + layer


def bases(
    disk: int, files: tuple[Backing, ...], *, direct: bool, any_contents: bool, given_by: str
) -> tuple[Image, ...]:
    """The images under the upper one of disk number ``disk``, the next one first."""
    return tuple(
        Image(
            key=f"disk{disk}.base{layer}",
            given_by=given_by,
            path=file.path,
            fdset=fdset_of(disk, layer),
            write=False,
            claim=True,
            direct=direct,
            format=file.format,
            any_contents=any_contents,
            backing=files[layer] if layer < len(files) else None,
        )
        for layer, file in enumerate(files, 1)
    )


def base_nodes(images: tuple[Image, ...], bindings: Bindings, *, aio: str) -> Iterator[Opt]:
    """The descriptors and the block node of each, the last base first: each node names the one under it."""
    under: str | None = None
    for image in reversed(images):
        opened = bindings[image]
        yield from descriptors(opened, image.path)
        node: Props = {
            "driver": image.format,
            "node-name": image.key,
            "read-only": True,
            "auto-read-only": False,
            "cache.direct": image.direct,
            "cache.no-flush": False,
            "backing": under,
            **file_props(opened, aio=aio),
        }
        yield Opt(name="-blockdev", props=node, params=("disk_cache", "disk_aio"), why=_SHARED)
        under = image.key


def base_problems(disk: hv.Disk, place: str, kind: str, *, network: bool) -> Iterator[hv.Problem]:
    """Keys of a disk with a base, or of a temporary one, that do not fit together."""
    layered = bool(disk.base) or disk.temporary
    if disk.size is not None and (not layered or disk.read_only):
        what, todo = "has an effect only when the start makes the file", "use hv resize, or qemu-img resize"
        yield hv.Problem(path=f"{place}.size", what=what, got=f"{disk.size} MiB", todo=todo)
    key = "base" if disk.base else "temporary"
    if not layered:
        return
    got = repr(list(disk.base) if disk.base else True)[:80]
    if network:
        what = "is possible only for files and block devices of the node"
        yield hv.Problem(path=f"{place}.{key}", what=what, got=got, todo="unset it")
    if kind in ("scsi-block", "scsi-generic"):
        what = f"disk_type {kind} gives the device itself to the guest"
        yield hv.Problem(path=f"{place}.{key}", what=what, got=got, todo="use disk_type scsi-hd")
    if disk.temporary and (disk.read_only or kind == "scsi-cd"):
        yield hv.Problem(
            path=f"{place}.temporary", what="is set on a disk that is only read", got="True", todo="unset it"
        )
    if disk.base and disk.format != "qcow2":
        what = "the file on top of a base is a qcow2 image"
        yield hv.Problem(path=f"{place}.format", what=what, got=repr(disk.format), todo='set format = "qcow2"')
    if disk.path in disk.base:
        yield hv.Problem(path=f"{place}.base", what="has the path of the disk itself", got=got, todo="leave it out")
