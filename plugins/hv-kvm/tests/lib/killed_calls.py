"""A caller that strace kills when it enters its n-th call of one kind, in a child process."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CALLS", "Caller", "Point", "killed_at", "points"]

# Every call that changes something outside of the process, or waits for something there.
CALLS = (
    *("openat", "write", "pwrite64", "ftruncate", "fsync", "flock", "close", "dup", "fcntl", "pipe2"),
    *("mkdir", "rmdir", "unlink", "unlinkat", "rename", "symlink", "chown", "mknodat", "mknod", "chmod", "utimensat"),
    *("vfork", "fork", "clone", "clone3", "wait4", "pidfd_open", "pidfd_send_signal", "kill"),
    *("socket", "bind", "listen", "connect", "sendto", "recvfrom", "poll", "read", "ioctl"),
)


@dataclass(frozen=True)
class Point:
    """The n-th call of that name, counted from when the caller begins."""

    call: str
    number: int

    def __str__(self) -> str:
        return f"{self.call}-{self.number}"


class Caller:
    """A child process that waits, does one thing, and exits."""

    def __init__(self, act: Callable[[], object]) -> None:
        ready, go = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.write(ready[1], b"x")
                os.read(go[0], 1)
                act()
                os._exit(0)
            except BaseException:  # noqa: BLE001 - it must not go on as its parent
                traceback.print_exc()
            os._exit(1)
        self.go = go[1]
        os.read(ready[0], 1)
        for fd in (*ready, go[0]):
            os.close(fd)

    def traced(self, *options: str) -> int:
        """Run the caller under strace; its wait status."""
        with subprocess.Popen(["strace", *options, "-p", str(self.pid)], stderr=subprocess.PIPE) as log:
            assert log.stderr is not None
            assert select.select([log.stderr], [], [], 60)[0]
            assert b"attached" in log.stderr.readline()
            with contextlib.suppress(BrokenPipeError):  # killed in the read that waits for this
                os.write(self.go, b"x")
            os.close(self.go)
            status = os.waitpid(self.pid, 0)[1]
            log.communicate()
        return status


def points(act: Callable[[], object], folder: Path) -> list[Point]:
    """Every call of the act but those on files that it only reads: between them nothing changes, and /proc has many."""
    trace = folder / "trace"
    assert Caller(act).traced("-o", str(trace), "-e", f"trace={','.join(f'?{call}' for call in CALLS)}") == 0
    counts: Counter[str] = Counter()
    only_read: set[str] = set()
    found = []
    for line in trace.read_text("utf-8", "replace").splitlines():
        if (matched := re.match(r"(\w+)\((\w*)", line)) is None:
            continue
        call, first = matched[1], matched[2]
        counts[call] += 1
        if call == "openat" and "O_RDONLY" in line and "O_CREAT" not in line:
            only_read.add(line.rpartition(" = ")[2].split(" ")[0])
        elif call not in ("read", "close") or first not in only_read:
            only_read.discard(first)  # such as a lock
            found.append(Point(call, counts[call]))
        elif call == "close":
            only_read.discard(first)
    return found


def killed_at(point: Point, act: Callable[[], object]) -> bool:
    """Run the act with the kill; False when it ended before that point."""
    inject = f"inject={point.call}:signal=SIGKILL:when={point.number}"
    status = Caller(act).traced("-o", "/dev/null", "-e", f"trace={point.call}", "-e", inject)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
