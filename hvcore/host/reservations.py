"""Things of which a node has one each, such as the uids of a pool and disks. Each has one owner, by instance name.

A reservation is a symbolic link whose target is its owner: an instance, or an instance and its resource, as in
``web1/disk0``. The kernel makes a link in one step and only if it does not exist: two callers never get the same thing,
and a crash leaves no half.

Each link has a note, ``owners/NAME/KIND/KEY``, to find the reservations of one instance without reading all links. The
note is made before its link and removed after it. Only the link proves anything.
"""

from __future__ import annotations

import os
import stat
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from hvcore.errors import NodeError
from hvcore.host.files import private_dir, remove_tree

__all__ = [
    "KeptReservations",
    "Reservations",
    "between_halves",
    "has_reserved",
    "instance_of",
    "kinds_of",
    "may_have_reserved",
    "release_reservations",
]

_OWNERS: Final = "owners"
_NOTE_MODE: Final = stat.S_IFREG | 0o600


class Reservations:
    """The reservations of one kind, kept in one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def take(self, key: str, owner: str) -> str | None:
        """Reserve ``key`` for ``owner``. None if its instance has it now, else the instance that has it."""
        private_dir(self._directory.parent)
        private_dir(self._directory)
        self._note(key, owner)
        while True:
            with suppress(FileExistsError):
                os.symlink(owner, f"{self._directory}/{key}")
                return None
            try:
                present = instance_of(os.readlink(f"{self._directory}/{key}"))
            except FileNotFoundError:
                continue  # released meanwhile
            except OSError:
                return f"a file that hvcore did not make, {self._directory / key}"
            if present == instance_of(owner):
                if self.target(key) == between_halves(owner):
                    self.hand_over(key, owner)
                return None
            self._forget(key, owner)
            return present

    def owner(self, key: str) -> str | None:
        """The instance that has ``key``; None if it is free."""
        target = self.target(key)
        return None if target is None else instance_of(target)

    def target(self, key: str) -> str | None:
        """The owner of ``key`` as `take` got it: an instance, or an instance and its resource; None if the key is free."""
        try:
            return os.readlink(f"{self._directory}/{key}")
        except OSError:
            return None  # no link, or a file that hvcore did not make

    def taken(self, key: str) -> bool:
        """Whether ``key`` is reserved."""
        return os.path.lexists(f"{self._directory}/{key}")

    def keys(self) -> list[str]:
        """Every reserved key. Does not read the links."""
        return _listed(self._directory)

    def items(self) -> dict[str, str]:
        """The instance of every reservation, by key. Reads every link."""
        return {key: instance_of(target) for key, target in self._links().items()}

    def noted(self, owner: str) -> list[str]:
        """The keys that the instance of ``owner`` may have."""
        return _listed(self._notes(owner))

    def hand_over(self, key: str, owner: str) -> None:
        """Give ``key`` to another resource of the instance that has it, in one step."""
        new = f"{self._directory.parent}/.{self._directory.name}.{os.getpid()}.{threading.get_ident()}"
        with suppress(FileNotFoundError):
            os.unlink(new)
        os.symlink(owner, new)
        os.rename(new, f"{self._directory}/{key}")

    def release(self, owner: str) -> None:
        """Release everything of this kind that ``owner`` has. Does nothing if it has nothing.

        Raises `NodeError` if the directory is a link: hvcore has never reserved anything behind it.
        """
        for directory in (self._directory.parent, self._directory, self._directory.parent / _OWNERS):
            if directory.is_symlink():
                raise NodeError(
                    f"{directory}: is a link that hvcore did not make; check where it leads, then unlink it"
                )
        noted = self.noted(owner)
        # For a whole instance, and without notes, every link is read: a link may be older than notes are.
        for key, target in self._links(noted if noted and "/" in owner else None).items():
            if target == owner or target.startswith(f"{owner}/"):
                with suppress(FileNotFoundError):
                    os.unlink(f"{self._directory}/{key}")
        for key in noted:
            if self.owner(key) != instance_of(owner):
                self._forget(key, owner)

    def _links(self, keys: list[str] | None = None) -> dict[str, str]:
        """The targets of these links, by key; of all links for None."""
        try:
            # By descriptor: for hundreds of links, the kernel takes longer to resolve each path than to read the link.
            fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return {}
        found = {}
        try:
            for key in os.listdir(fd) if keys is None else keys:
                with suppress(OSError):  # released meanwhile, or a file that hvcore did not make
                    found[key] = os.readlink(key, dir_fd=fd)
        finally:
            os.close(fd)
        return found

    def _notes(self, owner: str) -> str:
        return f"{self._directory.parent}/{_OWNERS}/{instance_of(owner)}/{self._directory.name}"

    def _note(self, key: str, owner: str) -> None:
        _begin_notes(self._directory.parent)
        notes = self._notes(owner)
        for directory in (os.path.dirname(notes), notes):
            with suppress(FileExistsError):
                os.mkdir(directory, 0o700)
        with suppress(FileExistsError):
            os.mknod(f"{notes}/{key}", _NOTE_MODE)

    def _forget(self, key: str, owner: str) -> None:
        notes = self._notes(owner)
        with suppress(FileNotFoundError):
            os.unlink(f"{notes}/{key}")
        for directory in (notes, os.path.dirname(notes)):
            with suppress(OSError):  # it has other notes
                os.rmdir(directory)


class KeptReservations:
    """All reservations of an instance from before the stop of a reboot until its start has taken them over.

    They are handed to the reboot, so a release of the instance's resources leaves them. `Reservations.take` hands them to
    the resource that takes them. If hvcore is killed, the next release of the instance frees them.
    """

    def __init__(self, root: Path, instance: str) -> None:
        self._root, self._instance = root, instance
        self._before: list[tuple[str, str, str]] = []

    def hold(self) -> None:
        """Hold everything that the instance has reserved."""
        for kind in kinds_of(self._root):
            reserved = Reservations(self._root / kind)
            for key in reserved.noted(self._instance):
                target = reserved.target(key)
                if target is not None and instance_of(target) == self._instance:
                    self._before.append((kind, key, target))
                    reserved.hand_over(key, between_halves(self._instance))

    @property
    def kinds(self) -> list[str]:
        """The kinds of what was held."""
        return sorted({kind for kind, _, _ in self._before})

    def of_kind(self, kind: str) -> list[str]:
        """The keys of that kind that were held."""
        return [key for one, key, _ in self._before if one == kind]

    def kept_for(self, kind: str, owner: str) -> list[str]:
        """The keys of that kind that this resource had before the stop, and that no start has taken over yet."""
        reserved = Reservations(self._root / kind)
        mine = [key for one, key, target in self._before if (one, target) == (kind, owner)]
        return [key for key in mine if reserved.target(key) == between_halves(owner)]

    def close(self, *, stopped: bool) -> None:
        """Release what no start has taken over. An instance that was not stopped gets its reservations back."""
        for kind, key, target in () if stopped else self._before:
            reserved = Reservations(self._root / kind)
            if reserved.target(key) == between_halves(self._instance):
                reserved.hand_over(key, target)
        release_reservations(self._root, between_halves(self._instance))


def between_halves(owner: str) -> str:
    """The owner of the instance's reservations between the halves of a reboot. No resource has such a key."""
    return f"{instance_of(owner)}/~reboot"


def instance_of(owner: str) -> str:
    """The instance that an owner is, or is a resource of."""
    return owner.partition("/")[0]


def has_reserved(root: Path, name: str) -> bool:
    """Whether the instance has reserved anything of any kind below that directory of reservations."""
    if not _is_directory(root / _OWNERS):
        return any(name in Reservations(root / kind).items().values() for kind in kinds_of(root))
    kinds = (Reservations(root / kind) for kind in _listed(root / _OWNERS / name))
    return any(kind.owner(key) == name for kind in kinds for key in kind.noted(name))


def may_have_reserved(root: Path, name: str) -> bool:
    """Whether the instance has reserved anything, or a process was killed between a note and its link. Reads no link."""
    return os.path.lexists(root / _OWNERS / name) if _is_directory(root / _OWNERS) else has_reserved(root, name)


def kinds_of(root: Path) -> list[str]:
    """The kinds of reservations below that directory: ``uid``, ``disk``, ..."""
    return [name for name in _listed(root) if name != _OWNERS and name[0] != "." and _is_directory(root / name)]


def release_reservations(root: Path, owner: str) -> None:
    """Release everything that ``owner`` has reserved below that directory, of every kind."""
    for kind in kinds_of(root):
        Reservations(root / kind).release(owner)


def _begin_notes(root: Path) -> None:
    """Make the directory of notes at once with a note for every existing link, which an older hvcore made."""
    if _is_directory(root / _OWNERS):
        return
    new = private_dir(root / f".{_OWNERS}.{os.getpid()}.{threading.get_ident()}")
    try:
        for kind in kinds_of(root):
            for key, instance in Reservations(root / kind).items().items():
                (new / instance / kind).mkdir(mode=0o700, parents=True, exist_ok=True)
                (new / instance / kind / key).touch(mode=0o600)
        with suppress(OSError):  # another process was first, and has noted the same
            os.rename(new, root / _OWNERS)
    finally:
        remove_tree(new)
    private_dir(root / _OWNERS)


def _listed(directory: str | Path) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


def _is_directory(path: Path) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False
