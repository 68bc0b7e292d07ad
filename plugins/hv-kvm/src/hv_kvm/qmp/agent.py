"""A client of the QEMU guest agent (qga/qapi-schema.json of QEMU). The other side is the guest: it can send anything."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from hv_kvm.qmp.errors import QmpError
from hv_kvm.qmp.wire import Wire, open_wire
from hvcore.plugin import OperationError

__all__ = ["ANSWER_S", "GuestAgent", "reach_agent"]

ANSWER_S: Final = 5.0
"""How long an agent that runs may take for an answer: it has one thread, which is idle but for that."""
_SYNC: Final = "guest-sync"


class GuestAgent:
    """A synchronized connection. Every method raises `OperationError`, which names the instance."""

    def __init__(self, wire: Wire, name: str) -> None:
        self._wire = wire
        self._name = name

    def synchronize(self, deadline_s: float) -> None:
        """Wait for the agent, and skip answers that a client before this one has not read."""
        number = secrets.randbelow(1 << 31)
        deadline = time.monotonic() + deadline_s
        self._send(_SYNC, {"id": number}, deadline)
        while (answer := self._receive(_SYNC, deadline)) is not None:
            if answer.get("return") == number:
                return
        what = f"{self._name}: the guest agent does not answer within {deadline_s:g} s"
        raise OperationError(
            f"{what}; install qemu-guest-agent in the guest, start it, or wait until the guest has booted"
        )

    def ask(self, command: str, arguments: Mapping[str, Any] | None = None, *, deadline_s: float = ANSWER_S) -> Any:
        """What the agent returns."""
        deadline = time.monotonic() + deadline_s
        self._send(command, dict(arguments or {}), deadline)
        answer = self._receive(command, deadline)
        if answer is None:
            what = f"{self._name}: the guest agent does not answer {command} within {deadline_s:g} s"
            raise OperationError(f"{what}; look at it in the guest")
        if "return" in answer:
            return answer["return"]
        error = answer.get("error")
        said = error.get("desc") if isinstance(error, dict) else error
        raise OperationError(
            f"{self._name}: the guest agent refuses {command}, it says {str(said)!r:.200}; see its log"
        )

    def _send(self, command: str, arguments: dict[str, Any], deadline: float) -> None:
        with self._naming():
            self._wire.send({"execute": command, "arguments": arguments}, what=command, deadline=deadline)

    def _receive(self, command: str, deadline: float) -> dict[str, Any] | None:
        with self._naming():
            return self._wire.receive(what=command, deadline=deadline)

    @contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except QmpError as error:
            raise OperationError(f"{self._name}: the connection to the guest agent failed, {error}") from error


@contextmanager
def reach_agent(path: str, name: str, *, deadline_s: float = ANSWER_S) -> Iterator[GuestAgent]:
    """The agent at the node's end of its channel, for one block: QEMU serves one client after the other.

    Raises `OperationError` if no agent answers.
    """
    try:
        wire = open_wire(path, deadline=time.monotonic() + deadline_s)
    except QmpError as error:
        raise OperationError(f"{name}: the channel of the guest agent cannot be reached, {error}") from error
    try:
        agent = GuestAgent(wire, name)
        agent.synchronize(deadline_s)
        yield agent
    finally:
        wire.close()
