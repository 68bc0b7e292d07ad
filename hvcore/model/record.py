"""The record of a started instance, and the files in its directory. Never argv: that is rendered at each launch.

The record is written before anything is acquired (``phase`` starting or stopping, ``ledger``). After a crash, the next
operation reads from it what to finish or undo.
"""

from __future__ import annotations

import json
from dataclasses import field
from enum import StrEnum
from typing import Any, Final

from hvcore.errors import RecordError
from hvcore.frozen import dataclass
from hvcore.model.codec import DecodeError, decode, encoded, sealed, unsealed
from hvcore.model.instance import Instance
from hvcore.params.words import shortened

__all__ = [
    "LIFE_LOCK",
    "LOG",
    "RECORD_FILE",
    "RECORD_VERSION",
    "STATUS",
    "Change",
    "Entry",
    "Phase",
    "ProcessId",
    "Record",
    "of_program",
    "parse_record",
    "record_bytes",
]

RECORD_FILE: Final = "record.json"
"""In the instance's directory; an instance exists if this file does."""

LIFE_LOCK: Final = "alive"
STATUS: Final = "status"
LOG: Final = "log"

_MOST_PIDS: Final = 2**31  # pid_t of Linux is an int
_LAST_TIME: Final = 10_000 * 365 * 86400.0  # what a date of four digits can have

# 2: profile; 3: boot index of NICs; 4: observer; 5: params, source, keys in the ledger; 6: tags, more keys of NICs
# 7: devices, change, phase changing; 8: phase arriving
RECORD_VERSION: Final = 8


class Phase(StrEnum):
    """The progress of the last operation on the instance. ``ended``: a reboot stopped it and did not start it again.

    ``changing``: it runs, and a device of it is being changed. ``arriving``: it waits for its state, of a migration to this
    node, and has never run here.
    """

    STARTING = "starting"
    ARRIVING = "arriving"
    RUNNING = "running"
    CHANGING = "changing"
    STOPPING = "stopping"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessId:
    """One process, identified for all time: its pid, its start (clock ticks after boot), and the boot.

    Two processes never share all three, except within one 10 ms tick; QEMU's pidfile lock decides then.
    """

    pid: int
    start_ticks: int
    boot_id: str

    def __post_init__(self) -> None:
        if not 0 < self.pid < _MOST_PIDS:
            raise ValueError(f"pid must be from 1 to {_MOST_PIDS - 1}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One resource that the instance holds or is about to acquire.

    ``kind`` is the kind that releases it, ``key`` the resource. Entries of records before version 5 have no key: such an
    entry means everything of its kind.
    """

    kind: str
    key: str = ""
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change of one device of a running instance that is in progress, or was interrupted.

    ``op`` is the operation in words, ``device`` the device's name. The record itself has the instance from before the
    change; ``instance``, ``params``, ``spec`` and ``devices`` are what it is to have afterwards.
    """

    op: str
    device: str
    instance: Instance
    spec: dict[str, Any]
    params: dict[str, Any] | None = None
    devices: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The state of one started instance. ``spec`` and ``bindings`` are the driver's, as plain JSON types.

    ``process`` is the instance's own, ``monitor`` the one that waits for its exit code.
    ``withheld`` names secret parameters that were set and are not saved. ``params`` are all clean values of the start,
    without secrets; None in a record of an older version. ``source`` is the absolute path of the instance file, empty
    for an instance that a program built. ``observer`` is ``module:function`` that observes its state without the driver,
    empty when only the driver can. ``started_at`` is wall-clock seconds and only a label. ``paused``: to be paused.
    ``devices`` has the name of each device that can be changed while the instance runs, with the field that describes it:
    ``disk1``, ``disks[0]``. It is empty if the driver changes none. ``change`` is set in phase ``changing``.
    """

    name: str
    driver: str
    phase: Phase
    boot_id: str
    instance: Instance
    spec: dict[str, Any]
    bindings: dict[str, Any] = field(default_factory=dict)
    ledger: tuple[Entry, ...] = ()
    process: ProcessId | None = None
    monitor: ProcessId | None = None
    paused: bool = False
    withheld: tuple[str, ...] = ()
    started_at: float = 0.0
    observer: str = ""
    params: dict[str, Any] | None = None
    source: str = ""
    devices: dict[str, Any] = field(default_factory=dict)
    change: Change | None = None
    version: int = RECORD_VERSION

    def entry(self, key: str) -> Entry:
        """The ledger entry of that resource, which must have one."""
        return next(entry for entry in self.ledger if entry.key == key)

    @property
    def up(self) -> Phase:
        """The phase of the instance if it runs: ``changing`` until an interrupted change is finished or undone."""
        return Phase.RUNNING if self.change is None else Phase.CHANGING

    def __post_init__(self) -> None:
        if not 0 <= self.started_at < _LAST_TIME:  # not for NaN either
            raise ValueError(f"started_at must be seconds since 1970, got {self.started_at}")


def record_bytes(record: Record) -> bytes:
    """The contents of the record's file: one line of JSON, one line with its CRC-32."""
    return sealed(encoded(record))


def parse_record(data: bytes, place: str) -> Record:
    """The record of instance ``place`` in ``data``.

    Raises `RecordError` when it is torn, damaged, from a newer version, or the record of another instance.
    """
    body = unsealed(data)
    todo = "hv stop --force ends the instance and moves the record to 'damaged'"
    if body is None:
        raise RecordError(f"{place}: damaged, the checksum does not match; {todo}")
    try:
        raw = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{place}: not a record: {error}; {todo}") from error
    version = raw.get("version") if isinstance(raw, dict) else None
    if type(version) is not int or version < 1:
        raise RecordError(f"{place}: not a record, got version {version!r}; {todo}")
    if version > RECORD_VERSION:
        raise RecordError(f"{place}: written by a newer hvcore, got version {version!r}; upgrade hvcore on this node")
    try:
        # Fields that an older version lacks have defaults; the next write saves the record in today's version.
        record = decode(Record, {**raw, "version": RECORD_VERSION}, place)
    except (DecodeError, RecursionError) as error:
        raise RecordError(f"{place}: not a record: {error}; {todo}") from error
    if record.name != place or record.instance.name != place:
        raise RecordError(f"{place}: its record is one of {shortened(record.name)}; {todo}")
    return record


def of_program(program: str, name: str) -> str:
    """The name of such a file of a program beside the instance: ``tpm.alive``; of the instance if ``program`` is empty."""
    return f"{program}.{name}" if program else name
