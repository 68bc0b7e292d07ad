"""What happens before ``hv`` does anything: few imports, and no traceback for Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

HV = "import sys; sys.argv = ['hv', *sys.argv[1:]]; from hv_command import main; main()"
# Slow imports, which only a driver, an instance file or a terminal needs.
LATE = {
    *(
        "ctypes",
        "importlib.metadata",
        "packaging",
        "pluggy",
        "rich",
        "stevedore",
        "subprocess",
        "tomllib",
        "voluptuous",
    ),
    *(
        "hvcore.api.driver_handle",
        "hvcore.model.answers",
        "hvcore.plugins.typed_hooks",
        "hvcore.state.job",
        "hvcore.plugins.loader",
        "hvcore.operations.lifecycle.start",
        "hvcore.params.schema",
    ),
}
INTERRUPT = """
import os, signal, sys
def hook(event, args):
    if event == "import" and args[0] == wanted:
        os.kill(os.getpid(), signal.SIGINT)
wanted = sys.argv.pop(1)
sys.addaudithook(hook)
"""


def imported(*arguments: str) -> set[str]:
    command = [sys.executable, "-X", "importtime", "-c", HV, *arguments]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stderr
    return {line.rpartition("|")[2].strip() for line in said.splitlines() if line.startswith("import time:")}


def test_it_imports_little_to_show_its_version_or_an_empty_list(run_dir: Path) -> None:
    bare = {
        line.rpartition("|")[2].strip()
        for line in subprocess.run(
            [sys.executable, "-X", "importtime", "-c", "pass"], capture_output=True, text=True, check=True
        ).stderr.splitlines()
    }
    for arguments, budget in ((("--version",), 95), (("--run-dir", str(run_dir), "list"), 150)):
        found = imported(*arguments) - bare
        assert LATE & found == set()
        assert len(found) <= budget, sorted(found)


@pytest.mark.parametrize(
    "moment",
    [
        "hvcore",
        "hvcore.state.store",
        "hvcore.cli",
        "click",
        "hvcore.cli.app",
        "hvcore.cli.exit_status",
        "hvcore.cli.options",
    ],
)
def test_an_interrupt_while_it_is_imported_ends_it_without_a_word(moment: str, run_dir: Path) -> None:
    command = [sys.executable, "-c", INTERRUPT + HV, moment, "--run-dir", str(run_dir), "list"]
    found = subprocess.run(command, capture_output=True, check=False, timeout=300)
    assert (found.stdout, found.stderr) == (b"", b"")
    assert found.returncode in (-signal.SIGINT, 128 + signal.SIGINT)


def test_an_interrupt_that_is_ignored_stays_so(run_dir: Path) -> None:
    run_dir.mkdir(mode=0o700)
    ignoring = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    command = [sys.executable, "-c", ignoring + INTERRUPT + HV, "click", "--run-dir", str(run_dir), "list"]
    found = subprocess.run(command, capture_output=True, check=False, timeout=300)
    assert (found.returncode, found.stderr) == (0, b"no instances\n")
