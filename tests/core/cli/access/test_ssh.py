"""``hv ssh``, ``hv cp`` and ``hv start --wait``: where they connect, and what ssh is given."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from distributions import installed
from fixture_types import Process

from hvcore import InstanceInfo, Interface, Nic, State
from hvcore.cli.access.ssh_place import SshPlace, ssh_place

# A driver whose instances are reached as its parameter says.
REACHED = """
import sys
import hvcore.plugin as hv

@hv.hookimpl
def params():
    return hv.ParamGroup(
        "reached",
        hv.Param("forward", hv.text(empty=True), default="", help="What."),
        hv.Param("seed_user", hv.text(), help="Who."),
    )

class Reached:
    name = "reached"
    plugins = (("reached", sys.modules[__name__]),)
    hookspecs = ()
    def __init__(self, hooks): pass
    def plan(self, instance, params): return hv.Disk(path=params["forward"])
    def verify(self, spec, host): return ()
    def describe(self, spec, host): return hv.Plan(name="x", driver="reached", steps=())
    def start(self, spec, job): job.bind(forwards=[spec.path] if spec.path else [])
    def observe(self, live):
        return hv.Observation(state=hv.State.RUNNING, details={"forwards": live.record.bindings.get("forwards", [])})
    def stop(self, live, job, *, force): return "term"
"""


def info(*forwards: str, **more: Any) -> InstanceInfo:
    return InstanceInfo(name="web1", driver="kvm", state=State.RUNNING, details={"forwards": list(forwards)}, **more)


@pytest.mark.parametrize(
    ("forwards", "place"),
    [
        (("2222:22",), SshPlace("127.0.0.1", 2222)),
        (("127.0.0.2:8022:22/tcp", "2222:22"), SshPlace("127.0.0.2", 8022)),
        (("[::1]:2222:22",), SshPlace("::1", 2222)),
        (("8080:80", "5353:22/udp", "2200:22"), SshPlace("127.0.0.1", 2200)),
        (("8080:2222", "22:80", "0:22"), None),
        ((), None),
    ],
)
def test_a_forward_to_the_ssh_port_is_taken(forwards: tuple[str, ...], place: SshPlace | None) -> None:
    assert ssh_place(info(*forwards)) == place


def test_without_a_forward_an_address_of_the_guest_is_taken() -> None:
    seen = Interface(nic=0, name="tap0", seen=("192.0.2.9",))
    assert ssh_place(info(interfaces=(seen,))) == SshPlace("192.0.2.9", 22)
    routed = Nic(mode="routed", link="main", ip=("192.0.2.7/32",))
    assert ssh_place(info(nics=(routed,), interfaces=(seen,))) == SshPlace("192.0.2.7", 22)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node with the driver, whose ``ssh`` and ``scp`` print their arguments and exit with 7."""
    site, folder = tmp_path / "site", tmp_path / "bin"
    installed(site, "hv-reached", "[hvcore.drivers]\nreached = reached_driver:Reached\n", requires=(), version="1.0")
    (site / "reached_driver.py").write_text(REACHED)
    folder.mkdir()
    for name in ("ssh", "scp"):
        (folder / name).write_text('#!/bin/sh\nprintf "%s\\n" "$0" "$@"\nexit 7\n')
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep))
    monkeypatch.setenv("PATH", os.pathsep.join([str(folder), os.environ["PATH"]]))
    monkeypatch.setenv("HVCORE_CONFIG_DIR", str(tmp_path / "etc"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return folder


@contextlib.contextmanager
def listening(answers: list[bytes]) -> Iterator[int]:
    """A port that gives one of the answers to each connection, the last one again and again."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection, contextlib.suppress(OSError):
                        # As passt does: nothing leads to the guest before the client has sent something.
                        assert connection.recv(100).startswith(b"SSH-2.0-")
                        connection.sendall(answers.pop(0) if len(answers) > 1 else answers[0])

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(60)


@pytest.fixture
def started(hv_process: Process, tmp_path: Path, programs: Path) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """``hv start`` of web1, which is defined and reached at that forward."""

    def run(forward: str, *options: str, more: str = "") -> subprocess.CompletedProcess[bytes]:
        path = tmp_path / "web1.toml"
        path.write_text(f'name = "web1"\ndriver = "reached"\n[params]\nforward = "{forward}"\n{more}')
        assert hv_process("define", str(path)).returncode == 0
        found: subprocess.CompletedProcess[bytes] = hv_process("start", "web1", *options)
        return found

    return run


@pytest.mark.heavy
class TestSsh:
    def test_it_runs_ssh_with_the_place_and_the_user_of_the_definition(
        self, started: Any, hv_process: Process, programs: Path, tmp_path: Path
    ) -> None:
        started("127.0.0.1:2222:22", more='seed_user = "ops"\n')
        found = hv_process("ssh", "web1", "ls", "-l", "/")
        words = found.stdout.decode().splitlines()
        assert found.returncode == 7
        assert words[:3] == [str(programs / "ssh"), "-p", "2222"]
        assert words[-5:] == ["--", "ops@127.0.0.1", "ls", "-l", "/"]
        assert "HostKeyAlias=hv-web1" in words
        assert f'UserKnownHostsFile="{tmp_path}/state/hvcore/known_hosts"' in words
        assert "StrictHostKeyChecking=accept-new" in words
        words = hv_process("ssh", "-l", "root", "web1").stdout.decode().splitlines()
        assert words[-2:] == ["--", "root@127.0.0.1"]

    def test_it_copies_in_both_directions(self, started: Any, hv_process: Process) -> None:
        started("[::1]:2222:22")
        words = hv_process("cp", "-r", "./a:b", "web1:/tmp/").stdout.decode().splitlines()
        assert words[1:4] == ["-P", "2222", "-r"]
        assert words[-3:] == ["--", "././a:b", "[::1]:/tmp/"]
        words = hv_process("cp", "web1:x", "/abs").stdout.decode().splitlines()
        assert words[-2:] == ["[::1]:x", "/abs"]
        for arguments in (("a", "b"), ("web1:a", "web1:b")):
            found = hv_process("cp", *arguments)
            assert found.returncode == 2
            assert b"must be NAME:PATH" in found.stderr

    def test_a_guest_without_a_way_in_is_refused_with_what_to_do(self, started: Any, hv_process: Process) -> None:
        started("8080:80")
        found = hv_process("ssh", "web1")
        assert found.returncode == 1
        assert b'nothing leads to its ssh port; forward a port, such as forward = ["127.0.0.1:0:22"]' in found.stderr

    def test_an_unknown_instance_is_refused(self, hv_process: Process, programs: Path) -> None:
        assert hv_process("ssh", "web9").returncode == 4
        assert programs.exists()

    def test_it_waits_until_an_ssh_server_speaks(self, started: Any, hv_process: Process) -> None:
        with listening([b"", b"HTTP/1.1 400\r\n", b"SSH-2.0-x\r\n"]) as port:
            assert b"ssh answers after" in started(f"127.0.0.1:{port}:22", "--wait", "60").stdout
            assert hv_process("ssh", "--wait", "60", "web1").returncode == 7

    def test_a_wait_ends_at_its_deadline(self, started: Any) -> None:
        with listening([b"220 mail\r\n"]) as port:
            found = started(f"127.0.0.1:{port}:22", "--wait", "0.5")
        assert found.returncode == 1
        assert b"web1: no answer of ssh within 0.5 s" in found.stderr

    @pytest.mark.parametrize("option", ["--paused", "--console"])
    def test_a_wait_does_not_go_with_what_keeps_the_guest_from_running(self, hv_process: Process, option: str) -> None:
        found = hv_process("start", "web1", option, "--wait", "5")
        assert found.returncode == 2
        assert option.encode() in found.stderr
