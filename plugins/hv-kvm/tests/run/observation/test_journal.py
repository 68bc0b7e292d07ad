"""The event journal: the meaning of its lines, and that no contents do harm."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hv_kvm.qmp import adopt, commands
from hv_kvm.run.observation.journal import TAIL_BYTES, Journal, last_run_state, read_journal, trim

GREETING = b'{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": []}}'
READY = b'{"return": {}}'


def event(name: str, data: dict[str, Any] | None = None, at: int = 100) -> bytes:
    body: dict[str, Any] = {"timestamp": {"seconds": at, "microseconds": 500000}, "event": name}
    if data is not None:
        body["data"] = data
    return json.dumps(body).encode()


RESUME, STOP = event("RESUME"), event("STOP")
OFF = event("SHUTDOWN", {"guest": True, "reason": "guest-shutdown"})
IO_STOP = {"action": "stop", "nospace": True, "device": "disk0", "operation": "write", "reason": "No space left"}


@pytest.mark.parametrize(
    ("lines", "status", "reason", "guest"),
    [
        ([], "prelaunch", None, None),
        ([GREETING, READY], "prelaunch", None, None),
        ([GREETING, READY, RESUME], "running", None, None),
        ([RESUME, STOP], "paused", None, None),
        ([RESUME, STOP, RESUME], "running", None, None),
        ([RESUME, event("POWERDOWN")], "running", None, None),
        ([RESUME, event("POWERDOWN"), OFF], "shutdown", "guest-shutdown", True),
        ([RESUME, OFF, STOP], "shutdown", "guest-shutdown", True),
        ([RESUME, event("SHUTDOWN", {"guest": False, "reason": "host-qmp-quit"})], "shutdown", "host-qmp-quit", False),
        ([RESUME, event("SHUTDOWN")], "shutdown", None, None),
        ([RESUME, event("SHUTDOWN", {"guest": 1, "reason": ["x"]})], "shutdown", None, None),
        ([RESUME, event("RESET", {"guest": True, "reason": "guest-reset"})], "running", None, None),
        ([RESUME, OFF, STOP, event("RESET")], "prelaunch", None, None),
        ([RESUME, event("SUSPEND")], "suspended", None, None),
        ([RESUME, event("SUSPEND"), event("WAKEUP")], "running", None, None),
        ([RESUME, STOP, event("WAKEUP")], "paused", None, None),
        ([RESUME, event("GUEST_PANICKED", {"action": "pause"}), STOP], "panicked", "pause", None),
        ([RESUME, event("GUEST_PANICKED", {"action": "run"})], "running", None, None),
        (
            [
                RESUME,
                event("GUEST_PANICKED", {"action": "poweroff"}),
                event("SHUTDOWN", {"guest": True, "reason": "guest-panic"}),
            ],
            "panicked",
            "poweroff",
            True,
        ),
        ([event("SHUTDOWN", {"guest": True, "reason": "guest-panic"})], "panicked", None, True),
        ([RESUME, event("BLOCK_IO_ERROR", IO_STOP), STOP], "io-error", "disk0: no space", None),
        ([RESUME, event("BLOCK_IO_ERROR", IO_STOP), STOP, RESUME], "running", None, None),
        ([RESUME, event("BLOCK_IO_ERROR", {**IO_STOP, "action": "report"})], "running", None, None),
        ([RESUME, event("BLOCK_IO_ERROR", {"action": "stop", "nospace": False}), STOP], "io-error", "error", None),
        ([RESUME, event("WATCHDOG", {"action": "pause"}), STOP], "watchdog", "pause", None),
        ([RESUME, event("WATCHDOG", {"action": "reset"}), event("RESET")], "running", None, None),
        ([RESUME, event("SOMETHING_NEW", {"status": "paused"})], "running", None, None),
        ([RESUME, b'{"event": "STOP"'], "running", None, None),
        ([RESUME, b'{"event": ["STOP"]}', b"[]", b"\xff\x00", b"[" * 100_000], "running", None, None),
    ],
)
def test_the_order_of_events_shows_the_state_of_the_guest(
    lines: list[bytes], status: str, reason: str | None, guest: object
) -> None:
    journal = last_run_state(lines)
    assert (journal.status, journal.reason, journal.guest_initiated) == (status, reason, guest)


def test_the_time_is_that_of_the_event_which_explains_the_state() -> None:
    panic = event("GUEST_PANICKED", {"action": "pause"}, at=200)
    assert last_run_state([RESUME, panic, event("STOP", at=201)]).at == 200.5


@pytest.mark.parametrize(
    "stamp", [None, {}, {"seconds": -1, "microseconds": -1}, {"seconds": 1e300, "microseconds": 0}, 7]
)
def test_an_event_without_a_usable_time_still_counts(stamp: Any) -> None:
    line = json.dumps({"event": "RESUME", "timestamp": stamp}).encode()
    assert last_run_state([line]) == Journal(status="running")


def test_control_characters_and_long_text_do_not_reach_the_terminal() -> None:
    line = event("SHUTDOWN", {"guest": True, "reason": "\x1b[2J\r\n" + "x" * 5000})
    reason = last_run_state([line]).reason
    assert reason is not None
    assert reason.isprintable()
    assert len(reason) <= 100


@given(st.lists(st.one_of(st.binary(max_size=80), st.sampled_from([RESUME, STOP, OFF, GREETING]))))
def test_no_bytes_make_the_parser_raise(lines: list[bytes]) -> None:
    last_run_state(lines)


json_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.text(max_size=2), max_size=2),
    st.fixed_dictionaries({"seconds": st.integers(), "microseconds": st.integers() | st.floats()}),
)
names = st.sampled_from(
    ["RESUME", "STOP", "SHUTDOWN", "RESET", "SUSPEND", "WAKEUP", "GUEST_PANICKED", "BLOCK_IO_ERROR", "WATCHDOG"]
)
keys = st.sampled_from(["guest", "reason", "action", "nospace", "device"])


@given(
    st.lists(
        st.fixed_dictionaries({"event": names, "data": st.dictionaries(keys, json_values), "timestamp": json_values})
    )
)
def test_no_json_makes_the_parser_raise(events: list[dict[str, Any]]) -> None:
    journal = last_run_state(json.dumps(body).encode() for body in events)
    assert journal.reason is None or journal.reason.isprintable()


@given(st.binary(max_size=400))
def test_a_journal_cut_anywhere_is_read(tail: bytes) -> None:
    whole = b"\r\n".join([GREETING, READY, RESUME, STOP]) + tail
    for cut in (0, len(whole) // 2, len(whole)):
        last_run_state(whole[cut:].split(b"\n"), from_start=cut == 0)


def write(path: Path, *lines: bytes) -> str:
    path.write_bytes(b"".join(line + b"\r\n" for line in lines))
    return str(path)


def test_a_short_file_is_read_from_its_start(tmp_path: Path) -> None:
    assert read_journal(write(tmp_path / "ev.out", GREETING, READY)).status == "prelaunch"
    assert read_journal(write(tmp_path / "ev.out", GREETING, READY, RESUME)).status == "running"


def test_only_the_end_of_a_long_file_counts(tmp_path: Path) -> None:
    noise = [event("VNC_CONNECTED", {"n": n}) for n in range(1000)]
    assert read_journal(write(tmp_path / "ev.out", RESUME, *noise, STOP)).status == "paused"
    assert read_journal(write(tmp_path / "ev.out", RESUME, *noise)).status == "unknown"


def test_a_huge_sparse_file_costs_no_more_than_its_tail(tmp_path: Path) -> None:
    path = tmp_path / "ev.out"
    with path.open("wb") as file:
        file.truncate(1 << 40)
        file.seek(0, os.SEEK_END)
        file.write(RESUME + b"\n")
    assert read_journal(str(path)).status == "running"


def test_a_missing_file_is_unknown(tmp_path: Path) -> None:
    assert read_journal(str(tmp_path / "none")) == Journal(
        status="unknown", reason="no journal: no such file or directory"
    )


def test_what_a_guest_may_put_in_its_place_is_not_followed(tmp_path: Path) -> None:
    secret = write(tmp_path / "secret", RESUME)
    (tmp_path / "link").symlink_to(secret)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for name in ("link", "fifo", "folder", "bad\0name"):
        assert read_journal(str(tmp_path / name)).status == "unknown"
        assert trim(str(tmp_path / name)) == 0


def test_trim_frees_the_old_events_and_keeps_size_and_tail(tmp_path: Path) -> None:
    path = tmp_path / "ev.out"
    write(path, *[RESUME] * 20_000, STOP)
    before = path.stat()
    freed = trim(str(path), keep=TAIL_BYTES)
    after = path.stat()
    if not freed:
        pytest.skip("this file system has no holes")
    assert after.st_size == before.st_size
    assert freed == (before.st_blocks - after.st_blocks) * 512
    assert after.st_blocks * 512 <= TAIL_BYTES + 2 * after.st_blksize
    assert read_journal(str(path)).status == "paused"
    assert trim(str(path), keep=TAIL_BYTES) == 0


def test_trim_does_not_touch_a_writer_at_its_own_offset(tmp_path: Path) -> None:
    path = tmp_path / "ev.out"
    with path.open("wb") as qemu:
        qemu.write((RESUME + b"\n") * 5000)
        qemu.flush()
        trim(str(path), keep=0)
        qemu.write(STOP + b"\n")
    assert read_journal(str(path)).status == "paused"
    assert path.stat().st_size == 5000 * (len(RESUME) + 1) + len(STOP) + 1


def test_trim_leaves_a_file_with_a_second_name_alone(tmp_path: Path) -> None:
    path = tmp_path / "ev.out"
    write(path, *[RESUME] * 20_000)
    os.link(path, tmp_path / "other")
    blocks = path.stat().st_blocks
    assert trim(str(path), keep=0) == 0
    assert path.stat().st_blocks == blocks


@pytest.mark.live
def test_a_real_qemu_leaves_a_journal_that_outlives_it(tmp_path: Path) -> None:
    """A monitor on a pipe: QEMU reads the negotiation from ev.in and writes its events to the plain file ev.out."""
    os.mkfifo(tmp_path / "ev.in")
    (tmp_path / "ev.out").touch()
    fifo = os.open(tmp_path / "ev.in", os.O_RDWR)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        os.write(fifo, b'{"execute":"qmp_capabilities"}\n')
        argv = [
            *("qemu-system-x86_64", "-machine", "none", "-nodefaults", "-no-user-config", "-display", "none", "-S"),
            *("-chardev", f"pipe,id=ev,path={tmp_path / 'ev'}", "-mon", "chardev=ev,mode=control"),
            *("-chardev", f"socket,id=mon0,fd={theirs.fileno()}", "-mon", "chardev=mon0,mode=control"),
        ]
        process = subprocess.Popen(argv, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL)
        try:
            with adopt(ours, deadline_s=60) as client:
                commands.cont(client)
                client.wait_event("RESUME", deadline_s=60)
                assert read_journal(str(tmp_path / "ev.out")).status in {"prelaunch", "running"}
                process.terminate()
                assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()
            os.close(fifo)
    journal = read_journal(str(tmp_path / "ev.out"))
    assert (journal.status, journal.reason, journal.guest_initiated) == ("shutdown", "host-signal", False)
    assert journal.at is not None


def test_an_event_that_found_no_space_is_noticed_and_hides_not_the_next(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_bytes(RESUME + b"\r\n" + STOP[:40])
    assert read_journal(str(path)) == Journal(status="running", at=100.5, torn=True)
    path.write_bytes(RESUME + b"\r\n" + STOP[:40] + event("STOP", at=200) + b"\r\n")
    assert read_journal(str(path)) == Journal(status="paused", at=200.5)
