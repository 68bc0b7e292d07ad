"""The events in a guest's journal, and who ended a guest."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from world import PATIENCE_S, World

import hvcore
import hvcore.plugin as hv
from hv_kvm.qmp import commands, reach
from hv_kvm.run.observation.events import JournalReader
from hv_kvm.run.observation.observe import observe
from hvcore import EndedBy, Event, State
from hvcore.model.record import Phase

ABOUT: dict[str, Any] = {"name": "web1", "driver": "kvm", "at": 100.5}


def line(name: Any, data: Any = None, at: int = 100) -> bytes:
    body: dict[str, Any] = {"timestamp": {"seconds": at, "microseconds": 500000}, "event": name}
    return json.dumps(body if data is None else {**body, "data": data}).encode()


def events(*lines: bytes, has_run: bool = True) -> list[Event]:
    reader = JournalReader("web1", "kvm", has_run=has_run)
    return [event for one in lines for event in reader(one)]


IO_ERROR = {"device": "disk0", "operation": "write", "action": "stop", "nospace": True, "reason": "No space left"}


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([line("STOP")], [hvcore.Paused(**ABOUT)]),
        ([line("RESUME")], [hvcore.Resumed(**ABOUT)]),
        ([line("RESET", {"guest": True, "reason": "guest-reset"})], [hvcore.Reset(by_guest=True, **ABOUT)]),
        ([line("RESET")], [hvcore.Reset(**ABOUT)]),
        ([line("SUSPEND")], [hvcore.Paused(reason="the guest is suspended", **ABOUT)]),
        ([line("WAKEUP")], [hvcore.Resumed(**ABOUT)]),
        (
            [line("GUEST_PANICKED", {"action": "pause"}), line("STOP")],
            [hvcore.Panic(action="pause", **ABOUT), hvcore.Paused(reason="the guest panicked", **ABOUT)],
        ),
        ([line("WATCHDOG", {"action": "reset"})], [hvcore.Watchdog(action="reset", **ABOUT)]),
        (
            [line("BLOCK_IO_ERROR", IO_ERROR), line("STOP")],
            [
                hvcore.IoError(
                    device="disk0",
                    operation="write",
                    action="stop",
                    no_space=True,
                    reason="No space left",
                    **ABOUT,
                ),
                hvcore.Paused(reason="error of disk0, no space", **ABOUT),
            ],
        ),
        (
            [line("BLOCK_IO_ERROR", {"action": "report", "device": "disk0"}), line("STOP")],
            [hvcore.IoError(device="disk0", action="report", **ABOUT), hvcore.Paused(**ABOUT)],
        ),
        ([line("BALLOON_CHANGE", {"actual": 64 << 20})], [hvcore.Balloon(memory_mib=64, **ABOUT)]),
        (
            [line("DEVICE_DELETED", {"device": "disk1", "path": "/machine/x"})],
            [hvcore.DeviceDeleted(device="disk1", path="/machine/x", **ABOUT)],
        ),
        ([line("MIGRATION", {"status": "active"})], [hvcore.MigrationStatus(status="active", **ABOUT)]),
        # The core reports the end, and a guest that shuts down is not paused.
        ([line("SHUTDOWN", {"guest": True, "reason": "guest-shutdown"}), line("STOP")], []),
        ([line("POWERDOWN")], [hvcore.DriverEvent(what="POWERDOWN", **ABOUT)]),
        ([line("NEW", {"a": [1, "x\n"]})], [hvcore.DriverEvent(what="NEW", data={"a": [1, "x?"]}, **ABOUT)]),
        ([line("NEW", {"a": "x" * 3000})], [hvcore.DriverEvent(what="NEW", **ABOUT)]),
        ([b'{"QMP": {}}', b'{"return": {}}', b"", b"\0\0", b"[1]", b'{"event": 7}', b'{"event"'], []),
    ],
)
def test_each_line_is_an_event(lines: list[bytes], expected: list[Event]) -> None:
    assert events(*lines) == expected


def test_the_first_resume_is_the_end_of_the_start() -> None:
    assert events(line("RESUME"), line("STOP"), line("RESUME"), has_run=False) == [
        hvcore.Paused(**ABOUT),
        hvcore.Resumed(**ABOUT),
    ]


@pytest.mark.parametrize(
    "name", ["BALLOON_CHANGE", "BLOCK_IO_ERROR", "DEVICE_DELETED", "MIGRATION", "WATCHDOG", "RESET"]
)
@pytest.mark.parametrize("data", [[], 7, {}, {"actual": -1}, {"actual": True}, {"actual": 1 << 70}, {"device": [1]}])
def test_wrong_data_of_a_known_event_does_no_harm(name: str, data: Any) -> None:
    (event,) = events(line(name, data))
    json.dumps(event.to_json(), allow_nan=False)


@given(
    name=st.text(max_size=300),
    data=st.dictionaries(
        st.text(max_size=5), st.none() | st.floats() | st.text() | st.lists(st.integers(), max_size=3), max_size=3
    ),
)
def test_any_event_becomes_one_that_is_short_and_printable(name: str, data: dict[str, Any]) -> None:
    for event in events(line(name, data)):
        text = json.dumps(event.to_json(), allow_nan=False)
        assert len(text) < 8192
        assert event.details.isprintable()


@given(data=st.binary(max_size=300))
def test_any_bytes_do_no_harm(data: bytes) -> None:
    events(data)


@pytest.mark.parametrize(
    ("code", "journal", "state", "by"),
    [
        (0, [line("SHUTDOWN", {"guest": True, "reason": "guest-shutdown"})], State.SHUTDOWN, EndedBy.GUEST),
        (
            0,
            [line("POWERDOWN", at=90), line("SHUTDOWN", {"guest": True, "reason": "guest-shutdown"}, at=100)],
            State.SHUTDOWN,
            EndedBy.POWERDOWN,
        ),
        (
            0,
            [line("POWERDOWN", at=90), line("SHUTDOWN", {"guest": True, "reason": "guest-shutdown"}, at=9000)],
            State.SHUTDOWN,
            EndedBy.GUEST,
        ),
        (
            0,
            [line("POWERDOWN"), line("RESET", {"guest": True}), line("SHUTDOWN", {"guest": True})],
            State.SHUTDOWN,
            EndedBy.GUEST,
        ),
        (0, [line("SHUTDOWN", {"guest": False, "reason": "host-qmp-quit"})], State.SHUTDOWN, EndedBy.OUTSIDE),
        (0, [], State.SHUTDOWN, EndedBy.UNKNOWN),
        (0, [line("GUEST_PANICKED", {"action": "poweroff"})], State.CRASHED, EndedBy.PANIC),
        (1, [], State.CRASHED, EndedBy.CRASH),
        (128 + signal.SIGSEGV, [], State.CRASHED, EndedBy.CRASH),
        (128 + signal.SIGABRT, [], State.CRASHED, EndedBy.CRASH),
        (128 + signal.SIGKILL, [line("SHUTDOWN", {"guest": True})], State.CRASHED, EndedBy.KILLED),
        (None, [], State.CRASHED, EndedBy.UNKNOWN),
    ],
)
def test_who_ended_a_guest(tmp_path: Path, code: int | None, journal: list[bytes], state: State, by: EndedBy) -> None:
    (tmp_path / "guest").mkdir()
    started = [b'{"QMP": {}}', b'{"return": {}}', line("RESUME", at=80)]
    (tmp_path / "guest/events.out").write_bytes(b"\n".join([*started, *journal, b""]))
    if code is not None:
        (tmp_path / "status").write_text(json.dumps({"exit-code": code}) + "\n")
    record = hv.Record(
        name="web1",
        driver="kvm",
        phase=Phase.RUNNING,
        boot_id=hv.boot_id(),
        instance=hvcore.Instance(name="web1", driver="kvm"),
        spec={},
        process=hv.ProcessId(pid=2**22 - 1, start_ticks=1, boot_id=hv.boot_id()),
    )
    host = hv.Host(run_dir=tmp_path, privileged=False, uid_pool=range(1))
    found = observe(hv.Live(record=record, dir=tmp_path, host=host))
    assert (found.state, found.ended_by) == (state, by)


# ---------------------------------------------------------------------------------------------------------- real guests


def ended(world: World, name: str = "web1") -> hvcore.InstanceInfo:
    return world.node.wait(name, state=(State.SHUTDOWN, State.CRASHED), deadline_s=PATIENCE_S)


@pytest.mark.live
def test_events_and_ends_of_real_guests_are_told_apart(world: World) -> None:
    with world.node.watch() as watching:

        def until(kind: type[Event], name: str) -> Event:
            for event in iter(lambda: watching.take(PATIENCE_S), None):
                if event.name == name and isinstance(event, kind):
                    return event
            raise AssertionError(f"no {kind.__name__} of {name}")

        off = world.disk("off.img", exit_after_boot="poweroff")
        world.start("itself", disks=[off])
        until(hvcore.Started, "itself")
        stopped = until(hvcore.Stopped, "itself")
        assert isinstance(stopped, hvcore.Stopped)
        assert stopped.ended_by is EndedBy.GUEST
        assert ended(world, "itself").ended_by is EndedBy.GUEST

        world.pressable("pressed")
        world.node.pause("pressed")
        until(hvcore.Paused, "pressed")
        world.node.resume("pressed")
        until(hvcore.Resumed, "pressed")
        with reach(world.dir("pressed"), PATIENCE_S) as client:
            commands.system_powerdown(client)
        stopped = until(hvcore.Stopped, "pressed")
        assert isinstance(stopped, hvcore.Stopped)
        assert stopped.ended_by is EndedBy.POWERDOWN

        for name, number, by in (
            ("killed", signal.SIGKILL, EndedBy.KILLED),
            ("asked", signal.SIGTERM, EndedBy.OUTSIDE),
        ):
            world.start(name)
            until(hvcore.Started, name)
            os.kill(world.pid(name), number)
            stopped = until(hvcore.Stopped, name)
            assert isinstance(stopped, hvcore.Stopped)
            assert (stopped.ended_by, ended(world, name).ended_by) == (by, by), stopped
        listed = {one.name: one.ended_by for one in world.node.instances()}
        assert listed["asked"] is EndedBy.OUTSIDE
        world.start("stops")
        until(hvcore.Started, "stops")
        world.node.stop("stops", force=True)
        stopped = until(hvcore.Stopped, "stops")
        assert isinstance(stopped, hvcore.Stopped)
        assert stopped.ended_by is EndedBy.STOP


@pytest.mark.live
def test_a_journal_that_was_trimmed_says_that_events_were_lost(world: World) -> None:
    world.start()
    with world.node.watch() as watching:
        mark = watching.bookmark
    journal = Path(world.dir(), "guest", "events.out")
    with journal.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        while file.tell() < 2 << 20:
            file.write((line("RTC_CHANGE", {"offset": 0}) + b"\n") * 1000)
    assert world.info().state is State.RUNNING  # a listing trims it
    with world.node.watch(since=mark) as watching:
        first = watching.take(PATIENCE_S)
    assert isinstance(first, hvcore.EventsLost)
    assert "bytes of older events were removed" in first.reason
