"""Things of which a node has one each: uids of a pool, disks. Each has one owner, by instance name.

A reservation is a symbolic link whose target is the owner: the kernel makes it in one step, whole, and only if it is
not there. So two callers never get the same one and a crash leaves no half. The target is the instance's name, or that
and what of the instance has it, as in ``web1/disk0``: the owner is what stands before the first ``/``.

Beside the links there is a note of each, ``owners/NAME/KIND/KEY``, so that what one instance has is found without
reading all links. The note is made before its link and removed after it, and proves nothing: the link does.
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

__all__ = ["Reservations", "has_reserved", "instance_of", "kinds_of", "release_reservations"]

_OWNERS: Final = "owners"
_NOTE_MODE: Final = stat.S_IFREG | 0o600


class Reservations:
    """The reservations of one kind, kept in one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def take(self, key: str, owner: str) -> str | None:
        """Reserve ``key`` for ``owner``. None when it worked or was theirs already, else the present owner."""
        private_dir(self._directory.parent)
        private_dir(self._directory)
        _note(self._directory, key, owner)
        while True:
            try:
                os.symlink(owner, f"{self._directory}/{key}")
            except FileExistsError:
                try:
                    present = os.readlink(f"{self._directory}/{key}")
                except FileNotFoundError:
                    continue  # given back meanwhile
                except OSError:
                    return f"a file that is none of ours, {self._directory / key}"
                if instance_of(present) == instance_of(owner):
                    return None
                _forget(self._directory, key, owner)
                return instance_of(present)
            return None

    def owner(self, key: str) -> str | None:
        """The instance that has ``key``; None when nobody has."""
        try:
            return instance_of(os.readlink(f"{self._directory}/{key}"))
        except OSError:
            return None  # it is free, or nothing that we have made

    def taken(self, key: str) -> bool:
        """Whether somebody has ``key``."""
        return os.path.lexists(f"{self._directory}/{key}")

    def keys(self) -> list[str]:
        """What is reserved, without a look at whose it is."""
        return _listed(self._directory)

    def items(self) -> dict[str, str]:
        """Every reservation as key to owner. Reads every link."""
        return {key: instance_of(target) for key, target in _links(self._directory, None).items()}

    def release(self, owner: str) -> None:
        """Give back everything of this kind that ``owner`` has. Nothing there is fine.

        Raises `NodeError` when the directory is a link: what is behind it has never been reserved here.
        """
        for directory in (self._directory.parent, self._directory, self._directory.parent / _OWNERS):
            if directory.is_symlink():
                raise NodeError(f"{directory}: is a link, and never made by us; look at where it leads, then unlink it")
        # Everything of an instance, or without a note: a link may be older than notes are, so every link is read.
        noted = _noted(self._directory, owner)
        for key, target in _links(self._directory, noted if noted and "/" in owner else None).items():
            if target == owner or target.startswith(f"{owner}/"):
                with suppress(FileNotFoundError):
                    os.unlink(f"{self._directory}/{key}")
        for key in noted:
            if self.owner(key) != instance_of(owner):
                _forget(self._directory, key, owner)


def has_reserved(root: Path, name: str) -> bool:
    """Whether the instance has reserved anything, of whatever kind, below that directory of reservations."""
    if not _is_directory(root / _OWNERS):
        return any(name in Reservations(root / kind).items().values() for kind in kinds_of(root))
    return any(
        Reservations(root / kind).owner(key) == name
        for kind in _listed(root / _OWNERS / name)
        for key in _noted(root / kind, name)
    )


def instance_of(owner: str) -> str:
    """The instance that an owner is, or is a resource of."""
    return owner.partition("/")[0]


def _links(directory: Path, keys: list[str] | None) -> dict[str, str]:
    """The targets of those links, by key; of all when ``keys`` is None."""
    try:
        # By descriptor: a path of five parts to each of hundreds of links takes the kernel longer than the link.
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return {}
    found = {}
    try:
        for key in os.listdir(fd) if keys is None else keys:
            with suppress(OSError):  # given back meanwhile, or nothing that we have made
                found[key] = os.readlink(key, dir_fd=fd)
    finally:
        os.close(fd)
    return found


def kinds_of(root: Path) -> list[str]:
    """What is reserved below that directory, by kind: ``uid``, ``disk``, ..."""
    return [name for name in _listed(root) if name != _OWNERS and name[0] != "." and _is_directory(root / name)]


def release_reservations(root: Path, owner: str) -> None:
    """Give back everything that ``owner`` has reserved below that directory, of every kind."""
    for kind in kinds_of(root):
        Reservations(root / kind).release(owner)


def _listed(directory: str | Path) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


# ------------------------------------------------------------------------------------------------------------ notes


def _place(directory: Path, owner: str) -> str:
    return f"{directory.parent}/{_OWNERS}/{instance_of(owner)}/{directory.name}"


def _noted(directory: Path, owner: str) -> list[str]:
    return _listed(_place(directory, owner))


def _note(directory: Path, key: str, owner: str) -> None:
    _begin_notes(directory.parent)
    place = _place(directory, owner)
    for made in (os.path.dirname(place), place):
        with suppress(FileExistsError):
            os.mkdir(made, 0o700)
    with suppress(FileExistsError):
        os.mknod(f"{place}/{key}", _NOTE_MODE)


def _forget(directory: Path, key: str, owner: str) -> None:
    place = _place(directory, owner)
    with suppress(FileNotFoundError):
        os.unlink(f"{place}/{key}")
    for empty in (place, os.path.dirname(place)):
        with suppress(OSError):  # it has others
            os.rmdir(empty)


def _begin_notes(root: Path) -> None:
    """Have notes, those of reservations that are older than notes are included: all of them or none."""
    if _is_directory(root / _OWNERS):
        return
    new = private_dir(root / f".{_OWNERS}.{os.getpid()}.{threading.get_ident()}")
    try:
        for kind in kinds_of(root):
            for key, target in _links(root / kind, None).items():
                (new / instance_of(target) / kind).mkdir(mode=0o700, parents=True, exist_ok=True)
                (new / instance_of(target) / kind / key).touch(mode=0o600)
        with suppress(OSError):  # somebody else was first, and has noted the same
            os.rename(new, root / _OWNERS)
    finally:
        remove_tree(new)
    private_dir(root / _OWNERS)


def _is_directory(path: Path) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False
