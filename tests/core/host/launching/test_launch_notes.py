"""Processes of an instance without state are found for certain, mostly without a scan of /proc."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hvcore import NodeError
from hvcore.host.launching.launch_notes import LaunchNotes, unmarked_for
from hvcore.host.processes.launched import instance_mark, marked_for, marks

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="the notes are root's")


class Proc:
    """The marked processes that a scan of /proc would find, and the number of scans."""

    def __init__(self) -> None:
        self.running: dict[int, str] = {}
        self.looks = 0

    def look(self) -> dict[int, str]:
        self.looks += 1
        return self.running


@pytest.fixture
def proc() -> Proc:
    return Proc()


@pytest.fixture
def notes(tmp_path: Path, proc: Proc) -> LaunchNotes:
    return LaunchNotes(tmp_path / "notes", proc.look)


@pytest.fixture
def web1(tmp_path: Path) -> Path:
    return made(tmp_path / "run/instances/web1")


def made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def test_complete_notes_need_no_scan(notes: LaunchNotes, proc: Proc, web1: Path) -> None:
    assert notes.launched(web1) == []
    assert proc.looks == 1  # the first scan since the boot
    for start in ("1", "2", "3"):
        assert notes.launched(web1) == []
        notes.add(web1, start)
        proc.running[7] = str(web1)
        proc.running.clear()
        notes.remove(web1, start)
    assert proc.looks == 1


def test_a_guest_whose_state_was_wiped_is_found_each_time(notes: LaunchNotes, proc: Proc, web1: Path) -> None:
    notes.launched(web1)
    notes.add(web1, "1")
    proc.running[7] = str(web1)
    web1.rmdir()
    for _ in range(3):
        assert notes.launched(web1) == [7]
        notes.remove(web1, "2")  # the refused start releases only its own
    proc.running.clear()
    assert notes.launched(web1) == []
    looked = proc.looks
    assert notes.launched(web1) == []
    assert proc.looks == looked


def test_a_launch_by_another_start_does_not_hide_the_first(notes: LaunchNotes, proc: Proc, web1: Path) -> None:
    """A driver that does not refuse a second process of the same name."""
    notes.launched(web1)
    notes.add(web1, "1")
    proc.running[7] = str(web1)
    notes.add(web1, "2")
    notes.remove(web1, "2")
    assert notes.launched(web1) == [7]


def test_guests_of_an_older_hvcore_have_no_note_and_are_found(notes: LaunchNotes, proc: Proc, web1: Path) -> None:
    proc.running[7] = str(web1)
    other = made(web1.with_name("other"))
    for _ in range(2):
        assert notes.launched(other) == []
        assert notes.launched(web1) == [7]
        notes.add(other, "1")
        proc.running[8] = str(other)
        assert notes.launched(web1) == [7]
        del proc.running[8]
        notes.remove(other, "1")
    assert proc.looks == 6  # each time: there is a process without a note
    proc.running.clear()
    assert notes.launched(other) == []
    assert notes.launched(web1) == []
    assert proc.looks == 7


def test_notes_of_another_boot_do_not_count(notes: LaunchNotes, proc: Proc, web1: Path, tmp_path: Path) -> None:
    notes.launched(web1)
    notes.add(web1, "1")
    (tmp_path / "notes/complete").unlink()
    (tmp_path / "notes/complete").symlink_to("another-boot pid:[1]")
    other = made(web1.with_name("other"))
    assert notes.launched(other) == []
    assert notes.launched(web1) == []
    assert proc.looks == 3
    assert notes.launched(web1) == []
    assert proc.looks == 3


@pytest.mark.parametrize("wiped", ["all", "content", "complete"])
def test_wiped_notes_do_not_count(notes: LaunchNotes, proc: Proc, web1: Path, tmp_path: Path, wiped: str) -> None:
    notes.launched(web1)
    notes.add(web1, "1")
    proc.running[7] = str(web1)
    for path in (tmp_path / "notes").iterdir():
        if wiped != "complete" or path.name == "complete":
            path.unlink()
    if wiped == "all":
        (tmp_path / "notes").rmdir()
    assert notes.launched(web1) == [7]
    assert notes.launched(web1) == [7]


def test_stale_notes_are_removed_by_a_scan(notes: LaunchNotes, proc: Proc, web1: Path, tmp_path: Path) -> None:
    gone, runs, coming = (made(web1.with_name(name)) for name in ("gone", "runs", "coming"))
    for directory in (web1, gone, runs, coming):
        notes.add(directory, "1")
    proc.running[7] = str(runs)
    for directory in (gone, runs):
        directory.rmdir()
    assert notes.launched(web1) == []
    assert notes.launched(coming) == []
    notes.add(coming, "1")
    assert proc.looks == 3
    kept = {os.readlink(path).partition(" ")[2] for path in (tmp_path / "notes").iterdir() if path.name != "complete"}
    assert kept == {str(runs), str(coming)}


@ROOT
def test_a_directory_of_notes_that_others_can_write_to_is_not_used(
    notes: LaunchNotes, proc: Proc, web1: Path, tmp_path: Path
) -> None:
    notes.launched(web1)
    (tmp_path / "notes").chmod(0o777)
    notes.launched(web1)
    assert proc.looks == 2
    with pytest.raises(NodeError, match="cannot be written to"):
        notes.add(web1, "1")


def test_without_a_directory_of_notes_every_start_scans(proc: Proc, web1: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    notes = LaunchNotes(tmp_path / "file/notes", proc.look)
    notes.add(web1, "1")
    notes.remove(web1, "1")
    proc.running[7] = str(web1)
    assert notes.launched(web1) == notes.launched(web1) == [7]


@pytest.fixture
def launched() -> Iterator[Callable[[Path], int]]:
    """A process with the mark of the instance with that directory."""
    processes: list[subprocess.Popen[bytes]] = []

    def launch(directory: Path) -> int:
        processes.append(subprocess.Popen(["sleep", "60"], env={**os.environ, **dict([instance_mark(directory)])}))
        return processes[-1].pid

    yield launch
    for process in processes:
        process.kill()
        process.wait()


def test_a_scan_of_proc_finds_marked_processes(web1: Path, tmp_path: Path, launched: Callable[[Path], int]) -> None:
    other = made(web1.with_name("web10"))
    one, two, three = launched(web1), launched(other), launched(web1)
    found = marks()
    assert {found[pid] for pid in (one, three)} == {str(web1)}
    assert found[two] == str(other)
    assert marked_for(web1) == sorted((one, three))
    notes = LaunchNotes(tmp_path / "notes")
    assert notes.launched(web1) == sorted((one, three))
    assert notes.launched(other) == [two]


class Unmarked:
    """Processes that cleared their environment, by the directory of their instance."""

    def __init__(self) -> None:
        self.of: dict[Path, list[int]] = {}

    def look(self, directory: Path) -> list[int]:
        return self.of.get(directory, [])


def test_a_process_without_its_mark_is_found_by_the_note(proc: Proc, web1: Path, tmp_path: Path) -> None:
    unmarked = Unmarked()
    notes = LaunchNotes(tmp_path / "notes", proc.look, unmarked.look)
    notes.add(web1, "1")
    web1.rmdir()
    unmarked.of[web1] = [77]
    for _ in range(2):
        assert notes.without_state(web1.parent) == ["web1"]
        assert notes.launched(web1) == [77]
    unmarked.of.clear()
    assert notes.without_state(web1.parent) == []
    assert notes.launched(web1) == []


def test_its_note_is_not_stale(proc: Proc, web1: Path, tmp_path: Path) -> None:
    unmarked = Unmarked()
    notes = LaunchNotes(tmp_path / "notes", proc.look, unmarked.look)
    notes.add(web1, "1")
    web1.rmdir()
    unmarked.of[web1] = [77]
    assert notes.launched(web1.parent / "other") == []  # a scan that makes the notes complete
    assert notes.launched(web1) == [77]


def test_a_process_with_a_root_below_the_directory_needs_no_mark(tmp_path: Path) -> None:
    root = tmp_path / "run/instances/web1/root"
    root.mkdir(parents=True)
    if os.geteuid() != 0:
        pytest.skip("needs root")
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.chroot(root)
        os.write(tell, b"x")
        signal.pause()
    os.read(ready, 1)
    try:
        assert pid in unmarked_for(root.parent)
        assert unmarked_for(root.parent.parent / "web2") == []
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(ready)
        os.close(tell)
