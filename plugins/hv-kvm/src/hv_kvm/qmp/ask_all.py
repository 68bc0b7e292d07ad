"""Questions to many guests at the same time, in one thread and by one deadline.

Each guest gets all its questions in one write, before its greeting: QEMU answers them in their order. So 50 guests take
little more than the processor time of their answers, and guests that hang share the one deadline. Only for commands that
change nothing: a QEMU that hangs executes them when it continues.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Final

from hv_kvm.paths import GuestPaths
from hv_kvm.qmp.client import result_in
from hv_kvm.qmp.errors import (
    QmpBusyError,
    QmpClosedError,
    QmpConnectError,
    QmpError,
    QmpProtocolError,
    QmpTimeoutError,
)
from hv_kvm.qmp.holders import accepted_connections
from hv_kvm.qmp.wire import Wire, try_wire
from hvcore.plugin import Deadline, dataclass

__all__ = ["Answers", "Question", "Questions", "ask_all"]

_LINE_LIMIT: Final = 4 << 20  # a guest with 60 disks has 90 kB
_ROOM_MS: Final = 20
_SECOND_TRY: Final = 0.25  # of the deadline, for a monitor that another program uses

Question = tuple[str, Mapping[str, Any] | None]
"""A command and its arguments."""

Answers = Sequence[Any]
"""For each question the result as plain JSON types, or the `QmpError` of that question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """What to ask one guest."""

    paths: GuestPaths
    questions: tuple[Question, ...]


@dataclass(slots=True, kw_only=True)
class _Asked:
    """One guest, and what is known of its answers."""

    questions: Questions
    first_id: int
    wires: list[Wire] = field(default_factory=list)
    answers: dict[int, Any] = field(default_factory=dict)
    failure: QmpError | None = None
    heard: bool = False  # its monitor serves us: QEMU sends its greeting when it accepts a connection

    @property
    def done(self) -> bool:
        return len(self.answers) == len(self.questions.questions)

    def close(self) -> None:
        while self.wires:
            self.wires.pop().close()


def ask_all(guests: Sequence[Questions], deadline: Deadline) -> list[Answers | QmpError]:
    """The answers of each guest, in order; the error of a guest that did not answer everything by the deadline.

    Asks at the second monitor, which is kept free, and at the first one if the second does not answer soon.
    """
    asked = [_Asked(questions=guest, first_id=int.from_bytes(os.urandom(2)) + 1) for guest in guests]
    try:
        for one in asked:
            _open_one_of(one)
        _until(asked, time.monotonic() + deadline.left() * _SECOND_TRY)
        for one in asked:
            if one.wires and not one.answers:
                _open(one, str(one.questions.paths.commands))
        _until(asked, time.monotonic() + deadline.left())
        return [_result(one, deadline) for one in asked]
    finally:
        for one in asked:
            one.close()


def _open_one_of(one: _Asked) -> bool:
    paths = one.questions.paths
    return _open(one, str(paths.recovery)) or _open(one, str(paths.commands))


def _open(one: _Asked, path: str) -> bool:
    """Connect to that monitor and send all questions. Whether that succeeded."""
    try:
        wire = try_wire(path, line_limit=_LINE_LIMIT)
    except (QmpConnectError, QmpBusyError) as error:
        one.failure = one.failure or error
        return False
    try:
        messages: list[Mapping[str, Any]] = [{"execute": "qmp_capabilities"}]
        for number, (command, arguments) in enumerate(one.questions.questions):
            message = {"execute": command, "id": one.first_id + number}
            messages.append(message | {"arguments": arguments} if arguments else message)
        wire.send_all(messages, what="the questions", deadline=0.0)
    except QmpError as error:
        one.failure = error
        return False
    one.wires.append(wire)
    return True


class _Waiting:
    """The connections that have answers to give."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._of: dict[int, tuple[_Asked, Wire]] = {}

    def __len__(self) -> int:
        return len(self._of)

    def add(self, one: _Asked) -> None:
        """Wait for the connections of that guest."""
        for wire in one.wires:
            self._of[wire.fileno()] = (one, wire)
            self._poll.register(wire.fileno(), select.POLLIN)

    def read(self, at_most_ms: float) -> None:
        """Take what arrives within that time; a guest that has answered everything is done with."""
        for fd, _ in self._poll.poll(int(at_most_ms) + 1):
            if fd not in self._of:
                continue
            one, wire = self._of[fd]
            mine = {each.fileno() for each in one.wires}
            _read(one, wire)
            for number in mine if one.done else {fd} if wire.closed else ():
                self._poll.unregister(number)
                del self._of[number]
            if one.done:
                one.close()
            elif wire.closed:
                one.wires.remove(wire)


def _until(asked: Sequence[_Asked], until: float) -> None:
    """Read answers until every guest has given all, or until that time in monotonic seconds."""
    waiting = _Waiting()
    for one in asked:
        waiting.add(one)
    no_room = [one for one in asked if not one.wires and isinstance(one.failure, QmpBusyError)]
    while (waiting or no_room) and (left_ms := (until - time.monotonic()) * 1000) > 0:
        # The kernel does not report room in the backlog of a monitor.
        waiting.read(min(left_ms, _ROOM_MS) if no_room else left_ms)
        for one in [one for one in no_room if _open_one_of(one)]:
            no_room.remove(one)
            waiting.add(one)


def _read(one: _Asked, wire: Wire) -> None:
    """Take what the monitor has sent. An error closes this connection."""
    last = one.first_id + len(one.questions.questions)
    try:
        for message in wire.arrived(what="the answers"):
            one.heard = True
            number = message.get("id")
            if type(number) is int and one.first_id <= number < last:
                command = one.questions.questions[number - one.first_id][0]
                one.answers[number - one.first_id] = _answer(message, command, wire.subject)
            elif "error" in message and number is None and "event" not in message:
                wire.close()
                raise QmpProtocolError(subject=wire.subject, what="qemu could not read a command")
    except QmpError as error:
        one.failure = error


def _answer(message: Mapping[str, Any], command: str, subject: str) -> Any:
    try:
        return result_in(message, command, subject)
    except QmpError as error:
        return error


def _result(one: _Asked, deadline: Deadline) -> Answers | QmpError:
    if one.done:
        return [one.answers[number] for number in range(len(one.questions.questions))]
    path, full = str(one.questions.paths.commands), isinstance(one.failure, QmpBusyError)
    if not one.wires and one.failure is not None and not full:
        return one.failure
    if not one.wires and not full:
        return QmpClosedError(subject=path, during="the answers")
    # A QEMU that hangs accepts no connection.
    tried = [wire.subject for wire in one.wires] or [path, str(one.questions.paths.recovery)]
    if not one.heard and all(accepted_connections(each) for each in tried):
        return QmpBusyError(subject=path, waited_s=deadline.seconds)
    return QmpTimeoutError(subject=path, command="the questions", waited_s=deadline.seconds)
