"""Kills a program at one of its system calls, whichever of its threads makes it.

Run as a program: ``python kill_at_call.py NUMBER COMMAND...``. The command stops its main thread (SIGSTOP) where the calls begin
to count, and again where they end. With number 0 the command runs to its end, and each call that counts is printed; its exit
code is returned. With number N the command is killed when it enters the N-th of these calls: 0 if so, 3 if it ended before.

Not strace: it either ignores threads, or counts the calls of each thread and each child separately.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import sys
from contextlib import suppress
from typing import Final

# Linux on x86-64: calls that change something outside of the process, or wait. Between two of them nothing changes.
CALLS: Final = {
    1: "write",
    3: "close",
    7: "poll",
    16: "ioctl",
    18: "pwrite64",
    44: "sendto",
    46: "sendmsg",
    56: "clone",
    57: "fork",
    58: "vfork",
    61: "wait4",
    62: "kill",
    73: "flock",
    74: "fsync",
    77: "ftruncate",
    82: "rename",
    83: "mkdir",
    84: "rmdir",
    87: "unlink",
    88: "symlink",
    90: "chmod",
    91: "fchmod",
    92: "chown",
    93: "fchown",
    165: "mount",
    166: "umount2",
    247: "waitid",
    257: "openat",
    258: "mkdirat",
    259: "mknodat",
    263: "unlinkat",
    264: "renameat",
    266: "symlinkat",
    272: "unshare",
    308: "setns",
    316: "renameat2",
    319: "memfd_create",
    424: "pidfd_send_signal",
    428: "open_tree",
    429: "move_mount",
    434: "pidfd_open",
    435: "clone3",
    437: "openat2",
    442: "mount_setattr",
}
_CLOSE, _IOCTL, _FLOCK, _OPENAT = 3, 16, 73, 257
_WALL: Final = 0x40000000  # linux/wait.h
_TRACEME, _CONT, _SYSCALL, _SETOPTIONS, _GET_SYSCALL_INFO = 0, 7, 24, 0x4200, 0x420E  # linux/ptrace.h
_OPTIONS: Final = 0x1 | 0x8 | 0x100000  # TRACESYSGOOD, TRACECLONE: new threads too, EXITKILL
_ENTRY, _EXIT = 1, 2
_INFO: Final = struct.Struct("=B3xIQQQQQQQQQ")  # op, arch, instruction, stack, number and six arguments
_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long


def _ptrace(request: int, pid: int, address: int = 0, data: object = None) -> None:
    if _libc.ptrace(ctypes.c_long(request), ctypes.c_long(pid), ctypes.c_void_p(address), data) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Traced:
    """A command with all of its threads, and not its children."""

    def __init__(self, command: list[str], number: int) -> None:
        self._number = number
        self._counting = False
        self._opened: dict[int, bool] = {}  # a thread that is opening a file only to read it
        self._only_read: set[int] = set()  # closing such a descriptor, or an ioctl on it, changes nothing
        self.counted: list[str] = []
        self.pid = os.fork()
        if self.pid == 0:
            try:
                _ptrace(_TRACEME, 0)
                os.execv(command[0], command)
            finally:
                os._exit(127)

    def run(self) -> int:
        """Its wait status."""
        os.waitpid(self.pid, 0)
        _ptrace(_SETOPTIONS, self.pid, data=ctypes.c_void_p(_OPTIONS))
        thread, deliver = self.pid, 0
        while True:
            with suppress(ProcessLookupError):  # killed meanwhile
                _ptrace(_SYSCALL if self._counting else _CONT, thread, data=ctypes.c_void_p(deliver))
            thread, status = os.waitpid(-1, _WALL)
            while not os.WIFSTOPPED(status):
                if thread == self.pid:
                    return status
                thread, status = os.waitpid(-1, _WALL)
            deliver = self._stopped(thread, os.WSTOPSIG(status), event=status >> 16)

    def _stopped(self, thread: int, signum: int, *, event: int) -> int:
        """The signal to deliver."""
        if signum == signal.SIGTRAP | 0x80:
            self._call(thread)
        elif signum == signal.SIGSTOP:
            self._counting ^= thread == self.pid  # else the first stop of a new thread
        elif not event:
            return signum
        return 0

    def _call(self, thread: int) -> None:
        space = ctypes.create_string_buffer(128)
        try:
            _ptrace(_GET_SYSCALL_INFO, thread, len(space), space)
        except ProcessLookupError:
            return
        op, _, _, _, first, *arguments = _INFO.unpack_from(space.raw)
        if op == _ENTRY and self._matters(thread, first, arguments):
            self.counted.append(CALLS[first])
            if len(self.counted) == self._number:
                os.kill(self.pid, signal.SIGKILL)
        elif op == _EXIT and self._opened.pop(thread, False):
            self._only_read.add(first)

    def _matters(self, thread: int, call: int, arguments: list[int]) -> bool:
        if call == _OPENAT and not arguments[2] & (os.O_CREAT | os.O_ACCMODE | os.O_TRUNC):
            self._opened[thread] = True
            return False
        known = arguments[0] in self._only_read
        if call in (_CLOSE, _FLOCK):
            self._only_read.discard(arguments[0])
        return call in CALLS and not (call in (_CLOSE, _IOCTL) and known)


def main(number: int, command: list[str]) -> int:
    """The exit code, see above."""
    traced = Traced(command, number)
    status = traced.run()
    if number == 0:
        sys.stdout.write("\n".join(traced.counted))
        return os.waitstatus_to_exitcode(status)
    return 0 if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL else 3


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
