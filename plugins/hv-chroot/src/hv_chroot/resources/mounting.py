"""Mounting: the root of an instance, its overlay, and the files of the node that are shown in it.

Each mount is made as a copy that is mounted nowhere, and attached to its place when it is complete.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import hvcore.plugin as hv
from hv_chroot.families.root import Bind
from hv_chroot.resources.mount_calls import Allowed, attach, cloned_tree, mount_overlay, mount_tmpfs, unmount
from hv_chroot.resources.root_contents import what_it_contains
from hv_chroot.resources.root_files import as_owner, mount_point, open_directory
from hv_chroot.spec import ChrootSpec
from hvcore.plugin import (
    LIFE_LOCK,
    STATUS,
    HeldNamespaces,
    Owner,
    claim_mount,
    dataclass,
    identify_disk,
    in_own_mounts,
    run_tool,
)

__all__ = [
    "LOWER",
    "UPPER",
    "Identity",
    "Owners",
    "bind_file",
    "bind_resolv_conf",
    "directory_of",
    "failing",
    "identity_of",
    "mount_changes",
    "mount_command",
    "mount_source",
    "owners_of",
]

LOWER: Final = "lower"
"""Below the instance's directory: where the root is mounted that an overlay keeps unchanged."""
UPPER: Final = "upper"
"""Where an overlay keeps the changes."""

Identity = tuple[int, int]
"""The device and the inode number of a file or directory that is mounted: they stay if it is renamed."""

_RESOLV_CONF: Final = "resolv.conf"
_SHIFTED: Final = "set params.user_namespace to 'off', or use a file system that supports ID-mapped mounts"


def mount_command(spec: ChrootSpec, target: str, *, image: bool) -> tuple[str, ...]:
    """The command that mounts the disk; an ``image`` file needs a loop device.

    Without mount's helper programs (-i), which would outlive mount.
    """
    options = [
        "dev" if spec.devices else "nodev",
        "suid" if spec.suid else "nosuid",
        "rw" if spec.source_is_written else "ro",
        *(["loop"] if image else []),
    ]
    return ("mount", "-i", "--make-private", "-o", ",".join(options), "--", spec.disk or "", target)


@dataclass(frozen=True, slots=True, kw_only=True)
class Owners:
    """The owners of the files as seen inside: ``fd`` is a user namespace, None for the node's; ``first`` its uid 0."""

    fd: int | None = None
    first: int = 0


@contextmanager
def owners_of(held: HeldNamespaces | None, uids: range | None) -> Iterator[Owners]:
    """The owners of the files, by the user namespace that is held for the instance."""
    if held is None or uids is None:
        yield Owners()
        return
    fd = os.open(f"/proc/{held.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield Owners(fd=fd, first=uids.start)
    finally:
        os.close(fd)


def directory_of(owner: Owner, name: str) -> Path:
    """The directory of that name in the instance's, made if it is missing."""
    place = owner.dir / name
    place.mkdir(mode=0o700, exist_ok=True)
    return place


@contextmanager
def failing(owner: Owner, what: str, todo: str) -> Iterator[None]:
    """Report an OSError of the block as one of the operation: ``what``, the kernel's reason, ``todo``."""
    try:
        yield
    except OSError as error:
        place = f" for {error.filename!r}" if error.filename else ""
        raise hv.OperationError(f"{owner.name}: {what}, got {error.strerror}{place}; {todo}") from error


def mount_source(spec: ChrootSpec, owner: Owner, target: Path, owners: Owners) -> None:
    """Mount the disk or the directory of the root at ``target``. Raises `HvError`."""
    allowed = Allowed(write=spec.source_is_written, suid=spec.suid, devices=spec.devices)
    todo = "check that it can be mounted" if owners.fd is None else _SHIFTED
    with failing(owner, f"cannot mount {spec.source} as the root", todo):
        if spec.disk is not None:
            disk, real = spec.disk, os.path.realpath(spec.disk)
            mount = partial(_mount_disk, spec, disk, owner, target)
            _attach_made(owner, mount, target, allowed, users_fd=owners.fd, also=(disk, real))
            return
        source = spec.directory or ""
        with cloned_tree(source, allowed, users_fd=owners.fd) as tree, open_directory(target) as place:
            attach(tree, place)
    claim_mount(source, str(target))


def _attach_made(
    owner: Owner,
    make: Callable[[], object],
    target: Path,
    allowed: Allowed,
    *,
    users_fd: int | None = None,
    also: tuple[str, ...] = (),
) -> None:
    """Mount at ``target`` what ``make`` mounts there, which it does in a mount namespace that ends with the call.

    So no process of the node can write to it before it is shielded, and a kill in between leaves no mount.
    """

    def made() -> int:
        make()
        with cloned_tree(str(target), allowed, users_fd=users_fd) as tree:
            found = os.dup(tree)
        unmount(str(target))  # where the root directory is no mount, the node has got it too
        return found

    tree = in_own_mounts(owner.dir, made, also=also)
    try:
        with open_directory(target) as place:
            attach(tree, place)
    finally:
        os.close(tree)


def _mount_disk(spec: ChrootSpec, path: str, owner: Owner, target: Path) -> None:
    disk = identify_disk(path)
    command = mount_command(spec, str(target), image=not disk.block_device)
    left = owner.deadline.left()
    # In the instance's group: the first process to enter one waits for an RCU grace period, and the start script then not.
    ended, output = run_tool(
        command, life=owner.dir / LIFE_LOCK, status=owner.dir / STATUS, deadline_s=left, group=owner.live.group
    )
    if ended is None:
        todo = f"check that {path!r} can be read"
        raise hv.DeadlineError(subject=owner.name, waiting_for=f"mount of {path!r}", waited_s=left, todo=todo)
    if ended.code != 0:
        how = f"cannot mount disk {path!r}, {what_it_contains(path)}: mount {ended}"
        raise hv.LaunchError(name=owner.name, how=how, output=output, argv=command)


def mount_changes(spec: ChrootSpec, owner: Owner, lower: Path, root: Path, owners: Owners) -> None:
    """Mount an overlay at ``root``, which shows ``lower`` and keeps changes. Raises `OperationError`."""
    upper = directory_of(owner, UPPER)
    what = f"cannot keep changes in {spec.overlay_directory or 'memory'!r}"
    with failing(owner, what, "use a file system that overlayfs accepts for its upper directory"):
        if spec.overlay_directory is None:
            _attach_made(owner, partial(_memory, upper, spec.overlay_mib, owners.first), upper, Allowed())
        else:
            for name in ("changes", "work"):
                os.makedirs(os.path.join(spec.overlay_directory, name), mode=0o755, exist_ok=True)
            changes = cloned_tree(spec.overlay_directory, Allowed(), users_fd=owners.fd)
            with changes as tree, open_directory(upper) as place:
                attach(tree, place)
            claim_mount(spec.overlay_directory, str(upper))
        allowed = Allowed(suid=spec.suid, devices=spec.devices)
        _attach_made(owner, partial(_overlay, lower, upper, root, allowed, owners.first), root, allowed)


def _memory(upper: Path, size_mib: int, owner: int) -> None:
    mount_tmpfs(str(upper), f"size={size_mib}m,mode=0755", programs=True)
    for name in ("changes", "work"):
        (upper / name).mkdir(mode=0o755)
        os.chown(upper / name, owner, owner)


def _overlay(lower: Path, upper: Path, root: Path, allowed: Allowed, owner: int) -> None:
    with (
        open_directory(lower) as lower_fd,
        open_directory(upper / "changes") as upper_fd,
        open_directory(upper / "work") as work_fd,
        as_owner(owner),
    ):
        mount_overlay(str(root), allowed, lower=lower_fd, upper=upper_fd, work=work_fd)


def identity_of(fd: int) -> Identity:
    """The identity of the file or directory of that descriptor."""
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def bind_file(owner: Owner, root: Path, bind: Bind, owners: Owners, *, only: Identity | None = None) -> Identity:
    """Show a file or directory of the node inside, ``only`` this very one if that is given; its identity.

    Raises `OperationError`.
    """
    what = f"cannot bind {bind.source!r} to {bind.target!r}"
    todo = "in a read-only root every directory in the path must exist"
    with (
        failing(owner, what, todo),
        cloned_tree(bind.source, Allowed(write=bind.writable), users_fd=owners.fd) as tree,
    ):
        found = identity_of(tree)
        if only not in (None, found):
            raise hv.OperationError(f"{owner.name}: {bind.source!r} was replaced meanwhile; attach it again")
        with _mount_point(owner, root, bind.target, tree, owners.first) as place:
            attach(tree, place)
        return found


@contextmanager
def _mount_point(owner: Owner, root: Path, path: str, tree: int, uid: int) -> Iterator[int]:
    """The place inside to mount that copy on. What is missing is made where the root can be written to."""

    def point() -> AbstractContextManager[int]:
        return mount_point(root, path, directory=stat.S_ISDIR(os.fstat(tree).st_mode), owner=uid)

    def make() -> None:
        with point():
            pass

    with ExitStack() as opened:
        try:
            place = opened.enter_context(point())
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            in_own_mounts(owner.dir, make)
            place = opened.enter_context(point())
        yield place


def bind_resolv_conf(owner: Owner, root: Path, owners: Owners) -> None:
    """Show a copy of the node's resolv.conf inside. Raises `OperationError`."""
    copy = owner.dir / _RESOLV_CONF
    copy.write_bytes(b"")
    with suppress(FileNotFoundError):
        copy.write_bytes(Path("/etc/resolv.conf").read_bytes())
    copy.chmod(0o644)
    # Without the shift of owners: no process inside may change it.
    what, todo = "cannot bind the node's resolv.conf", "make /etc/resolv.conf in the root a file, or a link to one"
    with (
        failing(owner, what, todo),
        cloned_tree(str(copy), Allowed(write=False)) as tree,
        _mount_point(owner, root, "/etc/resolv.conf", tree, owners.first) as place,
    ):
        attach(tree, place)
