"""The migration journals: durable before the act, whole or refused, and never without end."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fixture_types import InChild
from killed import at_event, count, die

from hvcore.errors import InputError, NodeError
from hvcore.host.durable_file import read_durable, write_durable
from hvcore.model.migration.entry import NEVER_BEGAN, JournalEntry, Side
from hvcore.state.boot_counter import BootCounter
from hvcore.state.journal import MOST_ENDED, Journal, Journals, job_number, next_job

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
Mount = Callable[..., None]


def entry(number: int = 1, **changed: Any) -> JournalEntry:
    given = {"side": Side.SOURCE, "state": "migrating", "peer": "ssh://b", "own_boot": 3, **changed}
    return JournalEntry(job=f"{number}-00000000", name="web1", driver="fake", **given)


@pytest.fixture
def journals(tmp_path: Path) -> Journals:
    return Journals(tmp_path / "state/run-hvcore")


def test_an_instance_that_never_migrated_has_an_empty_journal_and_no_file(journals: Journals) -> None:
    assert journals.read("web1") == Journal()
    assert journals.names() == []
    assert not journals.directory.exists()


def test_an_entry_is_read_back_and_replaced_by_the_next_of_its_job(journals: Journals) -> None:
    journals.write("web1", entry())
    assert journals.read("web1").open == entry()
    ended = entry(state="gone", ended="it runs on b")
    assert journals.write("web1", ended) == journals.read("web1") == Journal(entries=(ended,))
    assert journals.read("web1").open is None
    assert journals.names() == ["web1"]


def test_a_migration_that_never_began_here_does_not_say_where_the_instance_is(journals: Journals) -> None:
    moved = entry(1, state="gone")
    journals.write("web1", moved)
    journals.write("web1", entry(2, state="rolled-back", ended=NEVER_BEGAN))
    assert journals.read("web1").last == moved


def test_ended_entries_shrink_to_a_number_and_open_ones_stay(journals: Journals) -> None:
    journals.write("web1", entry(1))
    for number in range(2, 3 * MOST_ENDED):
        journals.write("web1", entry(number, side=Side.TARGET, state="closed"))
    journal = journals.read("web1")
    assert len(journal.entries) == MOST_ENDED + 2
    assert journal.open == entry(1)
    assert journal.over == 2 * MOST_ENDED - 2
    assert journal.highest == 3 * MOST_ENDED - 1


def test_a_job_whose_entry_is_no_longer_kept_is_refused_and_not_a_new_one(journals: Journals) -> None:
    for number in range(1, MOST_ENDED + 3):
        journals.write("web1", entry(number, state="gone"))
    with pytest.raises(InputError, match="job 1-00000000: ended long ago"):
        journals.read("web1").entry("1-00000000")
    assert journals.read("web1").entry(f"{MOST_ENDED + 9}-00000000") is None


@pytest.mark.parametrize(
    "job", ["", "x", "1", "01-00000000", "1-0000000g", "-1-00000000", "1-000000000", "1_0-00000000"]
)
def test_another_form_of_a_job_is_refused(job: str) -> None:
    with pytest.raises(InputError, match="is not the name of a migration"):
        job_number(job)


def test_a_new_job_is_later_than_all_others() -> None:
    assert [job_number(next_job(numbers)) for numbers in ([], [3, 12], [0])] == [1, 13, 1]


@pytest.mark.parametrize("name", ["..", "a/b", "", ".boot", "x" * 300])
def test_a_name_that_no_instance_can_have_is_refused(journals: Journals, name: str) -> None:
    with pytest.raises(InputError):
        journals.read(name)


def damaged(path: Path, how: str) -> None:
    data = path.read_bytes()
    path.unlink()
    match how:
        case "link":
            path.symlink_to("/etc/hostname")
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "newer":
            write_durable(path, {"version": 2, "entries": [], "over": 0})
        case "another type":
            write_durable(path, ["web1"])
        case "unknown state":
            write_durable(path, json.loads(data.splitlines()[0].replace(b"migrating", b"flying")))
        case "state of the other side":
            write_durable(path, json.loads(data.splitlines()[0].replace(b"migrating", b"incoming")))
        case _:
            path.write_bytes(
                {"empty": b"", "torn": data[: len(data) // 2], "one bit": bytes([data[0] ^ 1]) + data[1:]}[how]
            )


HOWS = ("empty", "torn", "one bit", "link", "directory", "fifo", "newer", "another type")


@pytest.mark.parametrize("how", [*HOWS, "unknown state", "state of the other side"])
def test_a_journal_that_cannot_be_used_is_an_error_and_never_no_entry(journals: Journals, how: str) -> None:
    journals.write("web1", entry())
    damaged(journals.directory / "web1/journal.json", how)
    with pytest.raises(NodeError, match=r"^web1: its migration journal .*; find out where the instance runs"):
        journals.read("web1")
    with pytest.raises(NodeError, match="its migration journal"):
        journals.write("web1", entry(2))
    assert journals.names() == ["web1"]


def test_a_forgotten_journal_is_kept_aside(journals: Journals) -> None:
    assert journals.forget("web1") is None
    journals.write("web1", entry())
    damaged(journals.directory / "web1/journal.json", "torn")
    aside = journals.forget("web1")
    assert aside is not None
    assert aside.exists()
    assert journals.read("web1") == Journal()


@pytest.mark.heavy  # a process for each step
@pytest.mark.parametrize("before", [None, entry()])
def test_a_caller_killed_at_any_step_leaves_the_old_journal_or_the_new(
    in_child: InChild, tmp_path: Path, before: JournalEntry | None
) -> None:
    after = entry(state="stopped")

    def journals(place: str) -> Journals:
        return Journals(tmp_path / place)

    def prepare(place: str) -> None:
        if before is not None:
            journals(place).write("web1", before)

    prepare("counted")
    total = count(in_child, lambda: journals("counted").write("web1", after), tmp_path)
    assert total > 3
    seen = set()
    for number in range(1, total + 1):
        place = f"killed{number}"
        prepare(place)

        def killed(number: int = number, place: str = place) -> None:
            at_event(number, die, tmp_path)
            journals(place).write("web1", after)

        assert in_child(killed) == signal.SIGKILL
        found = journals(place).read("web1").last
        assert found in (before, after)
        seen.add(found)
        journals(place).write("web1", after)
        assert journals(place).read("web1").entries == (after,)
    assert before in seen


def test_the_boot_counter_counts_boots_and_not_calls(
    tmp_path: Path, journals: Journals, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [journals.boot(), journals.boot()] == [1, 1]
    path = journals.directory / ".boot"
    for expected in (2, 3):
        write_durable(path, {**read_durable(path), "boot_id": "an earlier boot"})
        assert [journals.boot(), journals.boot()] == [expected, expected]


def test_a_lost_boot_counter_is_not_begun_again(journals: Journals) -> None:
    journals.write("web1", entry())
    with pytest.raises(NodeError, match="is missing, but there are journals beside it"):
        journals.boot()


@pytest.mark.parametrize("value", [None, [], {"boot_id": 1, "number": 1}, {"boot_id": "x", "number": "1"}, {}])
def test_a_damaged_boot_counter_is_an_error(tmp_path: Path, value: object) -> None:
    write_durable(tmp_path / "boot", {"boot_id": "x", "number": 1} if value is None else value)
    if value is None:
        (tmp_path / "boot").write_bytes(b"x")
    with pytest.raises(NodeError, match="boot counter: "):
        BootCounter(tmp_path / "boot").number()


def test_two_callers_at_once_count_one_boot(in_child: InChild, tmp_path: Path) -> None:
    path = tmp_path / "boot"
    write_durable(path, {"boot_id": "an earlier boot", "number": 7})
    children = [in_child(BootCounter(path).number, wait=False) for _ in range(4)]
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4
    assert BootCounter(path).number() == 8


@pytest.mark.live
@ROOT
def test_a_full_disk_keeps_the_old_entry_and_says_so(tmp_path: Path, mount: Mount) -> None:
    place = tmp_path / "state"
    place.mkdir(mode=0o700)
    mount("tmpfs", place, "tmpfs", 0, "size=32k,mode=0700")
    journals = Journals(place / "run-hvcore")
    journals.write("web1", entry())
    fill(place)
    with pytest.raises(NodeError, match=r"cannot be written, got No space left on device; free some space"):
        journals.write("web1", entry(state="stopped"))
    assert journals.read("web1").open == entry()
    assert os.listdir(journals.directory / "web1") == ["journal.json"]


def fill(place: Path) -> None:
    with open(place / "filler", "wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
