"""Run a program among the processes of an instance, confined like them: ``python -I -S enter.py``.

It imports nothing of hvcore, so it starts in a few milliseconds. Steps: hold the instance's init by a pidfd and prove
that it is the recorded process; fork into its pid namespace; there join the other namespaces, enter its root, drop the
capabilities that the instance lacks, and execute. Exits with the program's exit status, with 128 + n when signal n
ended it, and with 125 when it could not be run.
"""

from __future__ import annotations

import binascii
import ctypes
import fcntl
import os
import pty
import select
import sys
import termios
import tty

TYPE_CHECKING = False  # importing typing takes longer than all the rest
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final, NoReturn

__all__ = ["main"]

_FAILED: Final = 125
# linux/sched.h; Linux 5.8 lets setns(2) take several of them with a pidfd.
_NAMESPACES: Final = {
    "mnt": 0x00020000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "net": 0x40000000,
}
_CLONE_NEWPID: Final = 0x20000000
_PR_SET_DUMPABLE: Final = 4  # linux/prctl.h
_PR_SET_SECCOMP: Final = 22
_SECCOMP_MODE_FILTER: Final = 2  # linux/seccomp.h
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_CAPABILITY_VERSION_3: Final = 0x20080522  # linux/capability.h
_IGNORED_BY_PYTHON: Final = (13, 25)  # SIGPIPE and SIGXFSZ: ignored signals stay ignored through exec
_MAX_TYPED_BYTES: Final = 1024 * 1024
_libc: Final = ctypes.CDLL(None, use_errno=True)


def main(arguments: list[str]) -> int:
    """The exit status.

    Arguments: the init's pid, its start in ticks, the boot id, the capabilities to keep in hexadecimal, the seccomp
    filter in base64 or nothing, the number of control groups to enter (by writing to ``/group0`` and so on),
    ``terminal`` or ``plain``, then ``KEY=VALUE`` for each variable of the environment, ``--``, and the program with its
    arguments.
    """
    number, ticks, boot_id, kept, seccomp, groups, mode, *rest = arguments
    pid, capabilities, program = int(number), int(kept, 16), binascii.a2b_base64(seccomp)
    end = rest.index("--")
    environment = dict(pair.split("=", 1) for pair in rest[:end])
    argv = rest[end + 1 :]
    try:
        pidfd = _open_exactly(pid, int(ticks), boot_id)
        for each in range(int(groups)):
            with open(f"/group{each}", "wb", buffering=0) as entrance:
                entrance.write(b"0")
        root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        kinds = [kind for kind in _NAMESPACES if _is_other(pid, kind)]
        last = int(_read("/proc/sys/kernel/cap_last_cap"))
        dropped = [number for number in range(last + 1) if not capabilities & (1 << number)]
        # No process of the instance may trace this one while it has more rights than they have.
        _call(_libc.prctl, _PR_SET_DUMPABLE, 0, 0, 0, 0)
        _call(_libc.setns, pidfd, _CLONE_NEWPID)
    except OSError as error:
        return _failed(f"cannot enter the instance, got {error.strerror}; has it ended?")

    def become() -> NoReturn:
        try:
            _join(pidfd, root, kinds)
            _drop(dropped, capabilities)
            _leave_keeper(ends_with_sigterm=mode == "terminal")
            os.closerange(3, 2**20)  # an open file of the node would be a way out
            for number in _IGNORED_BY_PYTHON:
                _libc.signal(number, None)
            _filter(program)
            _execute(argv, environment)
        except OSError as error:
            os._exit(_failed(f"{argv[0]}: cannot be executed inside, got {error.strerror}"))

    try:
        if mode == "terminal":
            environment["TERM"] = os.environ.get("TERM", "dumb")
            return _with_terminal(become)
        child = os.fork()
        if child == 0:
            os.setsid()
            become()
        return _exit_status(child)
    except OSError as error:
        return _failed(f"cannot continue, got {error.strerror}")


def _execute(argv: list[str], environment: dict[str, str]) -> NoReturn:
    """Become the program, found by the instance's PATH. Not os.execvpe, which imports a module: none is inside."""
    places = [""] if "/" in argv[0] else [f"{place or '.'}/" for place in environment.get("PATH", "").split(":")]
    found = OSError(2, "No such file or directory")
    for place in places:
        try:
            os.execve(place + argv[0], argv, environment)  # noqa: S606 - without a shell, as intended
        except OSError as error:
            if error.errno not in (2, 20):
                found = error
    raise found


def _failed(text: str) -> int:
    sys.stderr.write(f"enter: {text}\n")
    sys.stderr.flush()
    return _FAILED


def _call(function: Callable[..., int], *arguments: object) -> None:
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _open_exactly(pid: int, start_ticks: int, boot_id: str) -> int:
    """A pidfd of exactly that process. Raises ProcessLookupError when it has ended, also when its pid is reused."""
    pidfd = os.pidfd_open(pid)
    stat = _read(f"/proc/{pid}/stat")
    ticks = int(stat[stat.rindex(b")") + 2 :].split()[19])
    if ticks != start_ticks or _read("/proc/sys/kernel/random/boot_id").decode().strip() != boot_id:
        raise ProcessLookupError(3, "No such process")
    return pidfd


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read(4096)


def _is_other(pid: int, kind: str) -> bool:
    return os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")


def _join(pidfd: int, root: int, kinds: list[str]) -> None:
    _call(_libc.setns, pidfd, sum(_NAMESPACES[kind] for kind in kinds))
    if "user" in kinds:
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    os.fchdir(root)
    os.chroot(".")
    os.chdir("/")
    os.umask(0o022)


def _drop(dropped: list[int], kept: int) -> None:
    _call(_libc.prctl, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _call(_libc.prctl, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    for number in dropped:
        _call(_libc.prctl, _PR_CAPBSET_DROP, number, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    low, high = kept & 0xFFFFFFFF, kept >> 32
    # Three words for the low halves (effective, permitted, inheritable), three for the high ones: capget(2).
    data = (ctypes.c_uint32 * 6)(low, low, low, high, high, high)
    if _libc.capset(header, data) != 0:
        raise OSError(ctypes.get_errno(), "capabilities cannot be dropped")


def _filter(program: bytes) -> None:
    """Install the filter. struct sock_fprog: a count of 8-byte instructions, and their address."""
    if not program:
        return
    instructions = ctypes.create_string_buffer(program, len(program))
    described = (ctypes.c_uint64 * 2)(len(program) // 8, ctypes.addressof(instructions))
    _call(_libc.prctl, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, described, 0, 0)


def _leave_keeper(*, ends_with_sigterm: bool) -> None:
    """Give the init a child that lives as long as this process and the program that it becomes.

    Bubblewrap's init exits with its last child, and that ends the namespace. A process that enters is not its child: a
    stop script would be killed half-way, when the daemon that it stops exits. The child has its own session: the
    terminal's ^C is not for it. Nor is the SIGHUP at the end of a shell, which the kernel sends before the init gets
    the processes that the shell leaves.
    """
    ourselves = os.pidfd_open(os.getpid())
    between = os.fork()
    if between != 0:
        os.waitpid(between, 0)
        os.close(ourselves)
        return
    os.setsid()
    if not ends_with_sigterm:
        _libc.signal(15, ctypes.c_void_p(1))
    if os.fork() != 0:
        os._exit(0)  # now the grandchild is the init's child
    os.dup2(ourselves, 0)
    os.closerange(1, 2**20)
    _libc.poll((ctypes.c_int * 2)(0, 1), 1, -1)  # struct pollfd: descriptor 0, POLLIN
    os._exit(0)


def _exit_status(pid: int) -> int:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if code >= 0 else 128 - code


def _with_terminal(become: Callable[[], NoReturn]) -> int:
    """Run it on a new terminal and copy the bytes.

    On the caller's terminal, a program inside could push characters that the caller's shell would then read.
    """
    pid, master = pty.fork()
    if pid == 0:
        become()
    saved: list[Any] | None = None
    if os.isatty(0):
        saved = termios.tcgetattr(0)
        tty.setraw(0, termios.TCSANOW)  # keeps the characters that have been typed already
    try:
        _follow_size(master)
        _copy(master, pid)
    finally:
        if saved is not None:
            termios.tcsetattr(0, termios.TCSAFLUSH, saved)
    os.close(master)
    return _exit_status(pid)


def _follow_size(master: int) -> None:
    """Give the terminal inside the size of the one outside, now and after each change."""
    import signal  # noqa: PLC0415 - 7 ms (enum), on a terminal only

    def resize(*_: object) -> None:
        fcntl.ioctl(master, termios.TIOCSWINSZ, fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8)))

    if os.isatty(0):
        resize()
        signal.signal(signal.SIGWINCH, resize)


def _copy(master: int, pid: int) -> None:
    """Copy bytes until the program has ended, also when a process that it left keeps the terminal open.

    At the end of our input the program gets ^D. Input that the program does not read waits, and delays no output.
    """
    os.set_blocking(master, False)
    pidfd = os.pidfd_open(pid)
    typed = b""
    waiting = select.poll()
    waiting.register(0, select.POLLIN)
    waiting.register(pidfd, select.POLLIN)
    while True:
        waiting.register(master, select.POLLIN | (select.POLLOUT if typed else 0))
        ready = dict(waiting.poll())
        if ready.get(master, 0) & ~select.POLLOUT and not _show(master) and pidfd not in ready:
            # The program has closed the terminal and still runs: wait for its end.
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
            return
        if pidfd in ready:
            while _show(master):
                pass
            return
        if 0 in ready and len(typed) < _MAX_TYPED_BYTES:
            data = os.read(0, 65536)
            typed += data or b"\x04"
            if not data:
                waiting.unregister(0)
        if typed and ready.get(master, 0) & select.POLLOUT:
            typed = typed[os.write(master, typed) :]


def _show(master: int) -> bool:
    """Copy the bytes that can be read now; False at the end, or when nothing can be read."""
    try:
        data = os.read(master, 65536)
    except OSError:
        return False
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]
    return bool(data)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
