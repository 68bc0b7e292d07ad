"""The guest's directory, the only one that QEMU may write to, and files of the node that QEMU opens by path."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from hv_kvm.machine.resource import GUEST_DIRECTORY, GUEST_USER, GuestDir, GuestDirectory, PrivateCopy, Shown, ShownFile
from hv_kvm.paths import GuestPaths
from hv_kvm.resources.left_behind import has_foreign_file, quarantine, unlink_inside
from hvcore.plugin import AsUser, Entry, Held, Level, OperationError, Owner, Problem, ResourceKind, Site, Step, Turn

__all__ = [
    "GUEST_DIR",
    "ContentsError",
    "GuestDirectoryKind",
    "PrivateCopyKind",
    "ShownFileKind",
    "make_guest_dir",
    "password",
    "remove_copies",
]

# Its path inside the sandbox: at the top, because only root could enter directories above it.
GUEST_DIR: Final = "/guest"
_MAX_BYTES: Final = 1 << 20


class GuestDirectoryKind(ResourceKind[GuestDirectory, GuestDir], name="guest-directory", turn=Turn.WHO):
    """In the instance's directory, which is removed as a whole. A release first keeps the files that QEMU left there."""

    def placeholder(self, resource: GuestDirectory, site: Site) -> GuestDir:
        """Its path in the sandbox; without a sandbox, symbols for its path in the instance's directory."""
        if site.level is Level.OFF:
            return GuestDir(path="{instance}/guest", sockets="/proc/self/fd/{fd:guest}")
        return GuestDir(path=GUEST_DIR, sockets=GUEST_DIR)

    def entry(self, resource: GuestDirectory, site: Site) -> Mapping[str, Any]:
        """Nothing but its key."""
        return {}

    def acquire(self, resource: GuestDirectory, held: Held) -> GuestDir:
        """Make the directory, with the event journal prepared."""
        paths = GuestPaths(held.owner.dir)
        # A FIFO keeps its data only while it is open: until QEMU has opened it.
        held.keep(make_guest_dir(paths, held[GUEST_USER]))
        if held.site.level is not Level.OFF:
            return GuestDir(path=GUEST_DIR, sockets=GUEST_DIR)
        # By descriptor: the directory's own name may be too long for a socket's address, or have '=' in it.
        place = held.add(os.open(paths.guest, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        return GuestDir(path=str(paths.guest), sockets=f"/proc/self/fd/{place}")

    def release(self, entry: Entry, owner: Owner) -> None:
        """Move the directory aside if it has a file that is not ours. A full file system has room for that."""
        paths = GuestPaths(owner.dir)
        if has_foreign_file(paths.guest, (paths.journal.name, paths.pidfile.name)):
            kept = quarantine(owner.host.run_dir, owner.name, paths.guest)
            owner.bind(quarantined=str(kept))


def make_guest_dir(paths: GuestPaths, user: AsUser | None) -> int:
    """Make the directory with its event journal, owned by ``user``; returns the open descriptor of the FIFO."""
    paths.guest.mkdir(mode=0o700)
    os.mkfifo(paths.events_in, 0o600)
    paths.journal.touch(mode=0o600, exist_ok=False)
    if user is not None:
        for path in (paths.guest, paths.events_in, paths.journal):
            os.chown(path, user.uid, user.uid)
    fifo = os.open(paths.events_in, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    os.write(fifo, b'{"execute": "qmp_capabilities"}\n')
    return fifo


class ContentsError(ValueError):
    """The file cannot be copied as it is. The text says why, and never contains a part of the file."""


class PrivateCopyKind(ResourceKind[PrivateCopy, str], name="private-copy", turn=Turn.FILE):
    """The copy is in the guest's directory, until QEMU has read it."""

    def verify(self, resource: PrivateCopy, site: Site) -> Iterator[Problem]:
        """The file must be readable, and a password in it must be one that can work."""
        try:
            _contents(resource)
        except ContentsError as error:
            todo = "correct the file, or name another"
            yield Problem(path=resource.where, what=str(error), got=repr(resource.path), todo=todo)

    def describe(self, resource: PrivateCopy, site: Site) -> Iterator[Step]:
        """Which file is copied."""
        kind, part = ("password", "the first line of ") if resource.password_bytes else ("file", "")
        yield Step(
            kind=kind, what=f"copy {part}{resource.path} to a file that only QEMU can read, until QEMU has read it"
        )

    def placeholder(self, resource: PrivateCopy, site: Site) -> str:
        """The name of the copy in the guest's directory."""
        return resource.key

    def entry(self, resource: PrivateCopy, site: Site) -> Mapping[str, Any]:
        """Its name in the guest's directory."""
        return {"name": resource.key}

    def acquire(self, resource: PrivateCopy, held: Held) -> str:
        """Make the copy, which only the guest's uid can read. QEMU does not run yet, so no other process uses the directory."""
        user = held[GUEST_USER]
        try:
            data = _contents(resource)
        except ContentsError as error:
            what = f"{held.owner.name}: {resource.path!r} {error}"
            raise OperationError(f"{what}; correct the file, or name another") from error
        if data is not None:
            path, uid = GuestPaths(held.owner.dir).guest / resource.key, -1 if user is None else user.uid
            if not path.parent.exists():
                path.parent.mkdir(mode=0o700)
                os.chown(path.parent, uid, -1)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400)
            with open(fd, "wb") as file:
                os.fchown(fd, uid, -1)
                file.write(data)
        return f"{held[GUEST_DIRECTORY].path}/{resource.key}"

    def release(self, entry: Entry, owner: Owner) -> None:
        """Remove the copy of a start that failed: a password is never kept."""
        unlink_inside(GuestPaths(owner.dir).guest, entry.data["name"])


def _contents(resource: PrivateCopy) -> bytes | None:
    """The bytes for QEMU, None for an optional file that does not exist. Raises `ContentsError`."""
    try:
        # Not blocking: opening a FIFO that nothing writes to would wait for ever.
        fd = os.open(resource.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise ContentsError("is not a regular file")
            data = os.read(fd, _MAX_BYTES + 1)
        finally:
            os.close(fd)
    except OSError as error:
        if resource.optional and isinstance(error, FileNotFoundError):
            return None
        raise ContentsError(f"cannot be read ({error.strerror})") from error
    if len(data) > _MAX_BYTES:
        raise ContentsError("is larger than 1 MiB")
    return data if resource.password_bytes is None else _first_line(data, resource.password_bytes)


def _first_line(data: bytes, at_most: int) -> bytes:
    line = data.partition(b"\n")[0].removesuffix(b"\r")
    if not line:
        raise ContentsError("has no password in its first line; an empty password would let everyone in")
    if len(line) > at_most:
        raise ContentsError(f"has a password of {len(line)} bytes, of which QEMU would use only the first {at_most}")
    try:
        # QEMU wants UTF-8 (crypto/secret_common.c), and JSON has no NUL in a C string.
        if "\0" in line.decode("utf-8"):
            raise ContentsError("has a NUL byte in its password")
    except UnicodeDecodeError as error:
        raise ContentsError("has a password that is not UTF-8") from error
    return line


def password(resource: PrivateCopy) -> str:
    """The password as text, for QMP. Raises `ContentsError`."""
    return (_contents(resource) or b"").decode("utf-8")


def remove_copies(resources: Iterable[PrivateCopy], guest_dir: Path) -> None:
    """Remove the copies that exist: QEMU has read them, and the guest has not run yet."""
    for resource in resources:
        (guest_dir / resource.key).unlink(missing_ok=True)


class ShownFileKind(ResourceKind[ShownFile, Shown], name="shown-file", turn=Turn.FILE):
    """The file itself, or a copy in the guest's directory when the guest's user may not read it."""

    def entry(self, resource: ShownFile, site: Site) -> Mapping[str, Any]:
        """The name that a copy would have."""
        return {"name": f"copy-of-{resource.key}"}

    def verify(self, resource: ShownFile, site: Site) -> Iterator[Problem]:
        """A file that exists must be a regular one. That it exists is checked with its parameter."""
        if os.path.exists(resource.path) and not os.path.isfile(resource.path):
            what = "is not a regular file; QEMU could hang when it reads it"
            yield Problem(path=resource.key, what=what, got=repr(resource.path))

    def placeholder(self, resource: ShownFile, site: Site) -> Shown:
        """The path by which QEMU will open it."""
        return Shown(path=resource.path if site.level is Level.OFF else resource.inside, source=resource.path)

    def acquire(self, resource: ShownFile, held: Held) -> Shown:
        """The file, or the copy. Raises OSError when it cannot be read."""
        user, source = held[GUEST_USER], resource.path
        there = not resource.optional or os.path.exists(source)
        if there and user is not None and not os.stat(source).st_mode & stat.S_IROTH:
            source = str(GuestPaths(held.owner.dir).guest / f"copy-of-{resource.key}")
            shutil.copyfile(resource.path, source)
            os.chmod(source, 0o400)
            os.chown(source, user.uid, user.uid)
        return Shown(path=source if held.site.level is Level.OFF else resource.inside, source=source)

    def release(self, entry: Entry, owner: Owner) -> None:
        """Remove the copy, if there is one."""
        unlink_inside(GuestPaths(owner.dir).guest, entry.data["name"])
