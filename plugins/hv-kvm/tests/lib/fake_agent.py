"""A guest agent on a unix socket that runs real programs: the part of qga that `hv exec` uses."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["FakeAgent", "fake_agent"]


class FakeAgent:
    """Answers one client after the other, as QEMU's channel does. ``replies`` replace the answers to a command."""

    def __init__(self, server: socket.socket) -> None:
        self.server = server
        self.asked: list[str] = []
        self.replies: dict[str, Callable[[dict[str, Any]], bytes | dict[str, Any]]] = {}
        self.first = b""
        self._running: dict[int, tuple[subprocess.Popen[bytes], tuple[bytes, bytes]]] = {}

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.server.accept()
                with connection, connection.makefile("rwb") as stream, contextlib.suppress(OSError):
                    stream.write(self.first)
                    for line in stream:
                        answer = self._answer(json.loads(line))
                        stream.write(answer if isinstance(answer, bytes) else json.dumps(answer).encode() + b"\n")
                        stream.flush()

    def _answer(self, message: dict[str, Any]) -> bytes | dict[str, Any]:
        command, arguments = message["execute"], message.get("arguments", {})
        self.asked.append(command)
        if command in self.replies:
            return self.replies[command](arguments)
        match command:
            case "guest-sync":
                return {"return": arguments["id"]}
            case "guest-exec":
                return self._execute(**arguments)
            case "guest-exec-status":
                return {"return": self._status(arguments["pid"])}
        return {"error": {"class": "CommandNotFound", "desc": f"The command {command} has not been found"}}

    def _execute(self, path: str, arg: list[str], **how: Any) -> dict[str, Any]:
        pipe = subprocess.PIPE
        try:
            process = subprocess.Popen([path, *arg], stdin=pipe, stdout=pipe, stderr=pipe)
        except OSError as error:
            said = f'Guest agent command failed, error was "Failed to execute child process ({error.strerror})"'
            return {"error": {"class": "GenericError", "desc": said}}
        output = process.communicate(base64.b64decode(how.get("input-data", "")))
        self._running[process.pid] = process, output
        return {"return": {"pid": process.pid}}

    def _status(self, pid: int) -> dict[str, Any]:
        process, (out, err) = self._running.pop(pid)
        ended = {"signal": -process.returncode} if process.returncode < 0 else {"exitcode": process.returncode}
        found = {"exited": True, **ended}
        for key, data in (("out-data", out), ("err-data", err)):
            found |= {key: base64.b64encode(data).decode()} if data else {}
        return found


@contextlib.contextmanager
def fake_agent(path: Path) -> Iterator[FakeAgent]:
    """An agent that answers at that path until the end of the block."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(8)
        agent = FakeAgent(server)
        thread = threading.Thread(target=agent.serve, daemon=True)
        thread.start()
        yield agent
        server.shutdown(socket.SHUT_RDWR)
        thread.join(60)
