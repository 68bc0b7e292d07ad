"""Records with a right checksum and wrong contents: every answer is an error in words, and a stop by force ends the guest."""

from __future__ import annotations

import copy
import json
import os
import signal
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from sleeper import Sleeper

from hvcore import HvError, Instance, State
from hvcore.deadline import Deadline
from hvcore.host.processes.launched import members
from hvcore.model.codec import encode
from hvcore.model.record import ProcessId
from hvcore.operations.context import Context
from hvcore.operations.inspection.info import infos
from hvcore.operations.inspection.leftovers import leftovers
from hvcore.operations.inspection.observe import observed
from hvcore.operations.lifecycle.start import start
from hvcore.operations.lifecycle.stop import cleanup, stop
from hvcore.operations.recovery.recover import recover_all
from hvcore.plugin import Entry, alive, wait_gone
from hvcore.plugins.loaded_driver import LoadedDriver

DEEP: Final = json.loads("[" * 400 + "]" * 400)
WRONG: Final = {
    "null": None,
    "true": True,
    "minus-one": -1,
    "huge": 2**63,
    "vast": 10**400,
    "float": 1.5,
    "text": "\ud800/../\x1b[2J",
    "list": [{}],
    "object": {"kind": "None"},
    "deep": DEEP,
}


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in the JSON document."""
    yield at
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in pairs:
        yield from places(below, (*at, key))


def changed(body: Any, at: tuple[Any, ...], value: object) -> Any:
    """The document with another value at that path; ``...`` takes the value away."""
    if not at:
        return value
    document = copy.deepcopy(body)
    inner = document
    for key in at[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[at[-1]]
    else:
        inner[at[-1]] = value
    return document


def write(path: Path, body: object) -> None:
    text = json.dumps(body).encode()
    path.write_bytes(text + f"\ncrc32:{zlib.crc32(text):08x}\n".encode())


@pytest.fixture
def guest(
    load: Callable[..., LoadedDriver], context: Callable[..., Context], run_dir: Path
) -> Iterator[Callable[[], tuple[Context, ProcessId, Path]]]:
    """Starts an instance that is a process; its node, its process, and its record's file."""
    started: list[ProcessId] = []

    def bring_up() -> tuple[Context, ProcessId, Path]:
        loaded = load(Sleeper)
        node = context(loaded)
        start(node, loaded, Instance(name="web1", driver="fake"), paused=False, deadline=Deadline(20))
        record = node.store.load("web1")
        assert record is not None
        assert record.process is not None
        started.append(record.process)
        return node, record.process, run_dir / "instances" / "web1" / "record.json"

    yield bring_up
    for process in started:
        if alive(process):
            os.kill(process.pid, signal.SIGKILL)
    for directory in (run_dir / "instances").glob("*"):
        for process in members(directory / "alive", directory / "status"):
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


def asked(node: Context) -> None:
    """Everything that only reads: no answer is an exception of Python."""
    for info in infos(node):
        json.dumps(info.to_json())
    observed(node, "web1")
    list(leftovers(node))


def check_last_resort(node: Context, process: ProcessId, path: Path, body: object) -> None:
    """With that record in place, no call raises an exception of Python, recovery leaves the guest, and force ends it."""
    write(path, body)
    asked(node)
    recover_all(node, 5)
    for polite in (cleanup, partial(stop, force=False)):
        if not path.exists():  # a value that may be wrong for people only, and the guest was stopped
            break
        with suppress(HvError):
            polite(node, "web1", deadline=Deadline(10))
    stop(node, "web1", force=True, deadline=Deadline(10))
    assert wait_gone(process, 5)  # its lock is free a moment before it is gone
    run_dir = path.parents[2]
    assert not path.parent.exists()
    assert not [*(run_dir / "reservations" / "uid").iterdir(), *(run_dir / "reservations" / "owners").iterdir()]


CASES = [
    (("process", "pid"), "huge"),
    (("process", "pid"), "vast"),
    (("process", "start_ticks"), "minus-one"),
    (("monitor", "pid"), "huge"),
    (("started_at",), "vast"),
    (("boot_id",), "text"),
    (("name",), "text"),
    (("name",), "other"),
    (("ledger",), "gone"),
    (("ledger", 0), "object"),
    (("ledger", 0), "gone"),
    (("ledger", 0, "kind"), "text"),
    (("ledger", 1), "gone"),
    (("ledger", 1, "kind"), "mount"),
    (("ledger", 1, "kind"), "cgroup"),
    (("ledger", 1, "kind"), "program"),
    (("spec",), "deep"),
    ((), "deep"),
]


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("at", "word"), CASES, ids=lambda value: value if isinstance(value, str) else ".".join(map(str, value)) or "all"
)
def test_a_record_with_wrong_contents_does_not_prevent_a_stop_by_force(
    at: tuple[Any, ...], word: str, guest: Any
) -> None:
    node, process, path = guest()
    body = json.loads(path.read_bytes().splitlines()[0])
    check_last_resort(node, process, path, changed(body, at, {"gone": ..., **WRONG}.get(word, word)))


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["mount", "cgroup", "program", "link", "owner", "unique-value", "disk", "uid"])
@pytest.mark.parametrize(
    "data", [{}, {"name": 1, "path": 2, "disk": 3, "space": 4, "keeps": 5, "uid": 6}], ids=["lacking", "numbers"]
)
def test_an_entry_of_the_ledger_with_wrong_contents_does_not_prevent_a_stop_by_force(
    kind: str, data: dict[str, Any], guest: Any
) -> None:
    node, process, path = guest()
    body = json.loads(path.read_bytes().splitlines()[0])
    entry = encode(Entry(kind=kind, key="wrong", data=data))
    check_last_resort(node, process, path, {**body, "ledger": [*body["ledger"], entry]})


@pytest.mark.heavy
@pytest.mark.parametrize("field", ["boot_id", "process"])
def test_recovery_never_ends_a_guest_whose_record_is_wrong(field: str, guest: Any) -> None:
    node, process, path = guest()
    body = json.loads(path.read_bytes().splitlines()[0])
    wrong = "another" if field == "boot_id" else {**body["process"], "start_ticks": 1}
    write(path, {**body, field: wrong})
    recover_all(node, 5)
    assert alive(process)
    assert observed(node, "web1").state in (State.UNKNOWN, State.CRASHED)
    assert stop(node, "web1", force=True, deadline=Deadline(10)).changed
    assert wait_gone(process, 5)  # its lock is free a moment before it is gone


@pytest.mark.slow
def test_no_wrong_value_at_any_place_of_a_record_keeps_anybody_from_ending_the_guest(guest: Any) -> None:
    _, _, path = guest()
    body = json.loads(path.read_bytes().splitlines()[0])
    for at in places(body):
        for value in (*WRONG.values(), *([...] if at else [])):
            node, process, path = guest()
            check_last_resort(node, process, path, changed(json.loads(path.read_bytes().splitlines()[0]), at, value))
