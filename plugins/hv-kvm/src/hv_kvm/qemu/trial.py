"""A QEMU that is started for a short trial, and always ended.

Not for guests: it has no confinement and no record, and does not outlive its caller. It gets a clean environment and
its own session, so that the children of a wrapper script are killed with it. A child that prints more than 64 KiB blocks
until its deadline. ``timeout`` of coreutils ends it when the caller was killed: QEMU would wait for ever.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from hvcore.plugin import Ended, OperationError, exit_code, wait_readable

__all__ = ["StatusTakenError", "Trial", "TrialError"]

_OUTPUT_BYTES: Final = 64 << 10
_REAP_DEADLINE_S: Final = 5.0
_LIFE_S: Final = 20
# Exit codes of timeout(1) when it could not execute the command.
_NOT_EXECUTED: Final = (126, 127)


class TrialError(OperationError):
    """The binary could not be run; ``reason`` says why in a few words."""

    def __init__(self, *, binary: str, reason: str, todo: str) -> None:
        self.binary, self.reason = binary, reason
        super().__init__(f"{binary}: {reason}; {todo}")


class StatusTakenError(TrialError):
    """The host application took the exit status of the trial: nothing is known about the binary."""


class Trial:
    """One running child. A context manager: on leaving, the child and its process group are killed and reaped."""

    def __init__(self, argv: Sequence[str], *, pass_fds: Sequence[int] = ()) -> None:
        """Start ``argv``. Raises TrialError when it cannot be executed at all, StatusTakenError as in `wait`."""
        self.binary = argv[0]
        if not _is_program(self.binary):
            raise _not_executable(self.binary, os.strerror(errno.ENOEXEC).lower())
        output, child_output = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(output, False)
        try:
            self._process = subprocess.Popen(
                ["timeout", "--signal=KILL", str(_LIFE_S), *argv],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=child_output,
                pass_fds=tuple(pass_fds),
                start_new_session=True,
                cwd="/",
                env={"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath)},
            )
        except (OSError, ValueError) as error:
            os.close(output)
            reason = os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else str(error)
            raise _not_executable(self.binary, reason) from error
        finally:
            os.close(child_output)
        self._output: int | None = output
        self._stderr = b""
        try:
            self._pidfd = os.pidfd_open(self._process.pid)
        except ProcessLookupError as error:
            os.close(output)
            raise self._reaped_elsewhere() from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def wait(self, deadline: float) -> int | None:
        """How the child ended: its exit status, or minus the signal; None when ``deadline`` (monotonic s) came first.

        Raises StatusTakenError when the host application has waited for the child.
        """
        if self._process.returncode is None and wait_readable(self._pidfd, deadline - time.monotonic()):
            try:
                self._process.returncode = exit_code(self._pidfd)
            except ChildProcessError as error:
                raise self._reaped_elsewhere() from error
        return self._process.returncode

    def _reaped_elsewhere(self) -> StatusTakenError:
        self._process.returncode = 0  # it has exited, and cannot be waited for
        reason = "the host application took the exit status of a trial run"
        return StatusTakenError(
            binary=self.binary, reason=reason, todo="set SIGCHLD to its default there, or set kvm_flag"
        )

    def last_line(self) -> str:
        """The last line that it wrote to standard error so far, at most 200 characters, or the empty string."""
        while self._output is not None and len(self._stderr) < _OUTPUT_BYTES:
            try:
                data = os.read(self._output, _OUTPUT_BYTES)
            except BlockingIOError:
                break
            if not data:
                break
            self._stderr += data
        lines = self._stderr.decode(errors="backslashreplace").strip().splitlines()
        return "".join(c if c.isprintable() else "?" for c in lines[-1][:200]) if lines else ""

    def ending(self, status: int) -> str:
        """``status`` of `wait` for people: ``exited with 1: "..."``, ``was killed by SIGABRT: "..."``."""
        how = str(Ended(signal=-status) if status < 0 else Ended(code=status))
        message = self.last_line()
        if status in _NOT_EXECUTED and message.startswith("timeout: failed to run command"):
            return f"cannot be executed: {message.rpartition(': ')[2].lower()}"
        return f'{how}: "{message}"' if message else f"{how} and printed nothing"

    def close(self) -> None:
        """Kill the child and its group and reap it; harmless when done. A child in D state is left to the kernel."""
        if self._output is None:
            return
        if self._process.returncode is None:
            # A process that has not ended has not been reaped: the number is still that of the child and its group.
            if not wait_readable(self._pidfd, 0.0):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGKILL)
            with contextlib.suppress(TrialError):
                self.wait(time.monotonic() + _REAP_DEADLINE_S)
        for fd in (self._output, self._pidfd):
            os.close(fd)
        self._output = None


def _not_executable(binary: str, reason: str) -> TrialError:
    todo = "name an installed qemu-system binary"
    return TrialError(binary=binary, reason=f"cannot be executed: {reason}", todo=todo)


def _is_program(path: str) -> bool:
    """False for a file that the kernel would not execute: ``timeout`` would give that to a shell (execvp(3))."""
    try:
        with open(path, "rb") as file:
            head = file.read(64)
    except OSError:
        return True  # the start shows why
    if not os.access(path, os.X_OK):
        return True
    executable = head[16:18] in {b"\2\0", b"\3\0", b"\0\2", b"\0\3"}  # ET_EXEC, ET_DYN of elf(5)
    return head.startswith(b"#!") or (head.startswith(b"\x7fELF") and len(head) == 64 and executable)
