"""The record of an instance that is being rebooted, kept between its stop and its start.

A stop removes the record, and the record has the only definition of the machine. So a reboot first keeps a copy in
``rebooting/NAME``, with room for the files of the start beside it. If the start fails, or hvcore is killed, the copy
becomes the instance's record again. That needs no room: it is moved.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from hvcore.errors import LeftoverError, NodeError, RecordError
from hvcore.host.files import private_dir, remove_tree, write_atomic
from hvcore.host.record_file import read_record
from hvcore.model.record import RECORD_FILE, Phase, Record, record_bytes

__all__ = ["KeptRecord", "ended_record"]

_DIRECTORY: Final = "rebooting"
_ROOM: Final = "room"
_ROOM_BYTES: Final = 64 * 1024
_LINK: Final = "link"  # the name of the kind, whose release leaves a link to another file


def ended_record(record: Record) -> Record:
    """The record once the instance was stopped to be started again: it holds nothing but links that a reboot leaves."""
    links = tuple(entry for entry in record.ledger if entry.kind == _LINK)
    return replace(record, phase=Phase.ENDED, ledger=links, bindings={}, process=None, monitor=None)


class KeptRecord:
    """The kept record of one instance, which may be missing."""

    def __init__(self, run_dir: Path, name: str) -> None:
        self._run_dir = run_dir
        self._name = name
        self._directory = run_dir / _DIRECTORY / name

    @staticmethod
    def names(run_dir: Path) -> list[str]:
        """The instances with a kept record."""
        try:
            return os.listdir(run_dir / _DIRECTORY)
        except OSError:
            return []

    @property
    def exists(self) -> bool:
        """Whether a reboot keeps a record of the instance, which may be unreadable."""
        return os.path.lexists(self._directory / RECORD_FILE)

    def keep(self, record: Record) -> None:
        """Keep that record, with room for its start. Raises `NodeError` without room, and keeps nothing then."""
        data = record_bytes(ended_record(record))
        private_dir(self._run_dir / _DIRECTORY)
        try:
            private_dir(self._directory)
            write_atomic(self._directory / RECORD_FILE, data)
            with open(self._directory / _ROOM, "wb") as room:
                os.posix_fallocate(room.fileno(), 0, _ROOM_BYTES + 2 * len(data))
        except (NodeError, OSError) as error:
            self.drop()
            why = getattr(error, "strerror", None) or str(error)
            what = f"{self._name}: cannot be rebooted, {self._run_dir} has no room for its start, got {why}"
            raise NodeError(f"{what}; free some space there; the instance was not touched") from error

    def free_room(self) -> None:
        """Give the room to the start that follows."""
        with suppress(OSError):
            os.unlink(self._directory / _ROOM)

    def read(self) -> Record | None:
        """The kept record; None without a readable one."""
        try:
            return read_record(self._directory / RECORD_FILE, self._name)
        except (OSError, RecordError):
            return None

    def restore(self) -> bool:
        """Make it the instance's record, if the instance has none; whether it is."""
        place = self._run_dir / "instances" / self._name
        if os.path.lexists(place / RECORD_FILE) or self.read() is None:
            return False
        self.free_room()
        try:
            private_dir(place.parent)
            if place.is_dir():
                os.rename(self._directory / RECORD_FILE, place / RECORD_FILE)
                os.rmdir(self._directory)
            else:
                os.rename(self._directory, place)
        except OSError as error:
            what = f"{self._directory}: cannot be moved to {place}, got {error.strerror}"
            raise LeftoverError(f"{what}; check the file system of {self._run_dir}") from error
        return True

    def drop(self) -> None:
        """Forget it. Raises `LeftoverError`."""
        try:
            if os.path.lexists(self._directory):
                remove_tree(self._directory)
        except OSError as error:
            what = f"{self._name}: its kept record cannot be removed, got {error.strerror}"
            raise LeftoverError(f"{what}; check the file system of {self._run_dir}") from error
