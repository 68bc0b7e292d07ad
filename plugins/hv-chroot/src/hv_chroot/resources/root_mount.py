"""The mounts of a start: the root, the files of the node that are shown in it, and room for the scripts' output."""

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
from hv_chroot.names import LOG_FILE, OUTPUT, ROOT
from hv_chroot.resource import Output, Root
from hv_chroot.resources.left_out import mounts_left_out
from hv_chroot.resources.mount_calls import Allowed, attach, cloned_tree, mount_overlay, mount_tmpfs, unmount
from hv_chroot.resources.root_contents import contents_problem, what_it_contains
from hv_chroot.resources.root_files import as_owner, mount_point, open_directory
from hv_chroot.spec import ChrootSpec
from hvcore.plugin import (
    LIFE_LOCK,
    STATUS,
    Held,
    HeldNamespaces,
    Owner,
    ResourceKind,
    Site,
    Turn,
    claim_mount,
    dataclass,
    identify_disk,
    in_own_mounts,
    run_tool,
    shield,
)

__all__ = ["OutputKind", "RootKind"]

_LOWER: Final = "lower"
_UPPER: Final = "upper"
_RESOLV_CONF: Final = "resolv.conf"

_OUTPUT_OPTIONS: Final = "size=1m,nr_inodes=16,mode=0700"
_SHIFTED: Final = "set params.user_namespace to 'off', or use a file system that supports ID-mapped mounts"


def _mount_command(spec: ChrootSpec, target: str, *, image: bool) -> tuple[str, ...]:
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
class _Owners:
    """The owners of the files as seen inside: ``fd`` is a user namespace, None for the node's; ``first`` its uid 0."""

    fd: int | None = None
    first: int = 0


@contextmanager
def _owners_of(held: HeldNamespaces | None, uids: range | None) -> Iterator[_Owners]:
    if held is None or uids is None:
        yield _Owners()
        return
    fd = os.open(f"/proc/{held.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield _Owners(fd=fd, first=uids.start)
    finally:
        os.close(fd)


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
        with _owners_of(inside, uids) as owners:
            root = _place(held.owner, ROOT)
            if spec.overlay == "none":
                _mount_source(spec, held.owner, root, owners)
            else:
                lower = _place(held.owner, _LOWER)
                _mount_source(spec, held.owner, lower, owners)
                _mount_overlay(spec, held.owner, lower, root, owners)
            for bind in spec.binds:
                _bind(held.owner, root, bind, owners)
            if spec.node_resolv_conf:
                _bind_resolv_conf(held.owner, root, owners)
            with _failing(held.owner, f"cannot make {root} read-only for the node", "check the kernel"):
                for name in (ROOT, _UPPER):
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
        directory = _place(held.owner, OUTPUT)
        with _failing(held.owner, f"cannot mount a tmpfs at {directory}", "check the kernel"):
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
        target = str(root if spec.overlay == "none" else root.with_name(_LOWER))
        yield " ".join(_mount_command(spec, target, image=image))
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


def _place(owner: Owner, name: str) -> Path:
    place = owner.dir / name
    place.mkdir(mode=0o700, exist_ok=True)
    return place


@contextmanager
def _failing(owner: Owner, what: str, todo: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place = f" for {error.filename!r}" if error.filename else ""
        raise hv.OperationError(f"{owner.name}: {what}, got {error.strerror}{place}; {todo}") from error


def _mount_source(spec: ChrootSpec, owner: Owner, target: Path, owners: _Owners) -> None:
    allowed = Allowed(write=spec.source_is_written, suid=spec.suid, devices=spec.devices)
    todo = "check that it can be mounted" if owners.fd is None else _SHIFTED
    with _failing(owner, f"cannot mount {spec.source} as the root", todo):
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
    command = _mount_command(spec, str(target), image=not disk.block_device)
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


def _mount_overlay(spec: ChrootSpec, owner: Owner, lower: Path, root: Path, owners: _Owners) -> None:
    upper = _place(owner, _UPPER)
    what = f"cannot keep changes in {spec.overlay_directory or 'memory'!r}"
    with _failing(owner, what, "use a file system that overlayfs accepts for its upper directory"):
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


def _bind(owner: Owner, root: Path, bind: Bind, owners: _Owners) -> None:
    what = f"cannot bind {bind.source!r} to {bind.target!r}"
    todo = "in a read-only root every directory in the path must exist"
    with (
        _failing(owner, what, todo),
        cloned_tree(bind.source, Allowed(write=bind.writable), users_fd=owners.fd) as tree,
        _mount_point(owner, root, bind.target, tree, owners.first) as place,
    ):
        attach(tree, place)


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


def _bind_resolv_conf(owner: Owner, root: Path, owners: _Owners) -> None:
    copy = owner.dir / _RESOLV_CONF
    copy.write_bytes(b"")
    with suppress(FileNotFoundError):
        copy.write_bytes(Path("/etc/resolv.conf").read_bytes())
    copy.chmod(0o644)
    # Without the shift of owners: no process inside may change it.
    what, todo = "cannot bind the node's resolv.conf", "make /etc/resolv.conf in the root a file, or a link to one"
    with (
        _failing(owner, what, todo),
        cloned_tree(str(copy), Allowed(write=False)) as tree,
        _mount_point(owner, root, "/etc/resolv.conf", tree, owners.first) as place,
    ):
        attach(tree, place)
