"""``hv doctor`` and ``hv verify DRIVER``: their output for operators and for scripts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fixture_types import Hv, Process

from hvcore.cli.progress import time_limit

pytestmark = pytest.mark.heavy  # drivers that hang, and their time limits

HV = (sys.executable, "-c", "from hvcore.cli import main; main()")


@pytest.fixture(autouse=True)
def _only_these(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HVCORE_DRIVERS", "fake,bare,failing,chroot")


def areas(findings: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(finding["area"] for finding in findings))


def test_a_healthy_installation_ends_with_0(hv: Hv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HVCORE_DRIVERS", "fake")
    found = hv("doctor")
    assert "  ok      driver fake: hv-fake" in found.stdout
    assert "  note    driver kvm: hv-kvm" in found.stdout
    assert found.stdout.splitlines()[-1].startswith("no problems, ")
    assert found.exit_code == 0


def test_the_same_as_json(hv: Hv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HVCORE_DRIVERS", "fake")
    found = json.loads(hv("doctor", "--json").stdout)
    assert found["well"] is True
    assert areas(found["findings"]) == [
        "versions",
        "plugins",
        "node",
        "networks",
        "run directory",
        "leftovers",
        "driver fake",
    ]
    assert set(found["findings"][0]) == {"area", "subject", "severity", "what", "todo"}


@pytest.mark.usefixtures("other_drivers")
def test_a_broken_driver_ends_with_1_and_says_why(hv_process: Process) -> None:
    found = hv_process("doctor")
    assert found.returncode == 1
    assert b"PROBLEM load: driver failing (hv-failing 2.0): cannot be imported" in found.stdout
    assert b"driver bare\n  ok      load: 1 parameters" in found.stdout


def test_leftovers_are_listed_with_the_command_that_removes_them(
    hv: Hv, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HVCORE_DRIVERS", "fake")
    path = run_dir / "reservations" / "uid"
    path.mkdir(parents=True, mode=0o700)
    run_dir.chmod(0o700)
    (path / "1880000001").symlink_to("ghost")
    found = hv("doctor")
    assert found.exit_code == 1
    assert "-> hv stop --force ghost" in found.stdout


def test_a_missing_program_of_a_driver_is_shown_with_the_package_to_install(
    hv_process: Process, monkeypatch: Any
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    found = hv_process("verify", "chroot", "--json")
    assert found.returncode == 1
    problems = json.loads(found.stdout)["problems"]
    assert {"bwrap", "mount", "setpriv"} <= {problem["path"] for problem in problems}
    assert "install bubblewrap" in {problem["todo"] for problem in problems}


def test_a_driver_that_can_run_here_is_shown_with_its_operations(hv: Hv) -> None:
    found = hv("verify", "fake")
    assert found.exit_code == 0
    assert found.stdout.startswith("driver fake: this node can run it; it can start, stop, ")


@pytest.mark.usefixtures("other_drivers")
@pytest.mark.parametrize("command", [("doctor",), ("drivers", "--load")])
def test_the_examination_goes_on_after_a_driver_that_hangs_during_its_import(
    hv_process: Process, tmp_path: Path, command: tuple[str, ...]
) -> None:
    place = tmp_path / "site" / "failing_driver.py"
    place.write_text("import time\ntime.sleep(600)\n")
    text = hv_process(*command, "--deadline", "5").stdout.decode()
    assert f"did not finish loading within 5 s (at {place}:2)" in text
    assert "driver fake\n  ok      load" in text or "fake     hv-fake" in text


TIMER = "import signal\nsignal.raise_signal(signal.SIGALRM)\n"
SWALLOWS = f"try:\n    import signal\n    signal.raise_signal(signal.SIGALRM)\nexcept TimeoutError:\n    pass\n{TIMER}"
DURING_THE_REPORT = """\
import signal
class Late(Exception):
    def __str__(self):
        signal.raise_signal(signal.SIGALRM)
        return "never shown"
raise Late()
"""


@pytest.mark.usefixtures("other_drivers")
@pytest.mark.parametrize("text", [TIMER, SWALLOWS, DURING_THE_REPORT], ids=["at once", "twice", "during the report"])
def test_the_other_drivers_are_listed_whenever_the_time_of_one_is_over(
    hv_process: Process, tmp_path: Path, text: str
) -> None:
    """The timer of the time limit may ring at any line, also in hvcore's own code; on a busy node it does."""
    (tmp_path / "site" / "failing_driver.py").write_text(text)
    found = hv_process("doctor").stdout.decode()
    assert "not done within" in found
    assert "driver bare\n  ok      load" in found


@pytest.mark.parametrize("seconds", [0.01, 60.0])
def test_a_time_limit_does_not_outlast_its_block(seconds: float) -> None:
    def ring() -> None:
        with time_limit(seconds) as begin:
            begin()
            raised.append(signal.getsignal(signal.SIGALRM))
            signal.raise_signal(signal.SIGALRM)

    raised: list[object] = []
    with pytest.raises(TimeoutError, match=f"not done within {seconds:g} s"):
        ring()
    (handler,) = raised
    assert callable(handler)
    handler(signal.SIGALRM, None)  # a signal that came before the end of the block, and is delivered after it
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.mark.usefixtures("other_drivers")
def test_a_driver_that_hangs_during_its_import_is_named_after_an_interrupt(tmp_path: Path, run_dir: Path) -> None:
    began = tmp_path / "began"
    os.mkfifo(began)
    code = f"import time\nopen({str(began)!r}, 'w').write('now')\ntime.sleep(60)\n"
    (tmp_path / "site" / "failing_driver.py").write_text(code)
    process = subprocess.Popen([*HV, "doctor"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    with process:
        began.read_text()
        process.send_signal(signal.SIGINT)
        said = process.stderr.read() if process.stderr else b""
    assert b"interrupted while examining driver failing (hv-failing) and its extensions; to leave a driver out" in said
    assert process.returncode == 130
