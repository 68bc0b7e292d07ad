"""Things of which a node has one each: uids of a pool, disks. Each has one owner, by instance name.

A reservation is a symbolic link whose target is the owner's name: the kernel makes it in one step,
whole, and only if it is not there. So two callers never get the same one and a crash leaves no half.
"""

from __future__ import annotations

import os
from pathlib import Path

from hvcore.errors import NodeError
from hvcore.host.files import private_dir

__all__ = ["Reservations"]


class Reservations:
    """The reservations of one kind, kept in one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def take(self, key: str, owner: str) -> str | None:
        """Reserve ``key`` for ``owner``. None when it worked or was theirs already, else the present owner."""
        private_dir(self._directory.parent)
        private_dir(self._directory)
        path = self._directory / key
        while True:
            try:
                path.symlink_to(owner)
            except FileExistsError:
                try:
                    present = str(path.readlink())
                except FileNotFoundError:
                    continue  # given back meanwhile
                except OSError:
                    present = f"a file that is none of ours, {path}"
                return None if present == owner else present
            return None

    def items(self) -> dict[str, str]:
        """Every reservation as key to owner."""
        try:
            names = os.listdir(self._directory)
        except FileNotFoundError:
            return {}
        found = {}
        for name in names:
            try:
                found[name] = os.readlink(self._directory / name)
            except OSError:
                continue  # given back meanwhile, or nothing that we have made
        return found

    def release(self, owner: str) -> None:
        """Give back everything of this kind that ``owner`` has. Nothing there is fine.

        Raises `NodeError` when the directory is a link: what is behind it has never been reserved here.
        """
        for directory in (self._directory.parent, self._directory):
            if directory.is_symlink():
                raise NodeError(f"{directory}: is a link, and never made by us; look at where it leads, then unlink it")
        for key, present in self.items().items():
            if present == owner:
                (self._directory / key).unlink(missing_ok=True)
