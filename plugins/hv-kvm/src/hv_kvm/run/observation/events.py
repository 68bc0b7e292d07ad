"""The events of a guest, from the journal that its QEMU writes.

The guest may have written any of the lines: nothing raises, and every text is short and printable.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import hvcore.plugin as hv
from hv_kvm.event import QmpEvent
from hv_kvm.paths import GuestPaths
from hv_kvm.run.observation.journal import disk_in, event_in, shown_text
from hv_kvm.run.observation.observe import called, programs_beside

__all__ = ["JournalReader", "watched"]

_MIB: Final = 1 << 20
_MOST_BYTES: Final = 1 << 63
_DATA_CHARACTERS: Final = 2048


def watched(live: hv.Live) -> hv.Watched:
    """The journal of the guest, and the programs beside QEMU."""
    record = live.record
    journal = hv.EventFile(
        path=str(GuestPaths(live.dir).journal),
        reader=lambda from_start: JournalReader(record.name, record.driver, has_run=not from_start),
    )
    programs = {called(name): process for name, process in programs_beside(record).items()}
    return hv.Watched(files=(journal,), programs=programs, reports_pauses=True)


class JournalReader:
    """Returns the events in a line of the journal of that guest. Lines have to come in order.

    ``has_run``: the guest ran before the first line. It keeps what earlier lines say: why the guest will pause, and whether
    it is shutting down.
    """

    def __init__(self, name: str, driver: str, *, has_run: bool) -> None:
        self._about = {"name": name, "driver": driver}
        self._has_run = has_run
        self._reason: str | None = None
        self._ends = False

    def __call__(self, line: bytes) -> Iterator[hv.Event]:
        """The events in the line. Never raises."""
        event = event_in(line)
        if event is None:
            return
        about: dict[str, Any] = {**self._about, "at": datetime.now(UTC).timestamp() if event.at is None else event.at}
        self._reason = _reason_to_pause(event) or self._reason
        if event.name == "RESUME":
            first, self._has_run, self._reason, self._ends = not self._has_run, True, None, False
            if not first:  # that is the end of its start
                yield hv.Resumed(**about)
        elif event.name == "STOP":
            reason, self._reason = self._reason, None
            if not self._ends:
                yield hv.Paused(reason=reason, **about)
        elif event.name == "SHUTDOWN":  # the core reports the end, when the process has ended
            self._ends = True
        else:
            yield _MAKERS.get(event.name, _other)(event, about)


def _reason_to_pause(event: QmpEvent) -> str | None:
    if event.name == "BLOCK_IO_ERROR" and event.data.get("action") == "stop":
        return f"error of {disk_in(event) or 'a disk'}{', no space' if _full(event) else ''}"
    return {"GUEST_PANICKED": "the guest panicked", "WATCHDOG": "the watchdog of the guest expired"}.get(event.name)


def _full(event: QmpEvent) -> bool:
    return event.data.get("nospace") is True


def _text(event: QmpEvent, key: str) -> str | None:
    return shown_text(event.data.get(key))


def _other(event: QmpEvent, about: Mapping[str, Any]) -> hv.Event:
    try:
        data = json.dumps(event.data, allow_nan=False)
    except (ValueError, RecursionError):
        data = ""
    kept = _printable(event.data) if 0 < len(data) <= _DATA_CHARACTERS else {}
    return hv.DriverEvent(what=shown_text(event.name) or "?", data=kept, **about)


def _printable(value: Any) -> Any:
    """The plain value, with every text short and printable."""
    if isinstance(value, dict):
        return {shown_text(key) or "?": _printable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_printable(item) for item in value]
    return (shown_text(value) or "") if isinstance(value, str) else value


def _reset(event: QmpEvent, about: Mapping[str, Any]) -> hv.Event:
    guest = event.data.get("guest")
    return hv.Reset(by_guest=guest if isinstance(guest, bool) else None, **about)


def _io_error(event: QmpEvent, about: Mapping[str, Any]) -> hv.Event:
    texts: dict[str, Any] = {key: _text(event, key) for key in ("operation", "action", "reason")}
    return hv.IoError(device=disk_in(event), no_space=_full(event), **texts, **about)


def _balloon(event: QmpEvent, about: Mapping[str, Any]) -> hv.Event:
    actual = event.data.get("actual")
    if type(actual) is not int or not 0 <= actual < _MOST_BYTES:
        return _other(event, about)
    return hv.Balloon(memory_mib=actual // _MIB, **about)


_MAKERS: Final[Mapping[str, Callable[[QmpEvent, Mapping[str, Any]], hv.Event]]] = {
    "RESET": _reset,
    "SUSPEND": lambda _, about: hv.Paused(reason="the guest is suspended", **about),
    "WAKEUP": lambda _, about: hv.Resumed(**about),
    "GUEST_PANICKED": lambda event, about: hv.Panic(action=_text(event, "action"), **about),
    "WATCHDOG": lambda event, about: hv.Watchdog(action=_text(event, "action"), **about),
    "BLOCK_IO_ERROR": _io_error,
    "BALLOON_CHANGE": _balloon,
    "DEVICE_DELETED": lambda event, about: hv.DeviceDeleted(
        device=_text(event, "device"), path=_text(event, "path"), **about
    ),
    "MIGRATION": lambda event, about: hv.MigrationStatus(status=_text(event, "status") or "unknown", **about),
}
