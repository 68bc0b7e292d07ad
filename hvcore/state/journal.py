"""The migration journals of one run directory: a file per instance, with an entry for each migration that came by.

A journal decides where a guest may run, so it is not in the run directory: it survives a reboot of the node. It is written
and synced before the act that it allows. One that cannot be read is an error, never "no entry".
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from hvcore.errors import InputError, NodeError, RecordError
from hvcore.frozen import dataclass
from hvcore.host.durable_file import DamagedFileError, durable_dir, read_durable, write_durable
from hvcore.host.files import fsync_dir, write_atomic
from hvcore.host.record_file import read_record
from hvcore.model.codec import DecodeError, decode, encode
from hvcore.model.migration.entry import Act, JournalEntry, Side, SourceState, TargetState
from hvcore.model.names import name_problem
from hvcore.model.record import Record, record_bytes
from hvcore.state.boot_counter import BootCounter
from hvcore.state.kept_record import ended_record

__all__ = ["MOST_ENDED", "Journal", "Journals", "job_number", "next_job"]

MOST_ENDED: Final = 32
"""Entries of ended migrations that a journal keeps. Of older ones it knows only that their numbers are over."""

_VERSION: Final = 1
_FILE: Final = "journal.json"
_MACHINE: Final = "machine.json"
_JOB: Final = re.compile(r"(0|[1-9][0-9]{0,11})-[0-9a-f]{8}")


def job_number(job: str) -> int:
    """The number in the name of a job, such as 3 of ``3-5f1e0a77``. Raises `InputError` for another form."""
    found = _JOB.fullmatch(job)
    if found is None:
        raise InputError(f"job {job!r:.60}: is not the name of a migration; give one such as 3-5f1e0a77")
    return int(found[1])


def next_job(numbers: Iterable[int]) -> str:
    """The name of a new job, later than all jobs with these numbers."""
    return f"{max(numbers, default=0) + 1}-{os.urandom(4).hex()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """What one node knows of an instance's migrations: the entries, oldest first.

    ``over`` is the highest number of a job whose entry is no longer kept.
    """

    entries: tuple[JournalEntry, ...] = ()
    over: int = 0

    @property
    def pending(self) -> JournalEntry | None:
        """The entry with an act that was allowed and not done; None without one."""
        return next((entry for entry in reversed(self.entries) if entry.pending is not Act.NONE), None)

    @property
    def open(self) -> JournalEntry | None:
        """The entry of the migration that has not ended here; None without one."""
        return next((entry for entry in reversed(self.entries) if entry.is_open), None)

    @property
    def last(self) -> JournalEntry | None:
        """The newest entry of a migration that the node took part in."""
        return next((entry for entry in reversed(self.entries) if entry.began), None)

    @property
    def highest(self) -> int:
        """The highest number of a job that this node has seen; 0 without one."""
        return max((job_number(entry.job) for entry in self.entries), default=self.over)

    def entry(self, job: str) -> JournalEntry | None:
        """The entry of that job; None if it never came here. Raises `InputError` for one whose entry is no longer kept."""
        found = next((entry for entry in self.entries if entry.job == job), None)
        if found is None and job_number(job) <= self.over:
            raise InputError(f"job {job}: ended long ago, and its entry is no longer kept; begin another migration")
        return found

    def having(self, entry: JournalEntry) -> Journal:
        """The journal with that entry in place of the job's older one, and without the oldest ended entries."""
        if any(one.job == entry.job for one in self.entries):
            entries = [entry if one.job == entry.job else one for one in self.entries]
        else:
            entries = [*self.entries, entry]
        kept = (entries[-1], next((one for one in reversed(entries) if one.began), None))
        ended = [one for one in entries if not one.is_open and one not in kept]
        dropped = ended[: max(0, len(ended) - MOST_ENDED)]
        over = max((self.over, *(job_number(one.job) for one in dropped)))
        return replace(self, entries=tuple(one for one in entries if one not in dropped), over=over)


class Journals:
    """The journals of one run directory, in the directory that `hvcore.host.environment.journals_dir` names.

    A program that writes one holds the lock of its instance. Readers need no lock: a file is replaced in one step.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def names(self) -> list[str]:
        """Every instance with a journal, sorted. Raises `NodeError`."""
        try:
            found = os.listdir(self.directory)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            what = f"migration journals: {self.directory} cannot be read, got {error.strerror}"
            raise NodeError(f"{what}; check its owner") from error
        return sorted(name for name in found if name_problem(name) is None and (self.directory / name).is_dir())

    def boot(self) -> int:
        """The number of the current boot; see `BootCounter`."""
        return BootCounter(self.directory / ".boot").number(new=not self.names())

    def read(self, name: str) -> Journal:
        """The instance's journal, which is empty if it never migrated. Raises `NodeError` for one that cannot be used."""
        path = self._path(name)
        try:
            data = read_durable(path)
            return Journal() if data is None else _journal(data)
        except OSError as error:
            why = f"cannot be read, got {error.strerror}; check its owner"
        except DamagedFileError as error:
            why = f"is damaged, {error}"
        except (DecodeError, InputError) as error:
            why = f"is not a journal: {error}"
        todo = f"find out where the instance runs, then use 'hv migrate {name} --forget'"
        raise NodeError(f"{name}: its migration journal {path} {why}; {todo}")

    def write(self, name: str, entry: JournalEntry) -> Journal:
        """Add the entry, or replace the job's older one. On disk when this returns; else `NodeError`, and nothing changed.

        The caller holds the instance's lock.
        """
        journal = self.read(name).having(entry)
        path = self._path(name)
        try:
            durable_dir(path.parent)
            write_durable(path, {"version": _VERSION, **encode(journal)})
            if journal.open is None:
                path.with_name(_MACHINE).unlink(missing_ok=True)
        except OSError as error:
            what = f"{name}: its migration journal cannot be written, got {error.strerror}"
            raise NodeError(f"{what}; free some space in {self.directory}; nothing was done") from error
        return journal

    def keep(self, record: Record) -> None:
        """Keep the machine of the instance, to start it again if its migration ends here. Raises `NodeError`."""
        path = self._path(record.name).with_name(_MACHINE)
        try:
            durable_dir(path.parent)
            write_atomic(path, record_bytes(ended_record(record)))
        except OSError as error:
            what = f"{record.name}: its machine cannot be kept, got {error.strerror}"
            raise NodeError(f"{what}; free some space in {self.directory}; nothing was done") from error

    def kept(self, name: str) -> Record | None:
        """The kept machine; None without a readable one."""
        try:
            return read_record(self._path(name).with_name(_MACHINE), name)
        except (OSError, RecordError):
            return None

    def forget(self, name: str) -> Path | None:
        """Move the journal aside, for an operator who knows where the instance runs; its new path, None without one.

        The caller holds the instance's lock. Raises `NodeError`.
        """
        path = self._path(name)
        aside = path.with_name("forgotten.json")
        try:
            os.rename(path, aside)
            fsync_dir(path.parent)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            what = f"{name}: its migration journal cannot be moved to {aside}, got {error.strerror}"
            raise NodeError(f"{what}; check {self.directory}") from error
        return aside

    def place(self, name: str) -> Path:
        """The directory with the instance's journal, which a job may keep files in. It may be missing."""
        return self._path(name).parent

    def _path(self, name: str) -> Path:
        if name_problem(name) is not None:
            raise InputError(f"{name!r:.80}: cannot be the name of an instance; see hv list")
        return self.directory / name / _FILE


def _journal(data: Any) -> Journal:
    version = data.get("version") if isinstance(data, dict) else None
    if type(version) is not int or not 1 <= version <= _VERSION:
        raise InputError(
            f"its version is {version!r:.20}, this hvcore reads up to {_VERSION}; upgrade hvcore on this node"
        )
    journal = decode(Journal, {key: value for key, value in data.items() if key != "version"}, "journal")
    for entry in journal.entries:
        job_number(entry.job)
        known: type[StrEnum] = SourceState if entry.side is Side.SOURCE else TargetState
        if entry.state not in list(known):
            raise InputError(f"its state is {entry.state!r:.60}, which no {entry.side} has")
    return journal
