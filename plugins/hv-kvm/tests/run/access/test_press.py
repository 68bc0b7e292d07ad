"""Buttons and keys of real guests, and of a QEMU that answers badly or not at all."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from world import HELLO, PATIENCE_S, World

import hvcore
from hv_kvm.qmp import QmpClient, QmpError, QmpTimeoutError, adopt, commands, reach
from hv_kvm.qmp.introspect import query_keys
from hv_kvm.qmp.wire import LINE_LIMIT, Wire
from hvcore import EndedBy, State
from hvcore.state.store import Store

GREETING = (
    b'{"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": ""}, "capabilities": []}}\r\n'
)

COMMANDS: dict[str, Callable[[QmpClient], Any]] = {
    "system_reset": lambda client: commands.system_reset(client, deadline_s=PATIENCE_S),
    "system_powerdown": lambda client: commands.system_powerdown(client, deadline_s=PATIENCE_S),
    "send-key": lambda client: commands.send_key(client, ["ctrl", "a"], deadline_s=PATIENCE_S),
    "inject-nmi": lambda client: commands.inject_nmi(client, deadline_s=PATIENCE_S),
}
BEFORE = {
    "an event": b'{"event": "RESET", "data": {"guest": false}}\n',
    "an event without data": b'{"event": "POWERDOWN"}\n',
    "an unknown event": b'{"event": "NEW_IN_99", "data": [1]}\n',
    "a reply to another command": b'{"return": {}, "id": 7654321}\n',
    "an error of another command": b'{"error": {"class": "GenericError", "desc": "x"}, "id": "other"}\n',
    "an empty line": b"\n",
    "10 MiB": b'{"event": "' + b"x" * (10 << 20) + b'"}\n',
}


def served(script: Callable[[socket.socket, bytes], None]) -> tuple[socket.socket, threading.Thread]:
    """A stand-in for QEMU: an event before the greeting, then ``script`` with the first command's line."""
    ours, theirs = socket.socketpair()

    def run() -> None:
        with theirs, theirs.makefile("rb") as lines:
            theirs.sendall(b'{"event": "RESUME"}\n' + GREETING)
            ready = lines.readline()
            theirs.sendall(b'{"return": {}, "id": %d}\n' % identity(ready))
            script(theirs, lines.readline())

    thread = threading.Thread(target=run)
    thread.start()
    return ours, thread


def identity(line: bytes) -> int:
    found: int = json.loads(line)["id"]
    return found


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("before", BEFORE)
def test_whatever_comes_before_the_answer_is_not_taken_for_it(name: str, before: str) -> None:
    def script(peer: socket.socket, command: bytes) -> None:
        assert f'"{name}"'.encode() in command
        peer.sendall(BEFORE[before])
        answer = b'{"return": {}, "id": %d}\n' % identity(command)
        peer.sendall(answer[:9])  # half a line
        peer.sendall(answer[9:])

    ours, thread = served(script)
    with adopt(ours, deadline_s=PATIENCE_S) as client:
        COMMANDS[name](client)
    thread.join()


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("answer", [b"", b"{", b"[]\n", b"\xff\n", b"x" * 100 + b"\n", b'{"error": 7, "id": %d}\n'])
def test_an_answer_that_is_wrong_or_missing_is_an_error(name: str, answer: bytes) -> None:
    ours, thread = served(lambda peer, command: peer.sendall(answer.replace(b"%d", b"%d" % identity(command))))
    with adopt(ours, deadline_s=PATIENCE_S) as client, pytest.raises(QmpError):
        COMMANDS[name](client)
    thread.join()


def test_an_endless_line_is_bounded() -> None:
    ours, theirs = socket.socketpair()

    def flood() -> None:
        with theirs:
            try:
                while True:
                    theirs.sendall(b"x" * (1 << 20))
            except OSError:
                return

    thread = threading.Thread(target=flood)
    thread.start()
    client = QmpClient(Wire(ours, "qmp", line_limit=4 << 20))
    with pytest.raises(QmpError, match="more than"):
        client.negotiate(deadline_s=PATIENCE_S)
    client.close()
    thread.join()
    assert LINE_LIMIT > 4 << 20


# ---------------------------------------------------------------------------------------------------------- real guests


@pytest.mark.live
def test_the_buttons_and_keys_of_a_guest(world: World) -> None:
    world.pressable()
    with world.console() as console:
        assert world.node.reset("web1").state is State.RUNNING
        console.until(HELLO.encode())  # it boots again
        assert world.info().state is State.RUNNING
    world.node.send_keys("web1", "ctrl-alt-delete", "a", "enter", "shift-minus")
    with pytest.raises(hvcore.InputError, match="no key 'delet'; did you mean 'delete'"):
        world.node.send_keys("web1", "a", "ctrl-delet")
    world.node.nmi("web1")
    world.node.pause("web1")
    assert world.node.reset("web1").state is State.PAUSED
    assert (world.info().state, world.info().reason) == (State.PAUSED, "has not run yet")
    with pytest.raises(hvcore.StateError, match="resume"):
        world.node.powerdown("web1")
    with world.console() as console:
        world.node.resume("web1")
        console.until(HELLO.encode())
    outcome = world.node.powerdown("web1", wait=True, deadline_s=PATIENCE_S)
    assert (outcome.changed, outcome.state) == (True, State.SHUTDOWN)
    assert not world.node.powerdown("web1").changed
    ended = world.node.wait("web1", state=State.SHUTDOWN, deadline_s=PATIENCE_S)
    assert ended.ended_by is EndedBy.POWERDOWN


@pytest.mark.live
def test_a_qemu_that_hangs_or_dies_under_a_button(world: World) -> None:
    world.start("web1", acpi=False)
    with pytest.raises(hvcore.UnsupportedError, match="no ACPI"):
        world.node.powerdown("web1")
    pid = world.pid()
    os.kill(pid, signal.SIGSTOP)
    for press in (world.node.reset, world.node.nmi):
        with pytest.raises(QmpTimeoutError, match=r"web1: no greeting of QEMU .*; nothing was asked yet"):
            press("web1", deadline_s=0.3)
    assert world.info().state is State.RUNNING
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(world.node.reset, "web1", deadline_s=PATIENCE_S)
        while not Store(world.run_dir).locked("web1"):
            os.sched_yield()
        with pytest.raises(hvcore.BusyError):
            world.node.reset("web1", busy_s=0)
        world.kill()
        with pytest.raises((hvcore.OperationError, hvcore.StateError)):  # the state is read under the lock, too
            waiting.result()
    assert world.info().ended_by is EndedBy.KILLED
    with pytest.raises(hvcore.StateError):
        world.node.reset("web1")


@pytest.mark.live
def test_the_keys_are_those_of_the_schema(world: World) -> None:
    world.start()
    with reach(world.dir(), PATIENCE_S) as client:
        found = query_keys(client, deadline_s=PATIENCE_S)
    assert {"ctrl", "alt", "delete", "ret", "f12", "a", "0", "meta_l"} <= found


@pytest.mark.live
def test_a_guest_that_was_killed_or_has_shut_down_is_started_again(world: World) -> None:
    off = world.disk("off.img", exit_after_boot="poweroff")
    file = world.root / "web1.toml"
    for keys, disk, by in (
        ('on_crash = "restart"', world.disk(), EndedBy.KILLED),
        ('on_shutdown = "restart"', off, EndedBy.GUEST),
    ):
        text = f'name = "web1"\ndriver = "kvm"\nmemory_mib = 32\n{keys}\n[[disks]]\npath = "{disk}"\n'
        file.write_text(f'{text}[params]\nkvm_flag = "disabled"\n')
        file.chmod(0o600)
        world.kvm.start(hvcore.load_instance(file), source=file, deadline_s=PATIENCE_S)
        before = world.record().process
        if by is EndedBy.KILLED:
            world.kill()
        assert world.node.wait("web1", state=(State.CRASHED, State.SHUTDOWN), deadline_s=PATIENCE_S).pid is None
        assert [one.what for one in world.node.act()] == ["restarted"]
        assert world.record().process != before
        world.node.stop("web1", force=True)
        (world.run_dir / "restarts" / "web1").unlink()
