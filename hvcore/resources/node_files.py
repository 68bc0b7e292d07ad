"""Files of the node that an instance needs while it runs: a symbolic link, a character device, a listening socket."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hvcore.errors import OperationError, Problem
from hvcore.host.files import leads_into
from hvcore.model.plan import Step
from hvcore.model.record import Entry
from hvcore.model.resource import CharacterDevice, Link, UnixSocket
from hvcore.resources.held import Held
from hvcore.resources.kind import ResourceKind, Turn
from hvcore.resources.owner import Owner, Site

__all__ = ["CharacterDeviceKind", "LinkKind", "UnixSocketKind", "listening_socket"]


class LinkKind(ResourceKind[Link, None], name="link", turn=Turn.FILE):
    """The link is made before the program starts. Until the program makes the file, the link leads nowhere."""

    def verify(self, resource: Link, site: Site) -> Iterator[Problem]:
        """Nothing else may be at its path, and its directory must exist and be writable."""
        place = _link_place(resource)
        path, got, todo = resource.where, repr(str(place)), "choose another path"
        directory = str(place.parent)
        if _in_the_way(place, site.dir / resource.target):
            yield Problem(path=path, what="exists already", got=got, todo=f"remove it, or {todo}")
        elif not os.path.isdir(directory):
            what = f"is in {directory!r}, which is not a directory of this node"
            yield Problem(path=path, what=what, got=got, todo=f"create it, or {todo}")
        elif not os.access(directory, os.W_OK | os.X_OK):
            what = f"is in {directory!r}, where this user cannot make files"
            yield Problem(path=path, what=what, got=got, todo=todo)

    def describe(self, resource: Link, site: Site) -> Iterator[Step]:
        """Where the link is, and the file that it leads to."""
        yield Step(kind="link", what=f"{_link_place(resource)} to {site.dir}/{resource.target}")

    def entry(self, resource: Link, site: Site) -> Mapping[str, Any]:
        """The path of the link."""
        return {"path": str(_link_place(resource))}

    def acquire(self, resource: Link, held: Held) -> None:
        """Make the link, unless it exists. Raises `OperationError` when another file is at its path."""
        path, target = _link_place(resource), held.owner.dir / resource.target
        what = f"{held.owner.name}: {str(path)!r}"
        if held.site.between is not None:
            held.site.between.take_link(path)
        try:
            path.symlink_to(target)
        except FileExistsError:
            if _in_the_way(path, target):
                raise OperationError(f"{what} exists already; remove it or choose another path") from None
        except OSError as error:
            raise OperationError(f"{what} cannot be made, got {error.strerror}; choose another") from error

    def release(self, entry: Entry, owner: Owner) -> None:
        """Remove the link, if it still leads to the instance: an operator may have replaced it since."""
        path = Path(entry.data["path"])
        if owner.host.between is not None and owner.host.between.keeps_link(path):
            return
        if leads_into(path, owner.dir):
            path.unlink(missing_ok=True)


def _in_the_way(path: Path, target: Path) -> bool:
    """Whether something else than our link is at the path."""
    return os.path.lexists(path) and not (path.is_symlink() and path.readlink() == target)


def _link_place(resource: Link) -> Path:
    path = Path(resource.path)
    return path / resource.name if resource.name and path.is_dir() else path


class CharacterDeviceKind(ResourceKind[CharacterDevice, str], name="character-device", turn=Turn.FILE):
    """The device is opened for a program that may not open it. The descriptor is closed when the program ends."""

    def verify(self, resource: CharacterDevice, site: Site) -> Iterator[Problem]:
        """The path must exist, be a character device, and open."""
        found = _opened(resource)
        if isinstance(found, Problem):
            yield found
        else:
            os.close(found)

    def describe(self, resource: CharacterDevice, site: Site) -> Iterator[Step]:
        """Which device is opened."""
        yield Step(kind="file", what=f"open {resource.path} read-write as {resource.key}")

    def acquire(self, resource: CharacterDevice, held: Held) -> str:
        """The descriptor."""
        found = _opened(resource)
        if isinstance(found, Problem):
            raise OperationError(f"{held.owner.name}: {found}")
        return held.add(found)


def _opened(resource: CharacterDevice) -> int | Problem:
    """A descriptor, or the reason against it: the same for a check before a start and for the start."""
    path, got, todo = resource.where, repr(resource.path), "load its kernel module, or leave it out"
    try:
        fd = os.open(resource.path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        return Problem(path=path, what=f"cannot be opened ({error.strerror})", got=got, todo=todo)
    if stat.S_ISCHR(os.fstat(fd).st_mode):
        os.set_blocking(fd, True)
        return fd
    os.close(fd)
    return Problem(path=path, what="is not a character device", got=got, todo="name one")


class UnixSocketKind(ResourceKind[UnixSocket, str], name="socket", turn=Turn.SOCKET):
    """In the instance's directory, which is removed as a whole: the ledger need not list it."""

    def describe(self, resource: UnixSocket, site: Site) -> Iterator[Step]:
        """Where it listens."""
        yield Step(kind="socket", what=f"listen on {site.dir}/{resource.key}")

    def acquire(self, resource: UnixSocket, held: Held) -> str:
        """The descriptor of the listening socket."""
        return held.add(listening_socket(held.owner.dir / resource.key))


def listening_socket(path: Path) -> int:
    """A listening unix socket at the path, of any length, that only the caller can connect to."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
            # Linux gives the name in the file system the mode of the socket; the umask may be anything.
            os.fchmod(made.fileno(), 0o600)
            # The kernel takes 108 bytes for a socket's name; through the descriptor it is short.
            made.bind(f"/proc/self/fd/{directory}/{path.name}")
            made.listen(8)
            return os.dup(made.fileno())
    finally:
        os.close(directory)
