"""A blocking QMP client: commands with ids and deadlines, events kept in order.

QMP is one JSON object per line (QEMU, docs/interop/qmp-spec.rst). A monitor serves one client at a time, so
connections are short, or there is a second monitor for a long one::

    with connect("/run/hvcore/kvm/web1/qmp", deadline_s=5) as client:
        client.execute("cont", deadline_s=5)
        client.wait_event("RESUME", deadline_s=5)

Not for several threads at once. Nothing is logged: arguments can hold secrets.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from hv_kvm.event import QmpEvent, read_event
from hv_kvm.paths import GuestPaths
from hv_kvm.qmp.errors import QmpBusyError, QmpCommandError, QmpConnectError, QmpProtocolError, QmpTimeoutError
from hv_kvm.qmp.holders import accepted_connections
from hv_kvm.qmp.wire import Wire, open_wire
from hvcore.plugin import dataclass

__all__ = ["COMMAND_DEADLINE_S", "EVENT_BOUND", "Greeting", "QmpClient", "adopt", "connect", "reach"]

COMMAND_DEADLINE_S: Final = 5.0
"""Default seconds to wait for the reply to a command."""

EVENT_BOUND: Final = 1000
"""The most events that are kept for the caller; then the oldest are dropped and counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """QEMU's first message: its version, only for people to read, and whether it offers out-of-band commands."""

    version: str
    package: str
    offers_oob: bool


class QmpClient:
    """A session on one monitor, past its greeting. Made by `connect` or `adopt`; a context manager that closes."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._events: deque[QmpEvent] = deque()
        # Not from 0, so that a reply meant for an earlier connection is not taken for one to this. And short: QEMU
        # takes about 3 us for each byte of a command.
        self._last_id = int.from_bytes(os.urandom(2))
        self._oob = False
        self._greeting: Greeting | None = None
        self.dropped_events = 0
        """How many events were lost because the caller did not take them in time."""

    @property
    def subject(self) -> str:
        """The monitor's name in errors, usually its socket path."""
        return self._wire.subject

    @property
    def greeting(self) -> Greeting:
        """QEMU's greeting."""
        if self._greeting is None:
            raise QmpProtocolError(subject=self.subject, what="no greeting was read")
        return self._greeting

    @property
    def closed(self) -> bool:
        """True when the connection cannot be used any more."""
        return self._wire.closed

    def close(self) -> None:
        """End the session; harmless when it has ended. Descriptors given by getfd stay in QEMU until closefd."""
        self._wire.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def negotiate(self, *, deadline_s: float, oob: bool = False) -> None:
        """Read the greeting and enter command mode, with out-of-band execution if ``oob`` and QEMU offers it.

        Called by `connect` and `adopt`. Raises QmpTimeoutError with command ``greeting`` when QEMU sends nothing.
        """
        deadline = time.monotonic() + deadline_s
        while self._greeting is None:
            message = self._receive("greeting", deadline, deadline_s)
            if "QMP" in message:
                self._greeting = _greeting(message["QMP"], self.subject)
        self._oob = oob and self._greeting.offers_oob
        arguments = {"enable": ["oob"]} if self._oob else None
        self.execute("qmp_capabilities", arguments, deadline_s=deadline - time.monotonic())

    def execute(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        deadline_s: float = COMMAND_DEADLINE_S,
        fds: Sequence[int] = (),
        oob: bool = False,
    ) -> Any:
        """The result of the command, as plain JSON types; ``fds`` are sent with it, for getfd and add-fd.

        With ``oob`` QEMU runs it although its main loop is blocked; only a few commands allow that (migrate-recover,
        migrate-pause, yank). Raises QmpCommandError when QEMU refuses, QmpTimeoutError when the outcome is unknown,
        QmpClosedError when QEMU exits first, QmpProtocolError when the reply is not QMP.
        """
        if oob and not self._oob:
            raise QmpProtocolError(
                subject=self.subject, what=f"{command} cannot be sent out of band, QEMU did not offer that"
            )
        deadline = time.monotonic() + deadline_s
        message = self._message(command, arguments, oob=oob)
        self._wire.send(message, what=command, deadline=deadline, fds=fds)
        return self._result_of(command, message["id"], deadline, deadline_s)

    def execute_all(
        self, commands: Sequence[tuple[str, Mapping[str, Any] | None]], *, deadline_s: float = COMMAND_DEADLINE_S
    ) -> list[Any]:
        """The results of several commands that are sent together, in their order: one wait for QEMU in place of many.

        Raises as `execute`, with the first error; QEMU runs the others all the same.
        """
        deadline = time.monotonic() + deadline_s
        messages = [self._message(command, arguments) for command, arguments in commands]
        self._wire.send_all(messages, what=commands[0][0], deadline=deadline)
        names = (command for command, _ in commands)
        return [
            self._result_of(name, message["id"], deadline, deadline_s)
            for name, message in zip(names, messages, strict=True)
        ]

    def _message(self, command: str, arguments: Mapping[str, Any] | None, *, oob: bool = False) -> dict[str, Any]:
        self._last_id += 1
        message: dict[str, Any] = {"exec-oob" if oob else "execute": command, "id": self._last_id}
        return {**message, "arguments": arguments} if arguments else message

    def _result_of(self, command: str, command_id: int, deadline: float, deadline_s: float) -> Any:
        while True:
            reply = self._receive(command, deadline, deadline_s)
            if reply.get("id") == command_id:
                return result_in(reply, command, self.subject)
            if "error" in reply and "id" not in reply:
                # QEMU could not parse a line of ours and does not say which one, so the session is over.
                self.close()
                raise QmpProtocolError(subject=self.subject, what=f"qemu could not read {command}")

    def wait_event(self, wanted: str | Callable[[QmpEvent], bool], *, deadline_s: float) -> QmpEvent:
        """The first event of that name, or that the function accepts, kept or new.

        That event and all events before it are used up. Raises QmpTimeoutError and QmpClosedError.
        """
        deadline = time.monotonic() + deadline_s
        what = f"event {wanted}" if isinstance(wanted, str) else "an event"
        while True:
            while self._events:
                event = self._events.popleft()
                if event.name == wanted if isinstance(wanted, str) else wanted(event):
                    return event
            self._receive(what, deadline, deadline_s, only_replies=False)

    def take_events(self) -> tuple[QmpEvent, ...]:
        """The events received and not used up so far, oldest first. Does not read from QEMU."""
        events = tuple(self._events)
        self._events.clear()
        return events

    def _receive(self, what: str, deadline: float, deadline_s: float, *, only_replies: bool = True) -> dict[str, Any]:
        """The next message that is not an event; with ``only_replies`` false the next message of any kind."""
        while True:
            message = self._wire.receive(what=what, deadline=deadline)
            # The second test is for a QEMU that sends events without end: the wire then never waits.
            if message is None or time.monotonic() > deadline:
                raise QmpTimeoutError(subject=self.subject, command=what, waited_s=deadline_s)
            if "event" not in message:
                return message
            if len(self._events) >= EVENT_BOUND:
                self._events.popleft()
                self.dropped_events += 1
            self._events.append(read_event(message))
            if not only_replies:
                return message


def result_in(reply: Mapping[str, Any], command: str, subject: str) -> Any:
    """The result in the reply to that command. Raises QmpCommandError when QEMU refuses, and QmpProtocolError."""
    if "return" in reply:
        return reply["return"]
    error = reply.get("error")
    if not isinstance(error, dict):
        raise QmpProtocolError(subject=subject, what=f"the reply to {command} has neither return nor error")
    raise QmpCommandError(
        subject=subject,
        command=command,
        error_class=str(error.get("class", "GenericError")),
        desc=str(error.get("desc", "")),
    )


def _greeting(body: Any, subject: str) -> Greeting:
    try:
        version = body["version"]
        numbers = version["qemu"]
        text = f"{numbers['major']}.{numbers['minor']}.{numbers['micro']}"
        return Greeting(
            version=text, package=str(version.get("package", "")), offers_oob="oob" in body.get("capabilities", ())
        )
    except (KeyError, TypeError, AttributeError):
        raise QmpProtocolError(subject=subject, what="the greeting is not QEMU's") from None


def connect(path: str, *, deadline_s: float = COMMAND_DEADLINE_S, oob: bool = False) -> QmpClient:
    """A session on the monitor at the unix socket ``path`` (any length), ready for commands within ``deadline_s``.

    Raises QmpConnectError when no program listens (QEMU has exited), QmpBusyError when another client uses the monitor,
    QmpTimeoutError when no client does and QEMU sends nothing (it hangs, or is not ready), QmpClosedError when QEMU
    exits meanwhile.
    """
    started = time.monotonic()
    deadline = started + deadline_s
    try:
        client = QmpClient(open_wire(path, deadline=deadline))
    except QmpBusyError:
        if accepted_connections(path) != 0:
            raise
        # Nobody is served: QEMU hangs, and does not accept those that have given up before.
        raise QmpTimeoutError(subject=path, command="greeting", waited_s=time.monotonic() - started) from None
    try:
        client.negotiate(deadline_s=deadline - time.monotonic(), oob=oob)
    except QmpTimeoutError as error:
        waited_s = time.monotonic() - started
        # Before ours is closed. QEMU sends the greeting when it accepts, so an accepted connection is another client's.
        in_use = error.command == "greeting" and accepted_connections(path)
        client.close()
        if in_use:
            raise QmpBusyError(subject=path, waited_s=waited_s) from None
        raise QmpTimeoutError(subject=path, command=error.command, waited_s=waited_s) from None
    except BaseException:
        client.close()
        raise
    return client


def adopt(
    sock: socket.socket, *, subject: str = "qmp", deadline_s: float = COMMAND_DEADLINE_S, oob: bool = False
) -> QmpClient:
    """A session on a socket that is already connected, such as one end of a socketpair. Owns the socket from here on.

    Raises the errors of `connect` except QmpConnectError and QmpBusyError.
    """
    client = QmpClient(Wire(sock, subject))
    try:
        client.negotiate(deadline_s=deadline_s, oob=oob)
    except BaseException:
        client.close()
        raise
    return client


def reach(directory: Path, deadline_s: float) -> QmpClient:
    """A session with the running guest of the instance in ``directory``, by its second monitor if the first is in use.

    QEMU serves one client per monitor, and a client of the first one must not keep a guest from being stopped. So the
    second monitor has half of the deadline, if the first is in use. Raises `QmpError`: `QmpTimeoutError` for a QEMU that
    hangs, which both monitors share.
    """
    paths, until = GuestPaths(directory), time.monotonic() + deadline_s
    first, second = str(paths.commands), str(paths.recovery)
    if accepted_connections(first):  # known without waiting for a greeting
        first, second = second, first
    try:
        return connect(first, deadline_s=deadline_s / 2)
    except (QmpBusyError, QmpConnectError):
        return connect(second, deadline_s=until - time.monotonic())
    except QmpTimeoutError:  # nobody uses it: QEMU is slow, or hangs
        try:
            return connect(first, deadline_s=until - time.monotonic())
        except QmpTimeoutError as error:
            raise QmpTimeoutError(subject=directory.name, command=error.command, waited_s=deadline_s) from None
