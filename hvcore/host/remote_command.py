"""A command that answers a line of its standard output for each line of its input, such as hv on another node by ssh."""

from __future__ import annotations

import os
import selectors
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from hvcore.deadline import Deadline
from hvcore.errors import NodeError

__all__ = ["RemoteCommand"]

_CHUNK: Final = 65536
_MOST_BYTES: Final = 16 * 1024 * 1024
_STDERR_BYTES: Final = 4096
_END_S: Final = 5.0


class RemoteCommand:
    """The command, which is started at the first question, and again at the next one after it has ended.

    It runs in another session: ^C at the terminal is for the caller, who still needs it.
    """

    def __init__(self, argv: Sequence[str], *, subject: str) -> None:
        self._argv = tuple(argv)
        self._subject = subject
        self._running: subprocess.Popen[bytes] | None = None
        self._said = -1  # a file in memory with its standard error
        self._read = b""

    def ask(self, line: str, deadline: Deadline) -> str:
        """The answer to that line. Raises `NodeError` without one by the deadline; the command is ended then."""
        popen = self._running or self._started()
        try:
            assert popen.stdin is not None
            popen.stdin.write(line.encode() + b"\n")
            popen.stdin.flush()
            return self._line(popen, deadline).decode()
        except (BrokenPipeError, EOFError):
            raise self._ended(popen) from None
        except (TimeoutError, OSError, UnicodeDecodeError) as error:
            self.close()
            why = str(error) or f"no answer within {deadline.seconds:g} s"
            raise NodeError(f"{self._subject}: {why}; check the connection to it") from error
        except BaseException:  # the answer of an interrupted question must not be taken for that of the next
            self.close()
            raise

    def close(self) -> None:
        """End it: it gets the end of its input first. Does nothing if it does not run."""
        popen, self._running, self._read = self._running, None, b""
        if popen is None:
            return
        for stream in (popen.stdin, popen.stdout):
            with suppress(OSError):
                if stream is not None:
                    stream.close()
        try:
            popen.wait(_END_S)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()
        os.close(self._said)

    def _started(self) -> subprocess.Popen[bytes]:
        self._said = os.memfd_create("stderr", os.MFD_CLOEXEC)
        try:
            self._running = subprocess.Popen(
                self._argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                start_new_session=True,
            )
        except OSError as error:
            os.close(self._said)
            what = f"{self._subject}: cannot run {self._argv[0]}, got {error.strerror}"
            raise NodeError(f"{what}; install it on this node") from error
        return self._running

    def _line(self, popen: subprocess.Popen[bytes], deadline: Deadline) -> bytes:
        assert popen.stdout is not None
        with selectors.DefaultSelector() as ready:
            ready.register(popen.stdout, selectors.EVENT_READ)
            while b"\n" not in self._read:
                if not ready.select(deadline.left(at_least=0.01)):
                    raise TimeoutError
                data = os.read(popen.stdout.fileno(), _CHUNK)
                if not data:
                    raise EOFError
                self._read += data
                if len(self._read) > _MOST_BYTES:
                    raise OSError(f"answers with more than {_MOST_BYTES} bytes")
        line, _, self._read = self._read.partition(b"\n")
        return line

    def _ended(self, popen: subprocess.Popen[bytes]) -> NodeError:
        """The error of a command that has ended, with the end of what it wrote to its standard error."""
        said = os.pread(self._said, _STDERR_BYTES, max(0, os.fstat(self._said).st_size - _STDERR_BYTES))
        self.close()
        lines = [text for text in said.decode("utf-8", "backslashreplace").splitlines() if text.strip()]
        why = lines[-1].strip() if lines else f"{self._argv[0]} exited with {popen.returncode}"
        return NodeError(f"{self._subject}: cannot be asked: {why}; check the connection, and hv there")
