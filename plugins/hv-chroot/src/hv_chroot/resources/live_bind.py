"""A bind that an instance gets while it runs: mounted below its directory as at a start, and in the mounts of its processes.

The processes may rename the directories above a mount point. So a mount is never looked for by its path: the record has
the device and the inode number of what was bound, and the mount table of the processes is searched for it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import hvcore.plugin as hv
from hv_chroot.families.root import Bind
from hv_chroot.names import BINDS, ROOT
from hv_chroot.resource import LiveBind
from hv_chroot.resources.mount_calls import Allowed, attach, cloned_tree, unmount, unmount_unused
from hv_chroot.resources.mounting import Identity, Owners, bind_file, failing, identity_of
from hv_chroot.resources.root_files import mount_point, open_place
from hvcore.plugin import Mount, Owner, dataclass, in_thread, libc_call, mounts_at_or_below, parse_mountinfo, rooted

__all__ = ["LiveBindKind", "hide", "is_shown", "something_at"]

_CLONE_FS, _CLONE_NEWNS = 0x00000200, 0x00020000  # linux/sched.h
_TODO: Final = "in a read-only root every directory in the path must exist"


class LiveBindKind(hv.ResourceKind[LiveBind, None], name="bind", turn=hv.Turn.FILE, in_ledger=True):
    """Mounted in two places: for scripts that run later below the instance's directory, and for the processes that run."""

    def verify(self, resource: LiveBind, site: hv.Site) -> Iterator[hv.Problem]:
        """What is bound must exist."""
        if not os.path.exists(resource.bind.source):
            got = repr(resource.bind.source)
            yield hv.Problem(path="path", what="does not exist", got=got, todo="create it, or choose another")

    def describe(self, resource: LiveBind, site: hv.Site) -> Iterator[hv.Step]:
        """The mount."""
        bind = resource.bind
        how = "writable" if bind.writable else "read-only"
        yield hv.Step(kind="mount", what=f"{bind.source!r} at {bind.target!r}, {how}")

    def acquire(self, resource: LiveBind, held: hv.Held) -> None:
        """Mount it in both places. Raises `OperationError`."""
        owner, bind = held.owner, resource.bind
        process = _process(owner)
        if process is None:
            raise hv.OperationError(f"{owner.name}: has no process left, so nothing can be bound; start it again")
        with _Running.of(owner, process) as running, running.owners(owner) as owners:
            bind_file(owner, owner.dir / ROOT, bind, owners, only=_identity(owner, bind.target))
            with (
                failing(owner, f"cannot bind {bind.source!r} to {bind.target!r}", _TODO),
                cloned_tree(bind.source, Allowed(write=bind.writable), users_fd=owners.fd, shielded=False) as tree,
                mount_point(running.root, bind.target, directory=_is_directory(tree), owner=owners.first) as place,
            ):
                running.in_its_mounts(partial(attach, tree, place))

    def prove(self, resource: LiveBind, site: hv.Site, owner: Owner) -> None:
        """The processes must see it, and only read if that was asked for."""
        bind = resource.bind
        seen = [mount.read_only for mount in _shown(owner, bind.target)]
        if seen != [not bind.writable]:
            found = "is not mounted" if not seen else "is mounted with other rights"
            raise hv.OperationError(f"{owner.name}: {bind.target!r} {found} for its processes; report this")

    def release(self, entry: hv.Entry, owner: Owner) -> None:
        """Unmount it from both places, unless the instance has ended: the release of all its mounts follows."""
        hide(owner, entry.key.removeprefix(LiveBind.PREFIX))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    """A process of the instance that is held, its root directory as it sees it, and its mounts."""

    pid: int
    pidfd: int
    root: int

    @staticmethod
    @contextmanager
    def of(owner: Owner, process: hv.ProcessId) -> Iterator[_Running]:
        with hv.verified_pidfd(process) as pidfd:
            if pidfd is not None:
                root = os.open(f"/proc/{process.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    if not hv.wait_readable(pidfd, 0.0):  # so the number was that of the process
                        yield _Running(pid=process.pid, pidfd=pidfd, root=root)
                        return
                finally:
                    os.close(root)
        raise hv.OperationError(f"{owner.name}: has ended meanwhile; see its log, and start it again")

    @property
    def table(self) -> list[Mount]:
        """Its mounts. Paths are as the process sees them."""
        return parse_mountinfo(Path(f"/proc/{self.pid}/mountinfo").read_bytes())

    def in_its_mounts(self, call: Callable[[], object]) -> None:
        """Call that in a thread that has the mounts of the process. It reaches files only by descriptors."""

        def run() -> object:
            libc_call("unshare", _CLONE_FS)
            libc_call("setns", self.pidfd, _CLONE_NEWNS)
            return call()

        in_thread(run, name="mounts of an instance")

    @contextmanager
    def owners(self, owner: Owner) -> Iterator[Owners]:
        """The owners of the files as the process sees them."""
        first = owner.record.bindings.get("uids")
        if first is None:
            yield Owners()
            return
        fd = os.open(f"/proc/{self.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield Owners(fd=fd, first=first)
        finally:
            os.close(fd)


def is_shown(owner: Owner, bind: Bind) -> bool:
    """Whether the processes of the instance see that bind."""
    return bool(_shown(owner, bind.target))


def something_at(owner: Owner, target: str) -> bool:
    """Whether something is mounted exactly there for the processes of the instance."""
    process = _process(owner)
    if process is None:
        return False
    with _Running.of(owner, process) as running:
        try:
            with open_place(running.root, target) as place:
                return _mount_id(place) in {
                    mount.id for mount in running.table if mount.point == _path_of(running, place)
                }
        except OSError:
            return False


def _path_of(running: _Running, place: int) -> str:
    """The path of a place that was found from the root of the process, as the process sees it."""
    top, path = (os.readlink(f"/proc/self/fd/{fd}") for fd in (running.root, place))
    return f"/{path.removeprefix(top).lstrip('/')}"


def hide(owner: Owner, target: str) -> None:
    """Unmount the bind for the processes, then for the node. Does nothing if that was done, or if no process is left.

    Raises `OperationError` if a process uses it; nothing has changed then.
    """
    process = _process(owner)
    if process is None:
        return
    with _Running.of(owner, process) as running:
        for mount in _chosen(owner, target, _known(running.table, running.root, owner, target), ""):
            above, _, name = mount.point.rpartition("/")
            with open_place(running.root, above or "/") as parent:
                try:
                    running.in_its_mounts(partial(_unmount_in, parent, name))
                except OSError as error:
                    raise hv.OperationError(_why_not(owner.name, target, error)) from error
    below = str((owner.dir / ROOT).resolve())
    everything = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for mount in _chosen(owner, target, _known(mounts_at_or_below(below), everything, owner, target), below):
            unmount(mount.point)
    finally:
        os.close(everything)


def _unmount_in(parent: int, name: str) -> None:
    os.fchdir(parent)  # of this thread
    unmount_unused(name)


def _why_not(name: str, target: str, error: OSError) -> str:
    if error.errno == errno.EBUSY:
        what = "is in use inside: a process has a file or its directory there, or something is mounted below it"
        return f"{name}: {target!r} {what}; end that use, then 'hv detach' again"
    if error.errno == errno.EINVAL:
        what = "was bound at the start of an instance with its own users, and the kernel keeps such a mount"
        return f"{name}: {target!r} {what}; it stays until the instance stops"
    return f"{name}: {target!r} cannot be unmounted, got {error.strerror}; it stays until the instance stops"


def _shown(owner: Owner, target: str) -> list[Mount]:
    process = _process(owner)
    if process is None:
        return []
    with _Running.of(owner, process) as running:
        return _chosen(owner, target, _known(running.table, running.root, owner, target), "")


def _known(table: list[Mount], root: int, owner: Owner, target: str) -> list[Mount]:
    """The mounts of what was bound to the target, as far as a path from that root leads to them."""
    wanted, found = _identity(owner, target), []
    for mount in table:
        try:
            with open_place(root, mount.point, links=False) as place:
                if _mount_id(place) == mount.id and identity_of(place) == wanted:
                    found.append(mount)
        except OSError:
            continue
    return found


def _chosen(owner: Owner, target: str, found: list[Mount], below: str) -> list[Mount]:
    """Of the mounts of one source, those of this target: several binds may have the same source."""
    exact = [mount for mount in found if mount.point == f"{below}{target}"]
    others = {f"{below}{other}" for other in owner.record.bindings.get(BINDS, {}) if other != target}
    return exact or [mount for mount in found if mount.point not in others]


def _identity(owner: Owner, target: str) -> Identity | None:
    """The device and inode number of what was bound there; None for a record of an older version."""
    found = owner.record.bindings.get(BINDS, {}).get(target)
    return None if found is None else (int(found[0]), int(found[1]))


def _process(owner: Owner) -> hv.ProcessId | None:
    """A process of the instance that runs."""
    if owner.record.spec.get("namespaces") is False:
        return next(iter(rooted(owner.dir / ROOT)), None)
    process = owner.record.process
    return process if process is not None and hv.alive(process) else None


def _mount_id(place: int) -> int:
    lines = Path(f"/proc/thread-self/fdinfo/{place}").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("mnt_id:"))


def _is_directory(tree: int) -> bool:
    return stat.S_ISDIR(os.fstat(tree).st_mode)
