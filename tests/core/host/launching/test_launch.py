"""Launching one process that can be found again at any moment."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest
from fixture_types import Eventually

from hvcore import NodeError
from hvcore.host.cgroups.group import Group
from hvcore.host.cgroups.hierarchy import control_groups, group_name
from hvcore.host.confinement.bubblewrap import Wrapped
from hvcore.host.confinement.own_root import with_own_root
from hvcore.host.launching.gate import Gate, behind_gate
from hvcore.host.launching.launch import Child, launch, life_lock, reap, run_tool
from hvcore.host.processes.launched import Status, life_mark, members, read_status
from hvcore.host.processes.process import alive, identify, wait_gone
from hvcore.model.limits import GroupLimits
from hvcore.plugin import AsCaller, AsRoot, AsUser, Command, Ended, Sandbox

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
OFF = None
STRICT = Sandbox(who=AsUser(1_880_000_000))


class Start(Protocol):
    def __call__(
        self,
        *argv: str,
        sandbox: Sandbox | None = OFF,
        fds: tuple[int, ...] = (),
        name: str = "i",
        group: Group | None = None,
    ) -> Child: ...


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Launch a program in a new directory; it is killed at the end if it still lives."""
    children: list[Child] = []
    folders: list[Path] = []

    def run(
        *argv: str,
        sandbox: Sandbox | None = OFF,
        fds: tuple[int, ...] = (),
        name: str = "i",
        group: Group | None = None,
    ) -> Child:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        folders.append(folder)
        with life_lock(folder / "alive") as life_fd:
            command = Command(argv=argv, sandbox=sandbox, fds=fds, group=group)
            child = launch(command, life_fd=life_fd, status=folder / "status", log=folder / "log")
        children.append(child)
        return child

    yield run
    for folder in folders:
        for process in members(folder / "alive", folder / "status"):
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
    for child in children:
        assert child.wait(60) is not None
        with suppress(OSError):
            child.close()
    reap()


def test_only_our_exited_children_are_reaped(tmp_path: Path) -> None:
    def start(number: int) -> int:
        folder = tmp_path / str(number)
        folder.mkdir()
        with life_lock(folder / "alive") as life_fd:
            command = Command(argv=("sleep", "60"), sandbox=None)
            child = launch(command, life_fd=life_fd, status=folder / "status", log=folder / "log")
        pid = read_status(folder / "status").pid
        child.close()
        assert pid is not None
        return pid

    def kill(*pids: int) -> None:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    def zombies() -> set[int]:
        stats = {pid: Path(f"/proc/{pid}/stat") for pid in (*ours, theirs.pid)}
        return {pid for pid, stat in stats.items() if stat.exists() and stat.read_text().rpartition(") ")[2][0] == "Z"}

    theirs = subprocess.Popen(["sleep", "60"])
    ours = [start(number) for number in range(12)]
    kill(*ours[6:])
    assert zombies() == set(ours[6:])
    reap()
    assert zombies() == set()
    kill(theirs.pid, *ours[:6])
    reap()
    assert zombies() == {theirs.pid}
    assert theirs.wait() == -signal.SIGKILL


def held(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@pytest.mark.parametrize(
    ("script", "ended", "words"),
    [
        ("exit 0", Ended(code=0), "exited with 0"),
        ("exit 3", Ended(code=3), "exited with 3"),
        ("kill -9 $$", Ended(signal=9), "was killed by SIGKILL"),
        ("kill -TERM $$", Ended(signal=15), "was killed by SIGTERM"),
        ("exit 139", Ended(signal=11), "was killed by SIGSEGV"),
    ],
)
def test_the_exit_status_is_reported(start: Start, script: str, ended: Ended, words: str) -> None:
    child = start("sh", "-c", script)
    assert child.wait(60) == ended
    assert str(ended) == words


def test_a_signal_without_a_name_is_shown_as_a_number() -> None:
    assert str(Ended(signal=40)) == "was killed by signal 40"


def test_a_living_process_has_no_exit_status(start: Start) -> None:
    child = start("sleep", "100")
    assert child.ended() is None
    assert child.wait(0.01) is None


def test_output_is_kept_in_the_log(start: Start, tmp_path: Path) -> None:
    start("sh", "-c", "echo out; echo err >&2").wait(60)
    assert (tmp_path / "i" / "log").read_text() == "out\nerr\n"


def test_a_process_has_its_own_session_without_our_terminal_or_directory(start: Start) -> None:
    child = start("sleep", "100")
    process = child.process()
    assert process is not None
    assert os.getsid(process.pid) == process.pid
    assert os.readlink(f"/proc/{process.pid}/cwd") == "/"
    assert os.readlink(f"/proc/{process.pid}/fd/0") == "/dev/null"


def descriptors(pid: int) -> dict[int, str]:
    return {int(fd): os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}


@pytest.mark.live
@ROOT
@pytest.mark.parametrize("sandbox", [STRICT, Sandbox(who=AsCaller()), Sandbox(who=AsRoot(), reaper=True)], ids=str)
def test_a_process_inherits_only_the_listed_descriptors(
    start: Start, tmp_path: Path, sandbox: Sandbox, eventually: Eventually
) -> None:
    if isinstance(sandbox.who, AsCaller) and with_own_root():
        pytest.skip("the kernel makes no user namespaces in a chroot")
    wanted, secret = os.memfd_create("wanted"), os.memfd_create("secret")
    os.set_inheritable(secret, True)
    start("sleep", "100", sandbox=sandbox, fds=(wanted,))
    eventually(lambda: executed(tmp_path, "sleep", "100"))
    (pid,) = executed(tmp_path, "sleep", "100")
    found = descriptors(pid)
    os.close(wanted)
    os.close(secret)
    log, life = str(tmp_path / "i" / "log"), str(tmp_path / "i" / "alive")
    assert {fd: found[fd] for fd in (0, 1, 2)} == {0: "/dev/null", 1: log, 2: log}
    rest = sorted(target for fd, target in found.items() if fd > 2)
    assert rest == sorted(["/memfd:wanted (deleted)", *([] if sandbox.reaper else [life])])
    if not sandbox.reaper:
        number = next(fd for fd, target in found.items() if target == life)
        flags = next(
            line for line in Path(f"/proc/{pid}/fdinfo/{number}").read_text().splitlines() if line.startswith("flags")
        )
        assert int(flags.split()[1], 8) & os.O_ACCMODE == os.O_RDONLY


def members_of(tmp_path: Path) -> list[int]:
    return [process.pid for process in members(tmp_path / "i" / "alive", tmp_path / "i" / "status")]


def executed(tmp_path: Path, *argv: str) -> list[int]:
    """The members that execute this command. What confines a command has its words in its own command line before."""
    wanted, found = b"".join(b"%s\0" % word.encode() for word in argv), []
    for pid in members_of(tmp_path):
        with suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{pid}/cmdline").read_bytes() == wanted:
                found.append(pid)
    return found


@pytest.mark.live
@ROOT
def test_bubblewrap_writes_the_exit_code_without_a_waiting_parent(start: Start, tmp_path: Path) -> None:
    child = start("sh", "-c", "exit 7", sandbox=STRICT)
    assert child.wait(60) == Ended(code=7)
    assert read_status(tmp_path / "i" / "status").ended == Ended(code=7)


def test_the_life_lock_is_held_while_a_launched_process_lives(start: Start, tmp_path: Path) -> None:
    child = start("sh", "-c", "sleep 100 & exit 0")
    assert child.wait(60) == Ended(code=0)
    assert held(tmp_path / "i" / "alive")
    (process,) = members(tmp_path / "i" / "alive", tmp_path / "i" / "status")
    os.kill(process.pid, signal.SIGKILL)
    assert wait_gone(process, 5)
    assert not held(tmp_path / "i" / "alive")


def test_a_process_between_fork_and_exec_is_found(start: Start, tmp_path: Path, eventually: Eventually) -> None:
    """A shell takes the place of bubblewrap before exec: no status is written, but it has the lock and the mark."""
    start("sh", "-c", "read x < /dev/tty1x || sleep 100")
    (tmp_path / "i" / "status").unlink()
    eventually(lambda: members_of(tmp_path))


def test_a_child_that_the_host_application_forked_is_not_a_member(tmp_path: Path, in_child: Callable[..., int]) -> None:
    folder = tmp_path / "i"
    folder.mkdir()
    ready = os.pipe()

    def wait() -> None:
        os.write(ready[1], b"x")
        signal.pause()

    with life_lock(folder / "alive"):
        in_child(wait, wait=False)
    os.read(ready[0], 1)
    os.close(ready[0])
    os.close(ready[1])
    assert held(folder / "alive")
    assert members(folder / "alive", folder / "status") == []


@pytest.mark.live
@ROOT
def test_a_process_without_descriptors_is_found_in_its_namespace(
    start: Start, tmp_path: Path, eventually: Eventually
) -> None:
    script = "exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-; exec env -i /usr/bin/sleep 100"
    start("bash", "-c", script, sandbox=STRICT)
    eventually(lambda: executed(tmp_path, "/usr/bin/sleep", "100"))


@pytest.mark.live
@ROOT
def test_a_process_in_a_new_namespace_with_a_reused_number_is_not_a_member(
    start: Start, tmp_path: Path, eventually: Eventually
) -> None:
    """The kernel reuses numbers of namespaces at once: 4026532193 may be another instance's a moment later."""
    folder = tmp_path / "dead"
    folder.mkdir()
    (folder / "alive").touch()
    start("sleep", "100", sandbox=STRICT, name="i")
    eventually(lambda: read_status(tmp_path / "i" / "status").pid_namespace is not None)
    status = read_status(tmp_path / "i" / "status")
    with subprocess.Popen(["true"]) as popen:
        popen.wait()
    (folder / "status").write_text(json.dumps({"child-pid": popen.pid, "pid-namespace": status.pid_namespace}))
    assert members(folder / "alive", folder / "status") == []
    (folder / "status").write_text(json.dumps({"child-pid": os.getpid(), "pid-namespace": status.pid_namespace}))
    assert members(folder / "alive", folder / "status") == []
    eventually(lambda: len(members_of(tmp_path)) == 1)  # what confines it is a member, too, until it executes


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("", Status()),
        ("{", Status()),
        ('{"child-pid": 12', Status()),
        ("[1]\nnull\n7\n", Status()),
        ('{"child-pid": "x", "pid-namespace": null}\n', Status()),
        ('{"child-pid": 12, "pid-namespace": 34}\n{"exit-', Status(pid=12, pid_namespace=34)),
        ('{"child-pid": 12}\n{"exit-code": 3}\n', Status(pid=12, ended=Ended(code=3))),
        ('{"child-pid": 12}\n{"exit-code": 137}\n', Status(pid=12, ended=Ended(signal=9))),
    ],
)
def test_a_partly_written_status_file_is_read(tmp_path: Path, text: str, status: Status) -> None:
    (tmp_path / "status").write_text(text)
    assert read_status(tmp_path / "status") == status


def test_a_status_file_that_is_missing_or_a_link_gives_an_empty_status(tmp_path: Path) -> None:
    (tmp_path / "status").symlink_to("/etc/passwd")
    assert read_status(tmp_path / "status") == Status()
    assert read_status(tmp_path / "none") == Status()


def test_an_exited_child_is_reaped_later(tmp_path: Path, start: Start) -> None:
    child = start("sleep", "100")
    process = child.process()
    assert process is not None
    child.close()
    os.kill(process.pid, signal.SIGKILL)
    assert wait_gone(process, 5)
    assert identify(process.pid) == process
    reap()
    assert identify(process.pid) is None


@pytest.mark.heavy
def test_many_threads_may_reap_at_once(start: Start) -> None:
    for number in range(8):
        child = start("true", name=f"i{number}")
        child.wait(60)
        child.close()
    threads = [threading.Thread(target=reap) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize(
    ("program", "message"),
    [("no-such-program", "no-such-program: not found on this node; install"), ("/etc/passwd", "is not executable")],
)
def test_a_program_that_cannot_be_started_is_an_error_and_no_lock_stays(
    start: Start, tmp_path: Path, program: str, message: str
) -> None:
    with pytest.raises(NodeError, match=message):
        start(program)
    assert not held(tmp_path / "i" / "alive")


def test_a_missing_bubblewrap_is_an_error_with_its_package(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NodeError, match="bwrap: not found on this node; install bubblewrap"):
        start("true", sandbox=Sandbox(who=AsCaller()))


def test_a_tool_gives_its_exit_status_and_output(tmp_path: Path) -> None:
    ended, output = run_tool(
        ("sh", "-c", "echo hello; exit 4"), life=tmp_path / "alive", status=tmp_path / "s", deadline_s=60
    )
    assert (ended, output) == (Ended(code=4), "hello")


def test_output_of_a_tool_is_limited(tmp_path: Path) -> None:
    script = "import sys\nfor _ in range(1000): sys.stdout.write('x' * 1000)"
    _, output = run_tool((sys.executable, "-c", script), life=tmp_path / "alive", status=tmp_path / "s", deadline_s=30)
    assert len(output) <= 64 * 1024


def test_a_tool_that_misses_its_deadline_is_a_member(tmp_path: Path) -> None:
    ended, _ = run_tool(("sleep", "100"), life=tmp_path / "alive", status=tmp_path / "status", deadline_s=0.05)
    assert ended is None
    (process,) = members(tmp_path / "alive", tmp_path / "status")
    assert alive(process)
    os.kill(process.pid, signal.SIGKILL)
    assert wait_gone(process, 5)
    reap()


def test_a_missing_tool_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NodeError, match="no-such-tool: not found"):
        run_tool(("no-such-tool",), life=tmp_path / "alive", status=tmp_path / "s", deadline_s=1)


class TestIntoAGroup:
    """A launched program does not run before it is in its control group."""

    @pytest.fixture
    def group(self, tmp_path: Path) -> Iterator[Group]:
        node = control_groups()
        if not node.usable:
            pytest.skip("this node does not allow control groups")
        group = Group(group_name(tmp_path, "web1"), node)
        group.create(GroupLimits())
        yield group
        group.kill(5)
        group.remove()

    @pytest.mark.parametrize("sandbox", [OFF, STRICT], ids=["off", "strict"])
    def test_the_process_and_its_sandbox_are_in_the_group(
        self, start: Start, group: Group, sandbox: Sandbox | None
    ) -> None:
        child = start("sleep", "100", sandbox=sandbox, group=group)
        process = child.monitor()
        assert process is not None
        assert process.pid in group.pids()
        assert group.kill(5)
        assert child.wait(60) is not None

    @ROOT
    def test_more_options_than_a_pipe_holds_are_read(self, start: Start, group: Group, tmp_path: Path) -> None:
        environment = tuple((f"V{n}", "--" if n % 2 else "x" * 100) for n in range(2000))
        child = start("env", sandbox=replace(STRICT, environment=environment), group=group)
        assert child.wait(60) == Ended(code=0)
        output = (tmp_path / "i/log").read_text().splitlines()
        assert {f"V1999={'--'}", f"V1998={'x' * 100}"} <= set(output)

    @pytest.mark.parametrize("confined", [False, True])
    def test_the_program_does_not_run_if_the_launching_process_dies_first(
        self, tmp_path: Path, *, confined: bool
    ) -> None:
        argv = ("touch", str(tmp_path / "ran"))
        everything = ("--dev-bind", "/", "/")
        whole = Wrapped(before=(), options=(), after=argv)
        if confined:
            whole = Wrapped(before=("bwrap",), options=everything, after=("--", *argv))
        with Gate() as gate:
            stands, _ = behind_gate(gate.fd, whole)
            popen = subprocess.Popen(stands, pass_fds=(gate.fd,), stderr=subprocess.DEVNULL)
        assert popen.wait(60) != 0
        assert not (tmp_path / "ran").exists()

    def test_the_program_does_not_run_without_its_group(self, start: Start, group: Group, tmp_path: Path) -> None:
        group.remove()
        with pytest.raises(NodeError, match=r"cgroup.procs: pid \d+ cannot be added"):
            start("touch", str(tmp_path / "ran"), group=group)
        assert not (tmp_path / "ran").exists()

    def test_a_missing_program_is_named(self, start: Start, group: Group) -> None:
        with pytest.raises(NodeError, match="no-such-program: not found"):
            start("no-such-program", group=group)


def test_a_holder_during_exec_is_checked_again(tmp_path: Path) -> None:
    """Played by a program without an environment, which executes one with the mark a moment later."""
    with life_lock(tmp_path / "alive") as life_fd:
        mark = "=".join(life_mark(os.fstat(life_fd)))
        # The shell would export PWD, and this one is to have no environment.
        later = ("sh", "-c", f"read _; unset PWD; exec /usr/bin/env {mark} sleep 100")
        with subprocess.Popen(later, env={}, stdin=subprocess.PIPE, pass_fds=(life_fd,)) as popen:
            try:
                assert popen.stdin is not None
                threading.Timer(0.01, popen.stdin.close).start()
                found = members(tmp_path / "alive", tmp_path / "status")
                assert [process.pid for process in found] == [popen.pid]
            finally:
                popen.kill()
