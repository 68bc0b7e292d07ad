"""Watching a node: each event once and in order, also those of a time when nobody watched."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sleeper import Sleeper, SleeperSpec

import hvcore.plugin as hv
from hv_fake.plugin import FakeDriver
from hvcore import (
    Attached,
    Bookmark,
    Detached,
    Event,
    EventsLost,
    InputError,
    Instance,
    Node,
    NotFoundError,
    ProgramEnded,
    Started,
    Stopped,
    Watch,
)
from hvcore.deadline import Deadline
from hvcore.host.processes.process import wait_gone
from hvcore.model.events.events import EVENTS
from hvcore.model.record import Phase
from hvcore.operations.context import Context
from hvcore.operations.lifecycle.pause import pause, resume
from hvcore.operations.lifecycle.start import start
from hvcore.operations.lifecycle.stop import cleanup, stop
from hvcore.plugins.loaded_driver import LoadedDriver

SOON_S = 60.0  # for what has to come
NOTHING_S = 0.3  # for what must not

LIVE: Any = {"paused": False, "deadline": Deadline(3600)}

Made = tuple[Context, LoadedDriver]


class Journaled(Sleeper):
    """Guests that sleep, with a file of events. ``programs`` is a program beside each."""

    beside: hv.ProcessId | None = None

    def start(self, spec: SleeperSpec, job: hv.Job) -> None:
        (job.dir / "events").touch()
        super().start(spec, job)

    def watched(self, live: hv.Live) -> hv.Watched:
        name, driver = live.record.name, live.record.driver

        def read(line: bytes) -> Iterable[Event]:
            if line == b"bug":
                raise ZeroDivisionError("oh")
            at = float(line.partition(b" ")[0])
            yield hv.DriverEvent(name=name, driver=driver, at=at, what=line.decode())

        programs = {} if self.beside is None else {"helper of nic0": self.beside}
        files = (hv.EventFile(path=str(live.dir / "events"), reader=lambda _: read),)
        return hv.Watched(files=files, programs=programs)


@pytest.fixture
def made(load: Callable[..., LoadedDriver], context: Callable[..., Context]) -> Callable[[type], Made]:
    def make(driver_class: type) -> Made:
        loaded = load(driver_class)
        return context(loaded), loaded

    return make


@pytest.fixture
def guests(made: Callable[[type], Made]) -> Iterator[Made]:
    """A node whose guests are processes with a file of events; all are ended."""
    node = made(Journaled)
    yield node
    for name in node[0].store.names():
        stop(node[0], name, force=True, deadline=Deadline(20))


def up(node: Made, name: str = "web1") -> None:
    start(node[0], node[1], Instance(name=name, driver="fake"), **LIVE)


def down(node: Made, name: str = "web1") -> None:
    stop(node[0], name, force=False, deadline=Deadline(20))


def process_of(node: Made, name: str = "web1") -> hv.ProcessId:
    record = node[0].store.load(name)
    assert record is not None
    assert record.process is not None
    return record.process


def kill(node: Made, name: str = "web1") -> None:
    process = process_of(node, name)
    os.kill(process.pid, signal.SIGKILL)
    assert wait_gone(process, SOON_S)


def write(node: Made, data: bytes, name: str = "web1") -> None:
    with open(node[0].store.dir(name) / "events", "ab") as file:
        file.write(data)


def watch(node: Made, names: Iterable[str] | None = None, since: Any = None) -> Watch:
    return Watch(node[0], names, since)


def some(watching: Watch, count: int) -> list[Event]:
    """That many events, and no more at this time."""
    found = [watching.take(SOON_S) for _ in range(count)]
    assert None not in found
    assert watching.take(0) is None
    return [event for event in found if event is not None]


def words(events: Iterable[Event]) -> list[str]:
    return [str(event) for event in events]


# ------------------------------------------------------------------------------------------------ starts and ends


def test_a_start_a_pause_a_resume_and_a_stop_are_seen_as_they_happen(made: Any) -> None:
    node = made(FakeDriver)
    with watch(node) as watching:
        assert watching.take(0) is None
        up(node)
        assert words(some(watching, 1)) == ["web1: started"]
        pause(node[0], "web1", deadline=Deadline(10))
        resume(node[0], "web1", deadline=Deadline(10))
        down(node)
        found = [str(watching.take(SOON_S))]
        while found[-1] != "web1: stopped, stop":
            found.append(str(watching.take(SOON_S)))
        # Of what is over at once, only the end need be seen.
        assert set(found) <= {"web1: paused", "web1: resumed", "web1: stopped, stop"}


def test_each_step_is_seen_by_a_caller_that_waits(made: Any) -> None:
    node = made(FakeDriver)
    found: list[str] = []
    with watch(node) as watching:
        for act in (
            lambda: up(node),
            lambda: pause(node[0], "web1", deadline=Deadline(10)),
            lambda: resume(node[0], "web1", deadline=Deadline(10)),
            lambda: down(node),
        ):
            act()
            found += words(some(watching, 1))
    assert found == ["web1: started", "web1: paused", "web1: resumed", "web1: stopped, stop"]


def test_a_guest_that_is_killed_is_reported_without_an_operation(guests: Made) -> None:
    with watch(guests) as watching:
        up(guests)
        (event,) = some(watching, 1)
        assert isinstance(event, Started)
        record = guests[0].store.load("web1")
        assert record is not None
        assert (event.name, event.driver, event.at) == ("web1", "fake", record.started_at)
        kill(guests)
        (event,) = some(watching, 1)
        assert isinstance(event, Stopped)
        down(guests)  # it had ended before: no news
        assert watching.take(NOTHING_S) is None


def test_a_stop_is_told_from_a_crash(guests: Made) -> None:
    up(guests)
    with watch(guests) as watching:
        down(guests)
        (event,) = some(watching, 1)
        assert isinstance(event, Stopped)
        assert event.ended_by is hv.EndedBy.STOP


def test_a_restart_is_an_end_and_a_start(guests: Made) -> None:
    up(guests)
    with watch(guests) as watching:
        down(guests)
        up(guests)
        assert words(some(watching, 2)) == ["web1: stopped, stop", "web1: started"]
        kill(guests)
        up(guests)
        found = [watching.take(SOON_S), watching.take(SOON_S)]
        assert [type(event) for event in found] == [Stopped, Started]


def test_a_start_that_fails_is_no_event(made: Any) -> None:
    node = made(FakeDriver)
    with watch(node) as watching:
        with pytest.raises(hv.HvError):
            start(node[0], node[1], Instance(name="web1", driver="fake", params={"fail_at": "start"}), **LIVE)
        assert watching.take(NOTHING_S) is None


def test_only_the_instances_that_were_asked_for(guests: Made) -> None:
    with watch(guests, ["web2"]) as watching:
        up(guests, "web1")
        up(guests, "web2")
        assert words(some(watching, 1)) == ["web2: started"]
        write(guests, b"1 x\n", "web1")
        kill(guests, "web1")
        kill(guests, "web2")
        (event,) = some(watching, 1)
        assert (event.name, type(event)) == ("web2", Stopped)


def test_an_impossible_name_is_refused(made: Any, node: Node) -> None:
    with pytest.raises(NotFoundError):
        watch(made(FakeDriver), ["../x"])
    with pytest.raises(InputError, match="give a list"):
        node.watch("web1")
    for since in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="since"):
            node.watch(since=since)


@pytest.mark.heavy
def test_a_hundred_instances_are_watched_by_one_thread(made: Any) -> None:
    node = made(FakeDriver)
    names = [f"web{number}" for number in range(100)]
    for name in names[:50]:
        up(node, name)
    with watch(node) as watching:
        for old, new in zip(names[:50], names[50:], strict=True):
            down(node, old)
            up(node, new)
        found = [watching.take(SOON_S) for _ in range(100)]
        assert {str(event) for event in found} == {
            *(f"{name}: started" for name in names[50:]),
            *(f"{name}: stopped, stop" for name in names[:50]),
        }
        assert watching.take(0) is None


# ----------------------------------------------------------------------------------------------- files of events


def test_lines_are_events_in_order_and_half_a_line_waits(guests: Made) -> None:
    up(guests)
    write(guests, b"1 before\n")
    with watch(guests) as watching:
        write(guests, b"2 a\n3 b\n4 ha")
        assert words(some(watching, 2)) == ["web1: driver, 2 a", "web1: driver, 3 b"]
        assert watching.take(NOTHING_S) is None
        write(guests, b"lf\n")
        assert words(some(watching, 1)) == ["web1: driver, 4 half"]


@pytest.mark.heavy
def test_a_burst_of_ten_thousand_lines_is_read_to_the_end(guests: Made) -> None:
    up(guests)
    with watch(guests) as watching:
        write(guests, b"".join(b"%d burst\n" % number for number in range(10_000)))
        found = [watching.take(SOON_S) for _ in range(10_000)]
        assert [event.at for event in found if event is not None] == list(range(10_000))
        assert watching.take(0) is None


def test_an_end_comes_after_the_last_lines(guests: Made) -> None:
    up(guests)
    with watch(guests) as watching:
        write(guests, b"".join(b"%d last\n" % number for number in range(5000)))
        kill(guests)
        found = [watching.take(SOON_S) for _ in range(5001)]
        assert isinstance(found[-1], Stopped)


def test_a_line_of_ten_mebibytes_is_lost_and_the_next_is_read(guests: Made) -> None:
    up(guests)
    with watch(guests) as watching:
        write(guests, b"x" * (10 << 20) + b"\n5 after\n")
        found = [watching.take(SOON_S)]
        while not str(found[-1]).endswith("5 after"):
            found.append(watching.take(SOON_S))
        assert {type(event) for event in found[:-1]} == {EventsLost}
        assert len(found) < 5


@pytest.mark.parametrize("data", [b"\xff\xfe\n", b"[" * 20_000 + b"\n", b"\0" * 100 + b"\n", b"\n\n\n", b"bug\n"])
def test_a_line_that_the_driver_cannot_read_loses_only_itself(guests: Made, data: bytes) -> None:
    up(guests)
    with watch(guests) as watching:
        write(guests, data + b"6 after\n")
        found = [watching.take(SOON_S)]
        while isinstance(found[-1], EventsLost):
            assert "raised" in found[-1].reason
            found.append(watching.take(SOON_S))
        assert str(found[-1]) == "web1: driver, 6 after"


def test_a_file_that_is_cut_or_replaced_is_read_from_its_start(guests: Made) -> None:
    up(guests)
    path = guests[0].store.dir("web1") / "events"
    with watch(guests) as watching:
        write(guests, b"1 a\n2 b\n")
        some(watching, 2)
        path.write_bytes(b"3 c\n")
        assert [type(event).__name__ for event in some(watching, 2)] == ["EventsLost", "DriverEvent"]
        other = path.with_name("other")
        other.write_bytes(b"4 d\n")
        other.rename(path)
        assert [type(event).__name__ for event in some(watching, 2)] == ["EventsLost", "DriverEvent"]
        write(guests, b"5 e\n")
        assert words(some(watching, 1)) == ["web1: driver, 5 e"]


@pytest.mark.parametrize("what", ["fifo", "link", "directory", "nothing", "socket"])
def test_what_replaces_a_file_of_events_does_no_harm(guests: Made, what: str, tmp_path: Path) -> None:
    up(guests)
    path = guests[0].store.dir("web1") / "events"
    with watch(guests) as watching:
        write(guests, b"1 a\n")
        some(watching, 1)
        path.unlink()
        if what == "fifo":
            os.mkfifo(path)
        elif what == "link":
            (tmp_path / "secret").write_text("7 secret\n")
            path.symlink_to(tmp_path / "secret")
        elif what == "directory":
            path.mkdir()
        elif what == "socket":
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(str(path))
        (event,) = some(watching, 1)
        assert isinstance(event, EventsLost)
        assert watching.take(NOTHING_S) is None
        kill(guests)
        assert isinstance(watching.take(SOON_S), Stopped)
        if what == "directory":
            path.rmdir()


def test_a_trimmed_file_says_that_events_were_lost(guests: Made) -> None:
    up(guests)
    with watch(guests) as watching:
        write(guests, b"1 a\n")
        some(watching, 1)
        mark = watching.bookmark
    path = guests[0].store.dir("web1") / "events"
    with path.open("r+b") as file:  # as QEMU goes on at its own place in a file whose beginning was freed
        file.truncate(0)
        file.seek(1 << 20)
        file.write(b"of a line\n2 b\n")
    with watch(guests, since=mark) as watching:
        found = some(watching, 2)
    assert isinstance(found[0], EventsLost)
    assert "bytes of older events were removed" in found[0].reason
    assert str(found[1]) == "web1: driver, 2 b"


def test_a_guest_that_writes_without_end_does_not_starve_the_others(guests: Made) -> None:
    up(guests, "loud")
    up(guests, "quiet")
    ends = threading.Event()

    def shout() -> None:
        with open(guests[0].store.dir("loud") / "events", "ab", buffering=0) as file:
            while not ends.is_set() and file.tell() < 64 << 20:
                file.write(b"1 loud\n" * 5000)

    thread = threading.Thread(target=shout)
    with watch(guests) as watching:
        thread.start()
        try:
            for event in watching:
                if event.name == "loud":
                    break
            write(guests, b"2 here\n", "quiet")
            for number, event in enumerate(watching):
                if event.name == "quiet":
                    break
                assert number < 100_000
        finally:
            ends.set()
            thread.join()


# -------------------------------------------------------------------------------------------------- places in time


def test_what_happened_while_nobody_watched_comes_first(guests: Made) -> None:
    for name in ("gone", "dies", "stays", "again"):
        up(guests, name)
    with watch(guests) as watching:
        for name in ("dies", "stays"):
            write(guests, b"1 seen\n", name)
        some(watching, 2)
        mark = json.loads(json.dumps(watching.bookmark.to_json()))
    write(guests, b"2 unseen\n", "stays")
    write(guests, b"3 unseen\n", "dies")
    kill(guests, "dies")
    down(guests, "gone")
    down(guests, "again")
    up(guests, "again")
    up(guests, "new")
    with watch(guests, since=Bookmark.from_json(mark)) as watching:
        found = some(watching, 7)
        by_name: dict[str, list[str]] = {}
        for event in found:
            by_name.setdefault(event.name, []).append(event.event)
        assert by_name == {
            "gone": ["stopped"],
            "dies": ["driver", "stopped"],
            "stays": ["driver"],
            "again": ["stopped", "started"],
            "new": ["started"],
        }
        again = watching.bookmark
    with watch(guests, since=again) as watching:
        assert watching.take(0) is None


def test_a_bookmark_is_exactly_after_the_last_event_that_was_returned(guests: Made) -> None:
    up(guests)
    with watch(guests) as watching:
        write(guests, b"".join(b"%d x\n" % number for number in range(100)))
        taken = [watching.take(SOON_S) for _ in range(41)]
        assert taken[-1] is not None
        assert taken[-1].at == 40
        mark = watching.bookmark
    with watch(guests, since=mark) as watching:
        assert [event.at for event in some(watching, 59)] == list(range(41, 100))


def test_since_a_time_has_the_events_from_then_on(guests: Made) -> None:
    up(guests)
    record = guests[0].store.load("web1")
    assert record is not None
    write(guests, b"100 old\n200 older\n300 new\n")
    with watch(guests, since=250.0) as watching:
        assert [event.event for event in some(watching, 2)] == ["started", "driver"]
        write(guests, b"7 forged\n")  # a guest chooses its times; what comes now is reported
        assert words(some(watching, 1)) == ["web1: driver, 7 forged"]
    with watch(guests, since=record.started_at + 1) as watching:
        assert watching.take(0) is None


@pytest.mark.parametrize(
    "data", [None, [], {}, {"kind": "Bookmark"}, {"kind": "Bookmark", "version": 9, "marks": {}}, {"marks": {"a": 1}}]
)
def test_what_is_no_bookmark_is_refused(node: Node, data: Any) -> None:
    with pytest.raises(InputError):
        Bookmark.from_json(data)


# ---------------------------------------------------------------------------------------- devices, programs, records


def test_devices_that_come_and_go_are_seen_in_the_record(guests: Made) -> None:
    up(guests)
    store = guests[0].store
    found: list[Event] = []
    with watch(guests) as watching:
        for devices in (["disk1"], ["disk1", "nic1"], ["nic1"]):
            record = store.load("web1")
            assert record is not None
            store.save(replace(record, devices=dict.fromkeys(devices, "disks[1]")))
            found += some(watching, 1)
    assert [type(event) for event in found] == [Attached, Attached, Detached]
    assert str(found[-1]) == "web1: detached, device disk1"


def test_a_program_that_dies_under_a_living_instance_is_an_event(guests: Made) -> None:
    helper = subprocess.Popen(["sleep", "100"])
    Journaled.beside = hv.identify(helper.pid)
    try:
        up(guests)
        with watch(guests) as watching:
            helper.kill()
            (event,) = some(watching, 1)
            assert isinstance(event, ProgramEnded)
            assert str(event) == "web1: program-ended, program helper of nic0"
            mark = watching.bookmark
        with watch(guests, since=mark) as watching:
            assert watching.take(NOTHING_S) is None
    finally:
        Journaled.beside = None
        helper.kill()
        helper.wait()


def test_a_damaged_record_is_reported_once_and_the_end_all_the_same(guests: Made) -> None:
    up(guests)
    path = guests[0].store.dir("web1") / "record.json"
    good = path.read_bytes()
    with watch(guests) as watching:
        path.with_name("x").write_bytes(b"{}")
        path.with_name("x").rename(path)
        (event,) = some(watching, 1)
        assert event.event == "not-watched"
        assert "damaged" in str(event)
        path.with_name("x").write_bytes(good)
        path.with_name("x").rename(path)
        assert watching.take(NOTHING_S) is None
        kill(guests)
        assert isinstance(watching.take(SOON_S), Stopped)


def test_a_run_directory_that_is_wiped_and_comes_back(guests: Made) -> None:
    up(guests)
    process = process_of(guests)
    run_dir = guests[0].store.run_dir
    with watch(guests) as watching:
        shutil.move(run_dir / "instances", run_dir / "elsewhere")
        (event,) = some(watching, 1)
        assert event.event == "not-watched"
        shutil.move(run_dir / "elsewhere", run_dir / "instances")
        assert watching.take(NOTHING_S) is None
        write(guests, b"1 back\n")
        assert words(some(watching, 1)) == ["web1: driver, 1 back"]
        shutil.move(run_dir / "instances", run_dir / "elsewhere")
        os.kill(process.pid, signal.SIGKILL)
        while not isinstance(event, Stopped):
            found = watching.take(SOON_S)
            assert found is not None
            event = found
    shutil.move(run_dir / "elsewhere", run_dir / "instances")


def test_a_run_directory_that_does_not_exist_yet(made: Any, run_dir: Path) -> None:
    node = made(FakeDriver)
    assert not (run_dir / "instances").exists()
    with watch(node) as watching:
        up(node)
        assert words(some(watching, 1)) == ["web1: started"]


def test_an_interrupted_start_that_is_undone_is_no_event(made: Any) -> None:
    node = made(FakeDriver)
    up(node)
    record = node[0].store.load("web1")
    assert record is not None
    node[0].store.save(replace(record, phase=Phase.STARTING))
    with watch(node) as watching:
        assert watching.take(0) is None
        cleanup(node[0], "web1", deadline=Deadline(10))
        assert watching.take(NOTHING_S) is None


# ------------------------------------------------------------------------------------------------------ the iterator


def test_it_can_be_closed_by_another_thread_and_twice(made: Any) -> None:
    watching = watch(made(FakeDriver))
    closer = threading.Timer(0.1, watching.close)
    closer.start()
    assert list(watching) == []
    closer.join()
    watching.close()
    assert watching.take() is None


def test_a_watch_leaves_no_descriptor(guests: Made) -> None:
    up(guests)
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with watch(guests) as watching:
            write(guests, b"1 x\n")
            some(watching, 1)
    assert set(os.listdir("/proc/self/fd")) == before


def test_waiting_takes_no_processor_time(guests: Made) -> None:
    up(guests)
    with watch(guests) as watching:
        before = time.process_time()
        assert watching.take(1.0) is None
        assert time.process_time() - before < 0.1


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.event)
def test_every_event_is_plain_json_with_its_word_and_prints_on_one_line(kind: type[Event]) -> None:
    more: dict[str, Any] = {
        "device": "disk1",
        "program": "passt",
        "status": "active",
        "memory_mib": 64,
        "ended_by": hv.EndedBy.GUEST,
        "reason": "why",
        "what": "X",
    }
    known = {key: value for key, value in more.items() if key in kind.__dataclass_fields__}
    event = kind(name="web1", driver="fake", at=1.5, **known)
    found = json.loads(json.dumps(event.to_json()))
    assert found.items() >= {"event": kind.event, "name": "web1", "driver": "fake", "at": 1.5}.items()
    assert str(event).startswith(f"web1: {kind.event}")
    assert "\n" not in str(event)
