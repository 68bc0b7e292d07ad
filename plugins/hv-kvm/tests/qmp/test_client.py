"""The monitor client against a fake QEMU: everything that a good or bad monitor can send."""

from __future__ import annotations

import array
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hv_kvm.qmp import (
    QmpBusyError,
    QmpClient,
    QmpClosedError,
    QmpCommandError,
    QmpConnectError,
    QmpProtocolError,
    QmpTimeoutError,
    adopt,
    commands,
    connect,
    plugging,
)
from hv_kvm.qmp.client import EVENT_BOUND
from hv_kvm.qmp.wire import LINE_LIMIT, Wire
from hvcore.deadline import Deadline
from hvcore.errors import BusyError, DeadlineError, OperationError

GREETING = {
    "QMP": {
        "version": {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": "Debian"},
        "capabilities": ["oob"],
    }
}
SOON_S = 0.05


class Peer:
    """QEMU's side of the connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._lines = sock.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._lines.close()
        self.sock.close()

    def send(self, *messages: Any) -> None:
        self.raw(b"".join(json.dumps(message).encode() + b"\r\n" for message in messages))

    def raw(self, data: bytes) -> None:
        self.sock.sendall(data)

    def read(self) -> dict[str, Any]:
        body = json.loads(self._lines.readline())
        assert isinstance(body, dict)
        return body

    def greet(self) -> dict[str, Any]:
        """Greeting and negotiation; the request of the client."""
        self.send(GREETING)
        return self.answer({})

    def answer(self, value: Any) -> dict[str, Any]:
        request = self.read()
        self.send({"return": value, "id": request["id"]})
        return request


@contextmanager
def monitor(script: Callable[[Peer], None], *, greet: bool = True) -> Iterator[socket.socket]:
    """Our end of a connection whose other end runs ``script``, and closes when that is done."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(60)
    failures: list[BaseException] = []

    def run() -> None:
        try:
            with Peer(theirs) as peer:
                if greet:
                    peer.greet()
                script(peer)
        except BaseException as error:  # noqa: BLE001  # shown by the test's own thread
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield ours
    finally:
        ours.close()
        thread.join(60)
        assert not thread.is_alive()
        if failures and not isinstance(failures[0], OSError | ValueError):
            raise failures[0]


@contextmanager
def session(script: Callable[[Peer], None], *, oob: bool = False) -> Iterator[QmpClient]:
    with monitor(script) as sock, adopt(sock, deadline_s=60, oob=oob) as client:
        yield client


def test_a_command_has_an_id_and_its_answer_comes_back() -> None:
    seen: list[dict[str, Any]] = []
    with session(lambda peer: seen.append(peer.answer({"a": 1}))) as client:
        assert client.execute("x", {"k": "v"}) == {"a": 1}
    assert seen[0]["execute"] == "x"
    assert seen[0]["arguments"] == {"k": "v"}
    assert seen[0]["id"]


def test_several_commands_are_sent_together_and_answered_in_order() -> None:
    seen: list[dict[str, Any]] = []

    def script(peer: Peer) -> None:
        seen.extend(peer.read() for _ in range(3))
        peer.send(about("RESET"), *({"return": number, "id": request["id"]} for number, request in enumerate(seen)))

    with session(script) as client:
        assert client.execute_all([("a", None), ("b", {"k": 1}), ("c", None)]) == [0, 1, 2]
        assert len(client.take_events()) == 1
    assert [(request["execute"], request.get("arguments")) for request in seen] == [
        ("a", None),
        ("b", {"k": 1}),
        ("c", None),
    ]


def test_an_error_among_several_commands_is_raised_and_the_session_goes_on() -> None:
    def script(peer: Peer) -> None:
        first, second = peer.read(), peer.read()
        wrong = {"class": "GenericError", "desc": "no"}
        peer.send({"error": wrong, "id": first["id"]}, {"return": 2, "id": second["id"]})
        peer.answer(3)

    with session(script) as client:
        with pytest.raises(QmpCommandError, match="no"):
            client.execute_all([("a", None), ("b", None)])
        assert client.execute("c") == 3


def test_sessions_do_not_start_with_the_same_id() -> None:
    ids: list[int] = []
    for _ in range(5):
        with session(lambda peer: ids.append(peer.answer(1)["id"])) as client:
            client.execute("x")
    assert len(set(ids)) > 1


def test_the_greeting_has_the_version() -> None:
    with session(lambda peer: None) as client:
        assert client.greeting.version == "7.2.22"
        assert client.greeting.package == "Debian"


def test_events_before_the_greeting_are_kept() -> None:
    def script(peer: Peer) -> None:
        peer.send({"event": "RESUME"})
        peer.greet()

    with monitor(script, greet=False) as sock, adopt(sock, deadline_s=60) as client:
        assert [event.name for event in client.take_events()] == ["RESUME"]


def test_events_between_command_and_reply_are_kept_in_order() -> None:
    def script(peer: Peer) -> None:
        request = peer.read()
        peer.send(
            {"event": "A", "data": {"n": 1}, "timestamp": {"seconds": 5, "microseconds": 250000}},
            {"event": "B"},
            {"event": "C", "data": None, "timestamp": {"seconds": -1, "microseconds": -1}},
            {"return": 7, "id": request["id"]},
        )

    with session(script) as client:
        assert client.execute("x") == 7
        events = client.take_events()
    assert [(event.name, dict(event.data), event.at) for event in events] == [
        ("A", {"n": 1}, 5.25),
        ("B", {}, None),
        ("C", {}, None),
    ]


def test_an_error_reply_names_the_command_and_leaves_the_session_usable() -> None:
    def script(peer: Peer) -> None:
        request = peer.read()
        peer.send({"error": {"class": "DeviceNotFound", "desc": "Device 'x' not found"}, "id": request["id"]})
        peer.answer({})

    with session(script) as client:
        with pytest.raises(QmpCommandError, match=r"qemu refused device_del \(DeviceNotFound\): Device 'x'") as caught:
            client.execute("device_del")
        assert (caught.value.command, caught.value.error_class) == ("device_del", "DeviceNotFound")
        assert client.execute("x") == {}


def test_no_answer_is_a_timeout_within_the_deadline_that_says_the_outcome_is_unknown() -> None:
    done = threading.Event()
    with session(lambda peer: (peer.read(), done.wait(60), None)[-1]) as client:
        started = time.monotonic()
        with pytest.raises(QmpTimeoutError, match=r"no answer to cont within 0\.1 s; the outcome is unknown") as caught:
            client.execute("cont", deadline_s=SOON_S)
        assert SOON_S <= time.monotonic() - started < 30  # the answer would come after a minute
        assert isinstance(caught.value, DeadlineError)
        done.set()


def test_a_late_reply_is_not_taken_for_the_next_answer() -> None:
    late = threading.Event()

    def script(peer: Peer) -> None:
        first = peer.read()
        late.wait(60)
        peer.send({"return": "late", "id": first["id"]}, {"return": "other", "id": "other"})
        peer.answer("mine")

    with session(script) as client:
        with pytest.raises(QmpTimeoutError):
            client.execute("slow", deadline_s=SOON_S)
        late.set()
        assert client.execute("next") == "mine"


def test_half_a_line_at_the_deadline_is_completed_later() -> None:
    late = threading.Event()

    def script(peer: Peer) -> None:
        first = peer.read()
        peer.raw(b'{"return": "la')
        late.wait(60)
        peer.raw(b'te", "id": ' + json.dumps(first["id"]).encode() + b"}\r\n")
        peer.answer("mine")

    with session(script) as client:
        with pytest.raises(QmpTimeoutError):
            client.execute("slow", deadline_s=SOON_S)
        late.set()
        assert client.execute("next") == "mine"


def test_a_reply_in_single_bytes_is_put_together() -> None:
    def script(peer: Peer) -> None:
        for byte in json.dumps({"return": "ü" * 50, "id": peer.read()["id"]}).encode() + b"\r\n":
            peer.raw(bytes([byte]))

    with session(script) as client:
        assert client.execute("x") == "ü" * 50


@pytest.mark.parametrize("during", ["greeting", "command", "event"])
def test_the_end_of_the_stream_is_a_typed_error(during: str) -> None:
    with monitor(lambda peer: None, greet=during != "greeting") as sock:
        if during == "greeting":
            sock.shutdown(socket.SHUT_WR)
            with pytest.raises(QmpClosedError, match="during greeting"):
                adopt(sock, deadline_s=60)
            return
        client = adopt(sock, deadline_s=60)
        with pytest.raises(QmpClosedError, match="the monitor closed during"):
            client.execute("x") if during == "command" else client.wait_event("STOP", deadline_s=60)
        assert client.closed
        with pytest.raises(QmpClosedError):
            client.execute("again")


def test_a_reset_connection_is_a_closed_one() -> None:
    def script(peer: Peer) -> None:
        peer.sock.recv(1)  # the rest stays unread, so closing resets

    with session(script) as client, pytest.raises(QmpClosedError):
        client.execute("quit")


@pytest.mark.parametrize(
    "line",
    [b"garbage", b"[1, 2]", b"7", b'{"return": {}', b"\xff\xfe\x00", b"[" * 200_000, b'{"a": ' + b"9" * 5000 + b"}"],
    ids=["text", "list", "number", "half", "bytes", "deep", "digits"],
)
def test_what_is_not_qmp_is_a_typed_error_and_closes(line: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.read()
        peer.raw(line + b"\n")

    with session(script) as client:
        with pytest.raises(QmpProtocolError):
            client.execute("x")
        assert client.closed


def receive_all(wire: Wire) -> None:
    while True:
        assert isinstance(wire.receive(what="x", deadline=time.monotonic() + 60), dict)


@given(st.binary(max_size=200))
def test_no_bytes_make_the_wire_raise_anything_else(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        wire = Wire(ours, "test")
        with pytest.raises((QmpClosedError, QmpProtocolError)):
            receive_all(wire)


def test_blank_lines_are_skipped() -> None:
    def script(peer: Peer) -> None:
        peer.raw(b"\r\n\n  \r\n")
        peer.answer(1)

    with session(script) as client:
        assert client.execute("x") == 1


@pytest.mark.parametrize("reply", [{}, {"error": "text"}])
def test_a_reply_without_result_and_error_is_a_protocol_error(reply: dict[str, Any]) -> None:
    with (
        session(lambda peer: peer.send({**reply, "id": peer.read()["id"]})) as client,
        pytest.raises(QmpProtocolError, match="neither return nor error"),
    ):
        client.execute("x")


def test_an_error_without_id_ends_the_session() -> None:
    def script(peer: Peer) -> None:
        peer.read()
        peer.send({"error": {"class": "GenericError", "desc": "JSON parse error"}})

    with session(script) as client:
        with pytest.raises(QmpProtocolError, match="could not read"):
            client.execute("x")
        assert client.closed


@pytest.mark.parametrize("body", [None, {}, {"version": 7}, {"version": {"qemu": []}}, [1]])
def test_a_strange_greeting_is_a_protocol_error(body: Any) -> None:
    with (
        monitor(lambda peer: peer.send({"QMP": body}), greet=False) as sock,
        pytest.raises(QmpProtocolError, match="greeting"),
    ):
        adopt(sock, deadline_s=60)


def test_ten_mebibytes_on_one_line_arrive() -> None:
    with session(lambda peer: (peer.answer("x" * (10 << 20)), None)[1]) as client:
        assert len(client.execute("x")) == 10 << 20


def test_a_line_without_end_is_bounded() -> None:
    def script(peer: Peer) -> None:
        while True:
            peer.raw(b"x" * 65536)

    with monitor(script, greet=False) as sock:
        wire = Wire(sock, "test", line_limit=1 << 20)
        with pytest.raises(QmpProtocolError, match="a line of more than 1048576 bytes"):
            wire.receive(what="x", deadline=time.monotonic() + 60)
        assert wire.closed
    assert LINE_LIMIT == 64 << 20


def test_events_without_end_do_not_outlast_the_deadline_or_the_bound() -> None:
    def script(peer: Peer) -> None:
        peer.read()
        line = b'{"event": "X"}\n' * 1000
        while True:
            peer.raw(line)

    with session(script) as client:
        while not client.dropped_events:  # a busy node may not get far within one deadline
            with pytest.raises(QmpTimeoutError):
                client.execute("x", deadline_s=0.2)
        assert len(client.take_events()) == EVENT_BOUND


def test_the_oldest_events_are_dropped_and_counted() -> None:
    def script(peer: Peer) -> None:
        request = peer.read()
        peer.send(*({"event": "E", "data": {"n": n}} for n in range(EVENT_BOUND + 3)))
        peer.send({"return": {}, "id": request["id"]})

    with session(script) as client:
        client.execute("x")
        assert client.dropped_events == 3
        assert client.take_events()[0].data == {"n": 3}


def test_wait_event_uses_kept_events_first_and_then_new_ones() -> None:
    def script(peer: Peer) -> None:
        peer.send({"event": "STOP"})
        peer.answer({})
        peer.send({"event": "OTHER"}, {"event": "RESUME", "data": {"n": 1}})
        peer.read()

    with session(script) as client:
        client.execute("x")
        assert client.wait_event("STOP", deadline_s=60).name == "STOP"
        assert client.wait_event(lambda event: event.data.get("n") == 1, deadline_s=60).name == "RESUME"
        assert client.take_events() == ()
        with pytest.raises(QmpTimeoutError, match="event STOP"):
            client.wait_event("STOP", deadline_s=SOON_S)


def test_wait_event_skips_late_replies() -> None:
    with session(lambda peer: peer.send({"return": {}, "id": "old"}, {"event": "STOP"})) as client:
        assert client.wait_event("STOP", deadline_s=60).name == "STOP"


def test_a_monitor_that_does_not_read_is_a_timeout_and_the_session_is_over() -> None:
    done = threading.Event()
    with session(lambda peer: (done.wait(60), None)[1]) as client:
        with pytest.raises(QmpTimeoutError, match="no answer to big"):
            client.execute("big", {"data": "x" * (16 << 20)}, deadline_s=0.1)
        assert client.closed
        done.set()


def test_out_of_band_is_negotiated_and_used_only_when_wanted() -> None:
    seen: list[dict[str, Any]] = []

    def script(peer: Peer) -> None:
        seen.append(peer.greet())
        seen.append(peer.answer({}))

    with monitor(script, greet=False) as sock, adopt(sock, deadline_s=60, oob=True) as client:
        client.execute("migrate-recover", {"uri": "x"}, oob=True)
    assert seen[0]["arguments"] == {"enable": ["oob"]}
    assert seen[1]["exec-oob"] == "migrate-recover"
    with session(lambda peer: None) as client, pytest.raises(QmpProtocolError, match="QEMU did not offer that"):
        client.execute("yank", oob=True)


def test_files_travel_with_the_command() -> None:
    names: list[str] = []

    def script(peer: Peer) -> None:
        data, ancillary, _flags, _address = peer.sock.recvmsg(65536, socket.CMSG_SPACE(4))
        fds = array.array("i", ancillary[0][2])
        names.append(os.readlink(f"/proc/self/fd/{fds[0]}"))
        os.close(fds[0])
        peer.send({"return": {}, "id": json.loads(data)["id"]})

    with session(script) as client:
        fd = os.open("/dev/null", os.O_RDONLY)
        client.execute("getfd", {"fdname": "f"}, fds=(fd,))
        os.close(fd)
    assert names == ["/dev/null"]


def listening(path: str, backlog: int = 0) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    directory = os.open(os.path.dirname(path), os.O_PATH)
    try:
        listener.bind(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
    finally:
        os.close(directory)
    listener.listen(backlog)
    return listener


def serve_one(listener: socket.socket) -> None:
    with Peer(listener.accept()[0]) as peer:
        peer.greet()


def test_a_path_of_any_length_is_connected_to(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 120)
    folder.mkdir()
    path = str(folder / "qmp")
    fds = os.listdir("/proc/self/fd")
    with listening(path) as listener:
        thread = threading.Thread(target=serve_one, args=(listener,))
        thread.start()
        with connect(path, deadline_s=60) as client:
            assert client.subject == path
        thread.join(60)
    assert os.listdir("/proc/self/fd") == fds


@pytest.mark.parametrize("what", ["missing", "stale", "file", "long", "nul"])
def test_a_socket_without_a_server_is_dead_and_not_busy(what: str, tmp_path: Path) -> None:
    path = str(tmp_path / "qmp")
    if what == "stale":
        listening(path).close()
    elif what == "file":
        (tmp_path / "qmp").touch()
    elif what == "long":
        path = str(tmp_path / ("n" * 300))
    elif what == "nul":
        path += "\0"
    with pytest.raises(QmpConnectError, match="no monitor listens there") as caught:
        connect(path, deadline_s=60)
    assert isinstance(caught.value, OperationError)
    assert not isinstance(caught.value, BusyError)


def test_a_monitor_held_by_another_client_is_busy(tmp_path: Path) -> None:
    path = str(tmp_path / "qmp")
    with listening(path) as listener, socket.socket(socket.AF_UNIX) as other:
        other.connect(path)
        with listener.accept()[0]:
            with pytest.raises(QmpBusyError, match="busy with another client") as caught:
                connect(path, deadline_s=SOON_S)
            assert caught.value.exit_code == BusyError.exit_code


def test_a_silent_monitor_without_a_client_is_not_called_busy(tmp_path: Path) -> None:
    path = str(tmp_path / "qmp")
    with listening(path), pytest.raises(QmpTimeoutError, match="no greeting of QEMU"):
        connect(path, deadline_s=SOON_S)


@pytest.mark.parametrize(("served", "error"), [(True, QmpBusyError), (False, QmpTimeoutError)])
def test_a_full_backlog_is_busy_if_another_client_is_served_and_else_a_qemu_that_hangs(
    tmp_path: Path, *, served: bool, error: type[Exception]
) -> None:
    path = str(tmp_path / "qmp")
    with listening(path) as listener, ExitStack() as clients:
        others = [clients.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(2 if served else 1)]
        others[0].connect(path)
        if served:
            clients.enter_context(listener.accept()[0])
            others[1].connect(path)
        started = time.monotonic()
        with pytest.raises(error):
            connect(path, deadline_s=0.2)
        assert 0.15 < time.monotonic() - started < 30  # it would stay full for ever


def test_a_full_backlog_that_drains_in_time_is_waited_out(tmp_path: Path) -> None:
    path = str(tmp_path / "qmp")
    with listening(path) as listener, socket.socket(socket.AF_UNIX) as other:
        other.connect(path)

        def serve() -> None:
            listener.accept()[0].close()
            serve_one(listener)

        timer = threading.Timer(0.1, serve)
        timer.start()
        with connect(path, deadline_s=60) as client:
            assert not client.closed
        timer.join(60)


def test_a_program_that_is_not_qemu_costs_the_deadline_and_no_fd(tmp_path: Path) -> None:
    fds = os.listdir("/proc/self/fd")
    with monitor(lambda peer: peer.raw(b"220 mail ESMTP\r\n"), greet=False) as sock, pytest.raises(QmpProtocolError):
        adopt(sock, deadline_s=60)
    assert os.listdir("/proc/self/fd") == fds


def answered(value: Any, ask: Callable[[QmpClient], Any]) -> Any:
    with session(lambda peer: (peer.answer(value), None)[1]) as client:
        return ask(client)


def refused(error_class: str, ask: Callable[[QmpClient], Any]) -> Any:
    def script(peer: Peer) -> None:
        peer.send({"id": peer.read()["id"], "error": {"class": error_class, "desc": "no"}})

    with session(script) as client:
        return ask(client)


def test_an_unknown_run_state_is_kept_as_it_came() -> None:
    status = answered({"status": "dreaming", "running": False, "new": 1}, commands.query_status)
    assert status == commands.RunStatus(state="dreaming", running=False)


def test_vcpus_are_ordered_by_index() -> None:
    rows = [{"cpu-index": n, "thread-id": 100 + n, "target": "x86_64", "qom-path": "/x"} for n in (1, 0)]
    assert [vcpu.thread_id for vcpu in answered(rows, commands.query_cpus_fast)] == [100, 101]


@pytest.mark.parametrize(
    ("reply", "server"),
    [
        ({"enabled": False}, None),
        (
            {"enabled": True, "host": "127.0.0.1", "service": "5901", "family": "ipv4", "auth": "none"},
            commands.VncServer(host="127.0.0.1", port=5901),
        ),
        (
            {"enabled": True, "host": "", "service": "/run/x", "family": "unix"},
            commands.VncServer(host="/run/x", port=None),
        ),
        ({"enabled": True}, None),
    ],
)
def test_where_vnc_listens(reply: dict[str, Any], server: commands.VncServer | None) -> None:
    assert answered(reply, commands.query_vnc) == server


def test_a_qemu_without_vnc_listens_nowhere() -> None:
    assert refused("CommandNotFound", commands.query_vnc) is None


def test_quit_takes_a_closed_monitor_for_agreement() -> None:
    with session(lambda peer: (peer.read(), None)[1]) as client:
        commands.quit(client, deadline_s=60)
        assert client.closed


@pytest.mark.parametrize("reply", [None, [], {}, {"status": 1, "running": True}, {"status": "running", "running": 1}])
def test_an_answer_of_the_wrong_shape_names_the_command(reply: Any) -> None:
    with pytest.raises(QmpProtocolError, match="query-status"):
        answered(reply, commands.query_status)


# ----------------------------------------------------------------------------------------- the guest's answer to an unplug


def about(name: str, **data: Any) -> dict[str, Any]:
    return {"event": name, "data": data, "timestamp": {"seconds": 1, "microseconds": 0}}


OTHERS = (
    {"event": "RESUME", "timestamp": {"seconds": 1, "microseconds": 0}},
    about("DEVICE_DELETED", path="/machine/peripheral/disk1-dev/virtio-backend"),
    about("DEVICE_DELETED", device="disk2-dev", path="/machine/peripheral/disk2-dev"),
    about("DEVICE_UNPLUG_GUEST_ERROR", device="disk2-dev", path="/machine/peripheral/disk2-dev"),
    about("BLOCK_IO_ERROR", device="disk1-dev"),
)


def unplugging(*events: dict[str, Any], there_after: bool = True) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        assert peer.answer({})["arguments"] == {"id": "disk1-dev"}
        peer.send(*OTHERS, *events)
        if not events:
            peer.answer([{"name": "disk1-dev", "type": "child<x>"}] if there_after else [])
        with suppress(ValueError):  # until the other end closes
            peer.read()

    return script


def test_only_the_event_about_the_device_itself_ends_the_wait() -> None:
    deleted = about("DEVICE_DELETED", device="disk1-dev", path="/machine/peripheral/disk1-dev")
    with session(unplugging(deleted)) as client:
        assert plugging.let_go(client, "disk1-dev", left_s=lambda: 60)


@pytest.mark.parametrize("there", [True, False])
def test_without_an_event_about_it_the_device_is_looked_for_at_the_deadline(*, there: bool) -> None:
    with session(unplugging(there_after=there)) as client:
        assert plugging.let_go(client, "disk1-dev", left_s=Deadline(0.1).left) is not there


def test_a_refusal_of_the_guest_is_not_a_silence() -> None:
    no = about("DEVICE_UNPLUG_GUEST_ERROR", device="disk1-dev", path="/machine/peripheral/disk1-dev")
    with session(unplugging(no)) as client, pytest.raises(plugging.UnplugRefusedError):
        plugging.let_go(client, "disk1-dev", left_s=lambda: 60)
