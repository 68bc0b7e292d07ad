"""Questions to many monitors at once, against stand-ins that answer, hang, break off or send anything."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from hv_kvm.paths import GuestPaths
from hv_kvm.qmp import QmpBusyError, QmpClosedError, QmpCommandError, QmpConnectError, QmpProtocolError, QmpTimeoutError
from hv_kvm.qmp.ask_all import Question, Questions, ask_all
from hvcore.plugin import Deadline

PATIENCE_S: Final = 60.0
SOON_S: Final = 0.4
GREETING: Final = b'{"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}}, "capabilities": []}}\r\n'
ASKED: Final[tuple[Question, ...]] = (("query-a", None), ("query-b", {"x": 1}))

Script = Callable[[socket.socket, list[dict[str, Any]]], None]


def line(message: Any) -> bytes:
    return json.dumps(message).encode() + b"\r\n"


class Monitors:
    """Guests with stand-in monitors, each served by a thread."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self._number = 0

    def guest(self, *, oob: Script | None, qmp: Script | None = None) -> Questions:
        """A guest whose second and first monitor do this. None: nothing listens there."""
        self._number += 1
        directory = self._folder / f"guest{self._number}"
        directory.mkdir()
        for name, script in (("qmp-oob", oob), ("qmp", qmp)):
            if script is not None:
                self._listen(directory / name, script)
        return Questions(paths=GuestPaths(directory), questions=ASKED)

    def _listen(self, path: Path, script: Script) -> None:
        server = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        server.bind(str(path))
        server.listen(1)
        thread = threading.Thread(target=_serve, args=(server, script))
        thread.start()
        self._stack.callback(thread.join, PATIENCE_S)
        self._stack.callback(_stop, server)


def _stop(server: socket.socket) -> None:
    with suppress(OSError):
        server.shutdown(socket.SHUT_RDWR)  # wakes its thread up


def _serve(server: socket.socket, script: Script) -> None:
    with suppress(OSError):
        client, _ = server.accept()
        client.settimeout(PATIENCE_S)
        with client, client.makefile("rb") as lines:
            client.sendall(GREETING)
            asked = [json.loads(lines.readline()) for _ in range(1 + len(ASKED))]
            client.sendall(line({"return": {}}))
            script(client, asked[1:])
            with suppress(OSError):
                client.recv(1)  # until the other side has closed


def answers(client: socket.socket, asked: Sequence[dict[str, Any]]) -> None:
    for number, message in enumerate(asked):
        client.sendall(line({"return": number, "id": message["id"]}))


def hangs(client: socket.socket, asked: object) -> None:
    """Nothing after the greeting, as a guest whose storage hangs."""


@pytest.fixture
def monitors(tmp_path: Path) -> Iterator[Monitors]:
    with ExitStack() as stack:
        yield Monitors(tmp_path, stack)


def ask(*guests: Questions, deadline_s: float = PATIENCE_S) -> list[Any]:
    return ask_all(guests, Deadline(deadline_s))


def test_each_guest_gets_its_questions_and_its_answers_in_order(monitors: Monitors) -> None:
    seen: list[dict[str, Any]] = []

    def records(client: socket.socket, asked: list[dict[str, Any]]) -> None:
        seen.extend(asked)
        answers(client, asked)

    assert ask(monitors.guest(oob=records), *(monitors.guest(oob=answers) for _ in range(5))) == [[0, 1]] * 6
    assert [(message["execute"], message.get("arguments")) for message in seen] == [*ASKED]
    assert ask() == []


def test_two_that_hang_cost_one_deadline_and_no_other_guest_its_answers(monitors: Monitors) -> None:
    begun = time.monotonic()
    found = ask(
        *(monitors.guest(oob=hangs, qmp=hangs) for _ in range(2)), monitors.guest(oob=answers), deadline_s=SOON_S
    )
    assert SOON_S <= time.monotonic() - begun < SOON_S + 10.0
    assert [type(one) for one in found] == [QmpTimeoutError, QmpTimeoutError, list]
    assert found[2] == [0, 1]


def test_the_first_monitor_answers_where_the_second_is_silent_or_missing(monitors: Monitors) -> None:
    found = ask(
        monitors.guest(oob=hangs, qmp=answers), monitors.guest(oob=None, qmp=answers), deadline_s=PATIENCE_S / 4
    )
    assert found == [[0, 1], [0, 1]]


def test_no_monitor_at_all_is_reported_at_once(monitors: Monitors) -> None:
    (found,) = ask(monitors.guest(oob=None))
    assert isinstance(found, QmpConnectError)


@pytest.mark.parametrize(("accepts", "error"), [(True, QmpBusyError), (False, QmpTimeoutError)])
def test_a_monitor_whose_backlog_is_full_is_busy_only_if_it_serves_a_client(
    monitors: Monitors, *, accepts: bool, error: type
) -> None:
    guest = monitors.guest(oob=None)
    with ExitStack() as stack:
        for name in ("qmp", "qmp-oob"):
            path = str(guest.paths.commands.with_name(name))
            server = stack.enter_context(socket.socket(socket.AF_UNIX))
            server.bind(path)
            server.listen(0)
            for number in range(4):
                client = stack.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                with suppress(BlockingIOError):
                    client.connect(path)
                if accepts and not number:
                    stack.enter_context(server.accept()[0])
        (found,) = ask(guest, deadline_s=SOON_S)
    assert type(found) is error


def test_events_half_lines_and_foreign_ids_are_no_answers(monitors: Monitors) -> None:
    def talkative(client: socket.socket, asked: list[dict[str, Any]]) -> None:
        first, second = asked
        client.sendall(line({"event": "RESUME", "timestamp": {}}) + line({"return": 9, "id": first["id"] + 17}))
        answer = line({"return": "a", "id": first["id"]})
        client.sendall(b"\r\n" + answer[:7])
        client.sendall(answer[7:] + line({"event": "NO_SUCH_EVENT"}) + line({"return": "b", "id": second["id"]}))

    assert ask(monitors.guest(oob=talkative)) == [["a", "b"]]


def test_a_refused_question_leaves_the_other_answers(monitors: Monitors) -> None:
    def refuses(client: socket.socket, asked: list[dict[str, Any]]) -> None:
        error = {"class": "DeviceNotActive", "desc": "No balloon device has been activated"}
        client.sendall(line({"error": error, "id": asked[0]["id"]}) + line({"return": 2, "id": asked[1]["id"]}))

    ((refused, answered),) = ask(monitors.guest(oob=refuses))
    assert isinstance(refused, QmpCommandError)
    assert refused.error_class == "DeviceNotActive"
    assert answered == 2


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"not JSON\n", QmpProtocolError),
        (b"[1, 2]\n", QmpProtocolError),
        (b'{"error": {"class": "GenericError", "desc": "JSON parse error"}}\n', QmpProtocolError),
        (b'{"event": "' + b"x" * (5 << 20), QmpProtocolError),  # a line without an end
    ],
)
def test_what_is_not_qmp_is_the_error_of_that_guest(monitors: Monitors, sent: bytes, error: type) -> None:
    def sends(client: socket.socket, asked: object) -> None:
        client.sendall(sent)

    found = ask(monitors.guest(oob=sends), monitors.guest(oob=answers), deadline_s=PATIENCE_S / 4)
    assert type(found[0]) is error
    assert found[1] == [0, 1]


def test_a_qemu_that_exits_in_between_is_reported(monitors: Monitors) -> None:
    def exits(client: socket.socket, asked: list[dict[str, Any]]) -> None:
        client.sendall(line({"return": 1, "id": asked[0]["id"]}))
        client.shutdown(socket.SHUT_RDWR)

    (found,) = ask(monitors.guest(oob=exits))
    assert isinstance(found, QmpClosedError)
