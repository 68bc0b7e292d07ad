"""The monitor client against real QEMU processes that are busy, hung, or killed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hv_kvm.qmp import (
    QmpBusyError,
    QmpClosedError,
    QmpCommandError,
    QmpConnectError,
    QmpTimeoutError,
    commands,
    connect,
)

QEMU = shutil.which("qemu-system-x86_64") or "qemu-system-x86_64"
pytestmark = pytest.mark.live


class Qemu:
    """A QEMU without a machine, whose monitor socket the test makes and passes on."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "qmp")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.path)
            listener.listen(1)
            chardev = f"socket,id=mon0,fd={listener.fileno()},server=on,wait=off"
            self.process = subprocess.Popen(
                [
                    QEMU,
                    *[
                        "-machine",
                        "none",
                        "-nodefaults",
                        "-no-user-config",
                        "-display",
                        "none",
                        "-S",
                        "-name",
                        "guest=web1",
                    ],
                    *("-chardev", chardev, "-mon", "chardev=mon0,mode=control"),
                ],
                pass_fds=(listener.fileno(),),
                stdin=subprocess.DEVNULL,
            )

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stall(self) -> None:
        """Stop the process, and wait until it has stopped."""
        self.signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)


@pytest.fixture
def qemu(tmp_path: Path) -> Iterator[Qemu]:
    qemu = Qemu(tmp_path)
    yield qemu
    qemu.process.kill()
    qemu.process.wait()


def test_every_command_of_the_driver_is_understood(qemu: Qemu) -> None:
    with connect(qemu.path, deadline_s=60) as client:
        assert commands.query_status(client).state == "prelaunch"
        assert commands.query_cpus_fast(client) == ()
        assert commands.query_vnc(client) is None
        commands.cont(client)
        assert commands.query_status(client).running
        client.wait_event("RESUME", deadline_s=60)
        commands.stop(client)
        assert commands.query_status(client).state == "paused"
        assert client.wait_event("STOP", deadline_s=60).at is not None
        commands.system_powerdown(client)
        client.wait_event("POWERDOWN", deadline_s=60)
        with pytest.raises(QmpCommandError, match="CommandNotFound"):
            client.execute("no-such-command")
        commands.quit(client, deadline_s=60)
    assert qemu.process.wait(60) == 0


def test_connect_before_qemu_is_ready_waits_for_its_greeting(qemu: Qemu) -> None:
    with connect(qemu.path, deadline_s=60) as client:
        assert client.greeting.offers_oob


def test_a_second_client_finds_the_monitor_busy_and_gets_it_later(qemu: Qemu) -> None:
    with connect(qemu.path, deadline_s=60), pytest.raises(QmpBusyError):
        connect(qemu.path, deadline_s=0.1)
    with connect(qemu.path, deadline_s=60) as client:
        assert not commands.query_status(client).running


def test_a_stopped_qemu_times_out_and_obeys_when_it_wakes_up(qemu: Qemu) -> None:
    with connect(qemu.path, deadline_s=60) as client:
        qemu.stall()
        with pytest.raises(QmpTimeoutError, match="no answer to cont"):
            commands.cont(client, deadline_s=0.1)
        qemu.signal(signal.SIGCONT)
        client.wait_event("RESUME", deadline_s=60)  # the command was executed after all
        assert commands.query_status(client).running  # and its late reply is not taken for this one's


def test_a_stopped_qemu_whose_client_has_left_hangs_and_is_not_busy(qemu: Qemu) -> None:
    with connect(qemu.path, deadline_s=60):
        qemu.stall()
        with pytest.raises(QmpBusyError):
            connect(qemu.path, deadline_s=0.05)
    with pytest.raises(QmpTimeoutError, match="no greeting of QEMU"):
        connect(qemu.path, deadline_s=0.05)


def test_a_qemu_killed_during_a_command_closes_the_monitor_at_once(qemu: Qemu) -> None:
    with connect(qemu.path, deadline_s=60) as client:
        qemu.stall()
        with pytest.raises(QmpTimeoutError):
            commands.query_status(client, deadline_s=0.05)
        qemu.signal(signal.SIGKILL)
        started = time.monotonic()
        with pytest.raises(QmpClosedError):
            commands.query_status(client, deadline_s=300)
        assert time.monotonic() - started < 60
    qemu.process.wait()
    with pytest.raises(QmpConnectError):
        connect(qemu.path, deadline_s=1)


def test_a_client_that_dies_in_the_middle_of_a_line_does_not_disturb_the_next(qemu: Qemu) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(qemu.path)
        other.recv(1)
        other.send(b'{"execute": "qmp_capab')
    with connect(qemu.path, deadline_s=60) as client:
        assert client.execute("query-name") == {"name": "web1"}


def test_a_file_handed_over_can_be_used(qemu: Qemu) -> None:
    with connect(qemu.path, deadline_s=60) as client:
        fd = os.open("/dev/null", os.O_RDONLY)
        client.execute("getfd", {"fdname": "null"}, fds=(fd,))
        os.close(fd)
        client.execute("closefd", {"fdname": "null"})


def test_out_of_band_works_when_negotiated(qemu: Qemu) -> None:
    with connect(qemu.path, deadline_s=60, oob=True) as client, pytest.raises(QmpCommandError):
        client.execute("migrate-pause", oob=True)
