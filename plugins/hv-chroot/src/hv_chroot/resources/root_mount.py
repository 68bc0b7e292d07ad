"""The mounts of a start: the root, the files of the node that are shown in it, and room for the scripts' output."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import hvcore.plugin as hv
from hv_chroot.names import BINDS, LOG_FILE, OUTPUT, ROOT
from hv_chroot.resource import Output, Root
from hv_chroot.resources.left_out import mounts_left_out
from hv_chroot.resources.mount_calls import mount_tmpfs
from hv_chroot.resources.mounting import (
    LOWER,
    UPPER,
    bind_file,
    bind_resolv_conf,
    directory_of,
    failing,
    mount_changes,
    mount_command,
    mount_source,
    owners_of,
)
from hv_chroot.resources.root_contents import contents_problem
from hv_chroot.spec import ChrootSpec
from hvcore.plugin import (
    Held,
    ResourceKind,
    Site,
    Turn,
    identify_disk,
    shield,
)

__all__ = ["OutputKind", "RootKind"]

_OUTPUT_OPTIONS: Final = "size=1m,nr_inodes=16,mode=0700"


class RootKind(ResourceKind[Root, str], name="root", turn=Turn.FILE):
    """Every mount is below the instance's directory, where a release finds it: `hv.Mounts` has the ledger's entry.

    All of them are read-only for the node from their first moment; only the instance's own processes can write to them.
    """

    def verify(self, resource: Root, site: Site) -> Iterator[hv.Problem]:
        """The disk, the directories, and the sources of the binds have to exist."""
        spec = resource.spec
        if spec.disk is not None:
            yield from _disk_problems(spec, spec.disk)
        directories = {"root_directory": spec.directory, "overlay_directory": spec.overlay_directory}
        for key, path in directories.items():
            if path is not None and not os.path.isdir(path):
                what = "is not a directory" if os.path.lexists(path) else "does not exist"
                yield hv.Problem(path=f"params.{key}", what=what, got=repr(path), todo="give a directory of the node")
        for bind in spec.binds:
            if not os.path.exists(bind.source):
                todo = "create it, or remove the bind"
                yield hv.Problem(path="params.binds", what="does not exist", got=repr(bind.source), todo=todo)
        yield from mounts_left_out(spec)

    def describe(self, resource: Root, site: Site) -> Iterator[hv.Step]:
        """Each mount."""
        for what in _mounts(resource.spec, site.dir / ROOT):
            yield hv.Step(kind="mount", what=what)

    def placeholder(self, resource: Root, site: Site) -> str:
        """The mount point."""
        return str(site.dir / ROOT)

    def acquire(self, resource: Root, held: Held) -> str:
        """Mount it, overlay and binds included. Raises `HvError`."""
        spec, inside = resource.spec, held[resource.inside]
        held.owner.progress(f"mounting {spec.source}")
        if hidden := next(mounts_left_out(spec), None):
            raise hv.OperationError(f"{held.owner.name}: {hidden}")
        uids = None if resource.inside.users is None else held[resource.inside.users]
        with owners_of(inside, uids) as owners:
            root = directory_of(held.owner, ROOT)
            if spec.overlay == "none":
                mount_source(spec, held.owner, root, owners)
            else:
                lower = directory_of(held.owner, LOWER)
                mount_source(spec, held.owner, lower, owners)
                mount_changes(spec, held.owner, lower, root, owners)
            found = {bind.target: list(bind_file(held.owner, root, bind, owners)) for bind in spec.binds}
            if found:
                held.owner.bind(**{BINDS: found})
            if spec.node_resolv_conf:
                bind_resolv_conf(held.owner, root, owners)
            with failing(held.owner, f"cannot make {root} read-only for the node", "check the kernel"):
                for name in (ROOT, UPPER):
                    shield(held.owner.dir / name)
            return str(root)


class OutputKind(ResourceKind[Output, str], name="output", turn=Turn.FILE):
    """A file system of 1 MiB, which limits the output: it is not read while the instance runs."""

    def describe(self, resource: Output, site: Site) -> Iterator[hv.Step]:
        """The tmpfs."""
        yield hv.Step(kind="mount", what="a tmpfs of 1 MiB for the output of the scripts")

    def placeholder(self, resource: Output, site: Site) -> str:
        """The file that grows."""
        return str(site.dir / OUTPUT / LOG_FILE)

    def acquire(self, resource: Output, held: Held) -> str:
        """Mount it. Raises `OperationError`."""
        directory = directory_of(held.owner, OUTPUT)
        with failing(held.owner, f"cannot mount a tmpfs at {directory}", "check the kernel"):
            mount_tmpfs(str(directory), _OUTPUT_OPTIONS, programs=False)
        return str(directory / LOG_FILE)


def _mounts(spec: ChrootSpec, root: Path) -> Iterator[str]:
    if spec.disk is None:
        yield f"{spec.source}, nosuid and nodev"
    else:
        try:
            image = not identify_disk(spec.disk).block_device
        except OSError:
            image = True  # does not exist: verify reports that
        target = str(root if spec.overlay == "none" else root.with_name(LOWER))
        yield " ".join(mount_command(spec, target, image=image))
    if spec.overlay != "none":
        where = f"{spec.overlay_mib} MiB of memory" if spec.overlay_directory is None else repr(spec.overlay_directory)
        yield f"an overlay that keeps changes in {where}"
    for bind in spec.binds:
        yield f"{bind.source!r} at {bind.target!r}, {'writable' if bind.writable else 'read-only'}"
    if spec.node_resolv_conf:
        yield "a copy of the node's resolv.conf at '/etc/resolv.conf', read-only"


def _disk_problems(spec: ChrootSpec, place: str) -> Iterator[hv.Problem]:
    path, got = "disks[0].path", repr(place)
    wanted = "give an image file or a block device"
    try:
        if stat.S_ISDIR(os.stat(place).st_mode):
            todo = "set params.root_directory to it, and remove the disk"
            yield hv.Problem(path=path, what="is a directory", got=got, todo=todo)
            return
        disk = identify_disk(place)
    except FileNotFoundError:
        yield hv.Problem(path=path, what="does not exist", got=got, todo=wanted)
        return
    except OSError as error:
        yield hv.Problem(path=path, what=f"cannot be used ({error.strerror})", got=got, todo=wanted)
        return
    if disk.size_bytes == 0:
        yield hv.Problem(path=path, what="is empty", got=got, todo="put a root file system on it")
    elif not os.access(place, os.W_OK | os.R_OK if spec.source_is_written else os.R_OK):
        todo = "change its permissions, or set read_only for the disk"
        yield hv.Problem(path=path, what="cannot be read and written", got=got, todo=todo)
    elif (wrong := contents_problem(place, disk.size_bytes, read_only=not spec.source_is_written)) is not None:
        yield hv.Problem(path=path, what=wrong[0], got=got, todo=wrong[1])
