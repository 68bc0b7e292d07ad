"""The files of definitions: one directory, NAME.toml for each, and every change of it in one step that a crash cannot tear.

One lock for the whole directory excludes two writers. It is a lock on the directory itself, which needs no room and leaves
nothing. A rename writes down where it leads before the new file exists: from the moment in which that exists, the old one
does not count, and the next writer removes it.
"""

from __future__ import annotations

import errno
import json
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from hvcore.errors import InputError, NodeError
from hvcore.host.files import fsync_dir, write_atomic
from hvcore.host.lock import held_directory

__all__ = ["SUFFIX", "DefinitionFiles"]

SUFFIX: Final = ".toml"
_RENAMED: Final = ".renamed"
_UNFINISHED: Final = re.compile(r"\..+\.(toml|renamed)\.[0-9]+\.new")  # by `write_atomic`
_LOCK_S: Final = 5.0


class DefinitionFiles:
    """The files in one directory, which does not have to exist. A name here is that of a file, without its suffix."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, name: str) -> Path:
        """Where the definition of that name is, or would be."""
        return self.directory / f"{name}{SUFFIX}"

    def names(self) -> list[str]:
        """Every name with a file, sorted. Raises `NodeError`."""
        try:
            found = os.listdir(self.directory)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise _unusable(self.directory, "read", error) from error
        names = {name.removesuffix(SUFFIX) for name in found if name.endswith(SUFFIX) and not name.startswith(".")}
        marks = [name[1:].removesuffix(_RENAMED) for name in found if name[:1] == "." and name.endswith(_RENAMED)]
        return sorted(names.difference(old for old in marks if self._renamed(old)))

    def exists(self, name: str) -> bool:
        """Whether there is a definition of that name, also one that cannot be read."""
        return os.path.lexists(self.path(name)) and not self._renamed(name)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Exclude other writers for the block, and finish what a killed one left. Makes the directory.

        Raises `BusyError` and `NodeError`.
        """
        place = Path(os.path.realpath(self.directory))
        try:
            _make(place)
        except OSError as error:
            raise _unusable(self.directory, "made", error) from error
        try:
            with held_directory(place, subject=f"definitions in {self.directory}", wait_s=_LOCK_S):
                self._settle(place)
                yield
        except OSError as error:
            raise _unusable(self.directory, "changed", error) from error

    def write(self, name: str, text: bytes) -> None:
        """Write or replace a definition, durably. A link stays one: the file that it leads to is replaced. Raises OSError."""
        target = Path(os.path.realpath(self.path(name)))
        try:
            before = os.stat(target)
        except FileNotFoundError:
            before = None
        write_atomic(target, text, like=before)

    def remove(self, name: str) -> None:
        """Remove a definition, durably; of a link only the link. Raises OSError."""
        self.path(name).unlink()
        fsync_dir(self.directory)

    def rename(self, old: str, new: str, before: bytes, text: bytes) -> None:
        """Replace definition ``old``, whose contents are ``before``, by ``new`` with these contents. Raises OSError.

        Raises `InputError` for a link.
        """
        path = self.path(old)
        if path.is_symlink():
            raise InputError(f"{old}: {str(path)!r} is a link; rename the file that it leads to, and the key in it")
        mark = self._mark(old)
        write_atomic(mark, json.dumps({"to": new, "crc32": zlib.crc32(before)}).encode())
        try:
            write_atomic(self.path(new), text, like=os.stat(path))
        except BaseException:
            with suppress(
                OSError
            ):  # the new file may be there already, and only not durable; without the mark both count
                self.path(new).unlink(missing_ok=True)
                mark.unlink()
            raise
        self._finish(old)

    def _mark(self, old: str) -> Path:
        return self.directory / f".{old}{_RENAMED}"

    def _renamed(self, old: str) -> bool:
        """Whether a rename that was interrupted has replaced this definition. One that was written since then counts."""
        try:
            mark = json.loads(self._mark(old).read_bytes())
            content = self.path(old).read_bytes()
            return mark["crc32"] == zlib.crc32(content) and os.path.lexists(self.path(str(mark["to"])))
        except (OSError, ValueError, LookupError, TypeError):
            return False

    def _finish(self, old: str) -> None:
        self.path(old).unlink(missing_ok=True)
        fsync_dir(self.directory)  # before the mark goes: without it the old one would count again
        self._mark(old).unlink(missing_ok=True)

    def _settle(self, place: Path) -> None:
        """Finish an interrupted rename, and remove unfinished files: no other writer is at work. A full disk is no obstacle."""
        for name in os.listdir(place):
            if not name.startswith("."):
                continue
            if name.endswith(_RENAMED):
                old = name[1:].removesuffix(_RENAMED)
                if self._renamed(old):
                    self._finish(old)
                else:
                    (place / name).unlink(missing_ok=True)
            elif _UNFINISHED.fullmatch(name):
                with suppress(OSError):
                    (place / name).unlink()


def _make(place: Path) -> None:
    """Make the directory and those above it, with a mode of ours: the umask of some daemons is 0."""
    if not place.is_dir():
        _make(place.parent)
        place.mkdir(mode=0o755, exist_ok=True)


def _unusable(directory: Path, what: str, error: OSError) -> NodeError:
    todo = (
        "free some space there"
        if error.errno in {errno.ENOSPC, errno.EDQUOT}
        else "check its owner and its file system"
    )
    return NodeError(f"definitions in {str(directory)!r}: cannot be {what}, got {error.strerror}; {todo}")
