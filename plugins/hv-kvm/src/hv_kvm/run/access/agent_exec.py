"""A program in a guest, run by its agent: the command that ``hv exec`` becomes, with stdin, stdout, stderr and exit status.

``python -m hv_kvm.run.access.agent_exec SOCKET NAME STDIN PROGRAM [ARGUMENT]...``, where STDIN is ``read`` or ``none``.
"""

from __future__ import annotations

import base64
import sys
import time
from typing import Any, Final

from hv_kvm.qmp.agent import reach_agent
from hvcore.plugin import HvError, OperationError

__all__ = ["main", "run"]

_MAX_STDIN_BYTES: Final = 8 << 20
_FIRST_PAUSE_S: Final = 0.01
_LONGEST_PAUSE_S: Final = 0.5
_NOT_RUN: Final = 125
_BY_SIGNAL: Final = 128
_INTERRUPTED: Final = 130


def run(path: str, name: str, argv: list[str], stdin: bytes) -> tuple[int, bytes, bytes, bool]:
    """The exit status, what the program wrote to stdout and stderr, and whether some of that is lost.

    Each question has its own connection, so that others can use the agent while a program runs.
    Raises `OperationError`.
    """
    arguments: dict[str, Any] = {"path": argv[0], "arg": argv[1:], "capture-output": True}
    if stdin:
        arguments["input-data"] = base64.b64encode(stdin).decode("ascii")
    with reach_agent(path, name) as agent:
        pid = _table(agent.ask("guest-exec", arguments), name).get("pid")
    pause_s = _FIRST_PAUSE_S
    while True:
        with reach_agent(path, name) as agent:
            status = _table(agent.ask("guest-exec-status", {"pid": pid}), name)
        if status.get("exited"):
            lost = bool(status.get("out-truncated") or status.get("err-truncated"))
            return _exit_status(status), _bytes(status, "out-data"), _bytes(status, "err-data"), lost
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _table(answer: object, name: str) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise OperationError(f"{name}: the guest agent answers {answer!r:.60}, which is not a table; see its log")
    return answer


def _exit_status(status: dict[str, Any]) -> int:
    code, number = status.get("exitcode"), status.get("signal")
    if isinstance(number, int):
        return _BY_SIGNAL + (number & 0x7F)
    return code & 0xFF if isinstance(code, int) else _NOT_RUN


def _bytes(status: dict[str, Any], key: str) -> bytes:
    try:
        return base64.b64decode(str(status.get(key, "")), validate=True)
    except ValueError:
        return b""


def main(arguments: list[str]) -> int:
    """Run it, and return the exit status for this process."""
    path, name, source, *argv = arguments
    try:
        stdin = b"" if source == "none" else sys.stdin.buffer.read(_MAX_STDIN_BYTES + 1)
        if len(stdin) > _MAX_STDIN_BYTES:
            what = f"{name}: stdin: the guest agent takes at most {_MAX_STDIN_BYTES >> 20} MiB"
            raise OperationError(f"{what}; copy it as a file, such as with hv cp")
        status, out, err, lost = run(path, name, argv, stdin)
    except HvError as error:
        sys.stderr.write(f"hv: {error}\n")
        return _NOT_RUN
    except KeyboardInterrupt:
        sys.stderr.write(f"hv: {name}: interrupted; the program goes on in the guest\n")
        return _INTERRUPTED
    for stream, data in ((sys.stdout, out), (sys.stderr, err)):
        stream.buffer.write(data)
        stream.flush()
    if lost:
        sys.stderr.write(f"hv: {name}: the guest agent has dropped a part of the output, which was too long\n")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
