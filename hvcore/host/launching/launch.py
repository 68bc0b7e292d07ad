"""Launching one confined process so that it can be found again at any moment, even after a crash of ours.

Three things are prepared before exec:

- the *life lock*: a ``flock`` on a file, inherited by every launched process. The file is locked while one of them lives,
  also between fork and exec, and the holders can be found by inode.
- the *mark*: an environment variable that other processes with the same descriptor do not have.
- the *status file*: bubblewrap writes the pid of the confined process into it, and later its exit code.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from hvcore.deadline import Deadline
from hvcore.errors import NodeError
from hvcore.frozen import dataclass
from hvcore.host.cgroups.group import Group
from hvcore.host.confinement.bubblewrap import Wrapped, sandboxed
from hvcore.host.confinement.namespaces import HeldNamespaces
from hvcore.host.confinement.own_root import with_own_root
from hvcore.host.launching.gate import Gate, behind_gate
from hvcore.host.launching.launching_thread import from_planned_thread
from hvcore.host.launching.rlimits import forbid_core_dumps, with_largest_file, with_limits
from hvcore.host.launching.scheduling import UMASK, as_planned, inherited, killed_last
from hvcore.host.launching.signals import reporting, with_default_signals
from hvcore.host.processes.launched import Ended, how_ended, instance_mark, life_mark, read_status
from hvcore.host.processes.process import exit_code, identify, parent_of, wait_readable
from hvcore.model.record import ProcessId
from hvcore.model.sandbox import Sandbox

__all__ = ["PATH", "Child", "Command", "launch", "life_lock", "reap", "run_tool"]

_PACKAGES: Final = {"bwrap": "bubblewrap", **dict.fromkeys(("nsenter", "prlimit", "setpriv"), "util-linux")}
_TOOL_OUTPUT_BYTES: Final = 64 * 1024
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Of a program that runs unconfined: the same for each caller."""
_FEW: Final = 16
_LOOK_S: Final = 0.001


class _Children:
    """Launched children of this process that are still alive. They are reaped at the next launch or stop.

    So a long-lived host application keeps no zombies and needs no SIGCHLD handler.
    """

    def __init__(self) -> None:
        self.all: dict[int, subprocess.Popen[bytes]] = {}
        self._many = _FEW

    def reap(self) -> None:
        """Reap those that have exited, one by one as the kernel reports them: no call for each that lives.

        Every child is polled if the host application prevents that: it left another child unreaped, or reaped ours,
        so that there are twice as many as the last time.
        """
        while len(self.all) < self._many:
            exited = _exited_child()
            if exited is None:
                return
            popen = self.all.get(exited)
            if popen is None or popen.poll() is None:
                break
            self.all.pop(exited, None)  # another thread may have been first
        for pid, popen in tuple(self.all.items()):
            if popen.poll() is not None:
                self.all.pop(pid, None)
        self._many = 2 * len(self.all) + _FEW


def _exited_child() -> int | None:
    """The pid of a child of this process that exited and is not reaped; None if all live, 0 without children."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return 0
    return None if found is None else found.si_pid


_children: Final = _Children()


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program to run. ``fds`` are its only descriptors besides stdin, stdout and stderr; stdin None is null.

    With ``sandbox`` None it runs unconfined, with all rights of the caller. It joins the namespaces in ``held``, which
    are held until the process is waited for. It enters the control group ``group`` before its first step; with None it
    stays in the caller's. No file that it writes to, its output included, gets larger than ``largest_file_bytes``: a write
    beyond that fails. What it could inherit is as planned, not the caller's: `hvcore.host.launching.scheduling`,
    `hvcore.host.launching.launching_thread`, PATH, signals and umask.
    """

    argv: tuple[str, ...]
    sandbox: Sandbox | None
    fds: tuple[int, ...] = ()
    stdin: int | None = None
    held: HeldNamespaces | None = None
    group: Group | None = None
    largest_file_bytes: int | None = None


@contextmanager
def life_lock(path: Path) -> Iterator[int]:
    """Hold the life lock for the block; launched processes inherit it and keep it."""
    # For reading only: launched processes must not be able to fill the run directory through it.
    fd = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield fd
    finally:
        os.close(fd)


class Child:
    """A process just launched: the outermost one, which is bubblewrap, or the program with confinement off."""

    def __init__(self, popen: subprocess.Popen[bytes], status: Path) -> None:
        self._popen = popen
        self._status = status
        self._lost = False  # its exit code, to the host application
        try:
            self.pidfd = os.pidfd_open(popen.pid)
        except ProcessLookupError:  # it has ended, and the host application waits for every child
            self._lost = True
            self.pidfd = _at_end()

    def close(self) -> None:
        """Close the pidfd. A process that is still alive is reaped later."""
        os.close(self.pidfd)
        if self._popen.poll() is None:
            _children.all[self._popen.pid] = self._popen

    def process(self) -> ProcessId | None:
        """The confined process; None until bubblewrap has made it."""
        pid = read_status(self._status).pid
        return None if pid is None else identify(pid)

    def made(self, deadline_s: float) -> ProcessId | None:
        """The confined process, after at most ``deadline_s`` seconds; None if the launch ends without one, or takes longer."""
        deadline = Deadline(deadline_s)
        while (process := self.process()) is None:
            if self.ended() is not None or deadline.left() == 0.0:
                return None
            self.wait(_LOOK_S)
        return process

    def monitor(self) -> ProcessId | None:
        """The outermost process, which writes the exit code to the status file."""
        return identify(self._popen.pid)

    def spare(self, deadline_s: float, *, reaper: bool = False) -> None:
        """Wait for the confined process, then make its monitors the kernel's last choice at a memory limit.

        They use little memory, and without them no one knows how the program ended. They have started their only children
        by then, so the program does not inherit that. With ``reaper`` also the first process of the PID namespace, once
        it starts no more processes. Changes nothing without root.
        """
        process = self.made(deadline_s)
        if process is None:
            return
        above = [process.pid]
        while above[-1] not in (0, 1, self._popen.pid):
            above.append(parent_of(above[-1]))
        if above[-1] == self._popen.pid and self.ended() is None:
            for pid in above[1:]:
                killed_last(pid)
        if reaper:
            killed_last(process.pid)

    def ended(self) -> Ended | None:
        """How the process ended; None while it lives. Does not wait."""
        if self._popen.returncode is None and not self._lost:
            try:
                self._popen.returncode = exit_code(self.pidfd)
            except ChildProcessError:
                self._lost = True
        if self._lost:
            return Ended()
        code = self._popen.returncode
        return None if code is None else how_ended(code)

    def wait(self, deadline_s: float) -> Ended | None:
        """How the process ended, after at most ``deadline_s`` seconds; None if it still lives."""
        wait_readable(self.pidfd, deadline_s)
        return self.ended()


def _at_end() -> int:
    """A descriptor that is readable, like the pidfd of a process that has exited."""
    reading, writing = os.pipe()
    os.close(writing)
    return reading


def launch(command: Command, *, life_fd: int, status: Path, log: Path) -> Child:
    """Start the command in a new session, its output appended to ``log``. Does not wait.

    Raises `NodeError` if a program that the launch needs is missing or not executable.
    """
    reap()
    with ExitStack() as opened:
        status_fd, log_fd = (_appending(path, opened) for path in (status, log))
        filter_fd = _filter_fd(command.sandbox, opened)
        marks: tuple[tuple[str, str], ...] = (life_mark(os.fstat(life_fd)), instance_mark(status.parent))
        limited = with_largest_file(command.largest_file_bytes)
        if command.sandbox is None:
            program, *arguments = command.argv
            program = shutil.which(program) or program  # in PATH of the caller, who may have installed it elsewhere
            whole, environment = Wrapped(before=(), options=(), after=(*limited, program, *arguments)), marks
        else:
            environment = (*command.sandbox.environment, *marks)
            sandbox = replace(command.sandbox, environment=environment)
            whole = sandboxed(sandbox, command.argv, status_fd, life_fd, filter_fd=filter_fd, held=command.held)
        ours = tuple(fd for fd in (life_fd, status_fd, filter_fd) if fd is not None)
        # bubblewrap clears the environment; until then its own programs are looked for where the caller has them.
        path = PATH if command.sandbox is None else os.environ.get("PATH", os.defpath)

        def run(argv: tuple[str, ...], *gate_fd: int) -> subprocess.Popen[bytes]:
            outside = () if command.sandbox is None else (*with_own_root(), *limited)
            missing = shutil.which(argv[0]) is None  # then without a prefix, so that the error names this program
            prefix = () if missing else (*with_default_signals(), *with_limits(final=not gate_fd), *outside)
            return subprocess.Popen(
                (*prefix, *argv),
                stdin=subprocess.DEVNULL if command.stdin is None else command.stdin,
                stdout=log_fd,
                stderr=log_fd,
                pass_fds=(*ours, *gate_fd, *command.fds),
                start_new_session=True,
                cwd="/",
                umask=UMASK,
                env={"PATH": path, **dict(environment)},
            )

        # Proves that bubblewrap has room to write: without it, bubblewrap dies and leaves a child that waits for ever.
        os.write(status_fd, b"\n")
        try:
            gated = command.group is not None or inherited()
            popen = from_planned_thread(lambda: _run_gated(command.group, whole, run) if gated else run(whole.argv))
        except FileNotFoundError as error:
            program = str(error.filename)
            raise NodeError(f"{program}: not found on this node; install {_PACKAGES.get(program, program)}") from error
        except PermissionError as error:
            raise NodeError(f"{error.filename}: is not executable; check its mode") from error
        if command.sandbox is None:
            os.write(status_fd, json.dumps({"child-pid": popen.pid}).encode() + b"\n")
    return Child(popen, status)


def _run_gated(
    group: Group | None, whole: Wrapped, run: Callable[..., subprocess.Popen[bytes]]
) -> subprocess.Popen[bytes]:
    """Run the command, which waits at a gate until it has left what the caller is in. ``run`` also gets the gate's descriptor."""
    with Gate() as gate:
        argv, words = behind_gate(gate.fd, whole)
        popen = run(argv, gate.fd)
        try:
            if group is not None:
                group.enter(popen.pid)
            forbid_core_dumps(popen.pid)
            as_planned(popen.pid)  # afterwards: the caller's cpuset may lack the CPUs
        except BaseException:
            popen.kill()
            popen.wait()
            raise
        gate.open(words)
    return popen


def _appending(path: Path, opened: ExitStack) -> int:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    opened.callback(os.close, fd)
    return fd


def _filter_fd(sandbox: Sandbox | None, opened: ExitStack) -> int | None:
    """A file with the seccomp filter, at its beginning, for bubblewrap to read."""
    if sandbox is None or sandbox.filter is None:
        return None
    fd = os.memfd_create("filter", os.MFD_CLOEXEC)
    opened.callback(os.close, fd)
    os.write(fd, sandbox.filter)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def run_tool(
    argv: tuple[str, ...],
    *,
    life: Path,
    status: Path,
    deadline_s: float,
    group: Group | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Ended | None, str]:
    """Run a program of the node, unconfined: how it ended, None after the deadline, and its output.

    The output is at most 64 KiB; further writes of the program fail. The program holds the file of the life lock and has
    the mark: if the caller dies meanwhile, recovery ends it. It is moved into ``group`` while it runs, to save time;
    children that it started before stay outside. Raises `NodeError` for a missing program. ``environment`` is added to
    PATH and LC_ALL.
    """
    life_fd = os.open(life, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    output = os.memfd_create("output", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    code_fd = os.memfd_create("code", os.MFD_CLOEXEC)
    try:
        os.ftruncate(output, _TOOL_OUTPUT_BYTES)
        fcntl.fcntl(output, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
        prefix, fds = reporting(code_fd) if shutil.which(argv[0]) else ((), ())
        popen = subprocess.Popen(
            (*prefix, *argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(life_fd, *fds),
            start_new_session=True,
            cwd="/",
            umask=UMASK,
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                "LC_ALL": "C.UTF-8",
                **environment,
                **dict((life_mark(os.fstat(life_fd)),)),
            },
        )
        child = Child(popen, status)
        try:
            if group is not None:
                group.enter(popen.pid)
            ended = child.wait(deadline_s)
        finally:
            child.close()
        if ended is not None and (code := os.pread(code_fd, 16, 0)):
            ended = how_ended(int(code))
        # Its processes share one offset, which is the length of the output.
        text = os.pread(output, os.lseek(output, 0, os.SEEK_CUR), 0)
    except FileNotFoundError as error:
        raise NodeError(f"{argv[0]}: not found on this node; install it") from error
    finally:
        for fd in (life_fd, output, code_fd):
            os.close(fd)
    return ended, text.decode("utf-8", "backslashreplace").strip()


def reap() -> None:
    """Reap launched children that have exited."""
    _children.reap()
