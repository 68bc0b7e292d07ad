"""``hv view``, ``hv screenshot`` and ``hv vnc-password`` on the fake driver, and with viewers that are scripts."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from fixture_types import File, Hv, Process

from hvcore import ConsoleAddress, ConsoleKind, Node

HV = (sys.executable, "-c", "from hvcore.cli import main; main()")
VNC = ConsoleAddress(kind=ConsoleKind.VNC, host="::1", port=5901, password=True)
PRIVATE = ConsoleAddress(kind=ConsoleKind.VNC, socket="/run/hvcore/vnc.sock", tls=True)


@pytest.mark.parametrize(
    ("address", "uri"),
    [
        (VNC, "vnc://[::1]:5901"),
        (PRIVATE, None),
        (ConsoleAddress(kind=ConsoleKind.SPICE, host="127.0.0.1", port=5930), "spice://127.0.0.1:5930"),
        (ConsoleAddress(kind=ConsoleKind.SPICE, host="h", port=5930, tls=True), "spice://h?tls-port=5930"),
        (ConsoleAddress(kind=ConsoleKind.SERIAL, socket="/s"), None),
    ],
)
def test_an_address_is_a_uri_for_viewers(address: ConsoleAddress, uri: str | None) -> None:
    assert address.uri == uri == address.to_json()["uri"]


@pytest.fixture
def desktop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with viewers that print their arguments, on a desktop."""
    for name in ("remote-viewer", "vncviewer"):
        script = tmp_path / name
        script.write_text('#!/bin/sh\necho "$0" "$@"\n')
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("DISPLAY", ":9")
    return tmp_path


def shown(monkeypatch: pytest.MonkeyPatch, *found: ConsoleAddress) -> None:
    monkeypatch.setattr(Node, "consoles", lambda _node, _name: found)


def test_view_prints_how_to_reach_the_display(hv: Hv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    shown(monkeypatch, ConsoleAddress(kind=ConsoleKind.SERIAL, socket="/s"), VNC)
    assert hv("view", "web1").stdout == "vnc://[::1]:5901\nvnc needs a password\n"
    assert [one["uri"] for one in json.loads(hv("view", "web1", "--json").stdout)] == ["vnc://[::1]:5901"]
    shown(monkeypatch, PRIVATE)
    assert hv("view", "web1").stdout.startswith(
        "vnc on the Unix socket /run/hvcore/vnc.sock\nvnc needs TLS\nfrom another"
    )


def test_view_starts_a_viewer(hv: Hv, desktop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execvp", lambda _file, argv: started.append(argv))
    shown(monkeypatch, VNC)
    hv("view", "web1")
    shown(monkeypatch, PRIVATE)
    hv("view", "web1")
    assert started == [["remote-viewer", "--", "vnc://[::1]:5901"], ["vncviewer", "/run/hvcore/vnc.sock"]]
    assert hv("view", "web1", "--print").stdout.startswith("vnc on the Unix socket")
    assert len(started) == 2


def test_an_instance_without_a_display_is_named(hv: Hv, instance_file: File) -> None:
    hv("start", instance_file())
    result = hv("view", "web1")
    assert (result.exit_code, "neither a VNC nor a SPICE display" in result.stderr) == (1, True)
    assert hv("view", "web2").exit_code == 4
    assert json.loads(hv("info", "web1", "--json").stdout)["consoles"] == []


@pytest.mark.heavy
def test_a_screenshot_is_saved_as_a_whole(hv: Hv, hv_process: Process, instance_file: File, tmp_path: Path) -> None:
    hv("start", instance_file())
    file = tmp_path / "web1.png"
    assert hv("screenshot", "web1", str(file)).stderr == f"web1: {file.stat().st_size} bytes in {file}\n"
    assert hv_process("screenshot", "web1", "-").stdout == file.read_bytes()
    result = hv("screenshot", "web1", str(tmp_path / "none" / "a.png"))
    assert (result.exit_code, "cannot be written" in result.stderr) == (1, True)
    assert hv("screenshot", "web2", str(file)).exit_code == 4
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_password_is_taken_from_standard_input(hv: Hv, instance_file: File) -> None:
    hv("start", instance_file())
    assert hv("vnc-password", "web1", stdin="hunter2\nmore\n").stdout == "web1: VNC password set\n"
    assert hv("vnc-password", "web1", "--expire", "2m", stdin="hunter2").stdout.endswith("set, valid for 120 s\n")
    assert json.loads(hv("vnc-password", "web1", "--json", stdin="x").stdout)["op"] == "vnc-password"
    for wrong in ("", "123456789", "a\tb", b"\xff"):
        result = hv("vnc-password", "web1", stdin=wrong)
        assert result.exit_code == 2
        assert "1 to 8 printable ASCII characters" in result.stderr
        assert "123456789" not in result.stderr
    assert hv("vnc-password", "web2", stdin="x").exit_code == 4
    assert hv("vnc-password", "web1", "--expire", "0", stdin="x").exit_code == 2


@pytest.mark.heavy
def test_a_password_that_is_typed_is_not_shown(hv_process: Process, instance_file: File) -> None:
    hv_process("start", instance_file())
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*HV, "vnc-password", "web1"], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        seen = b""
        while b"VNC password of web1:" not in seen:
            seen += os.read(ours, 1000)
        os.write(ours, b"hunter2\n")
        while b"VNC password set" not in seen:
            seen += os.read(ours, 1000)
        assert process.wait(60) == 0
    os.close(ours)
    assert b"hunter2" not in seen
