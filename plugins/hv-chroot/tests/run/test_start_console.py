"""``hv start --console`` of a chroot: its output from the first byte, as the instance runs."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from images import Leftovers

import hvcore

pytestmark = pytest.mark.live

SCRIPT = """\
    #!/bin/sh
    [ $1 = stop ] && exit 0
    echo first
    [ -c /dev/null ] || : > /dev/null
    { sleep 1; echo last; exec sleep %d; } &
"""


def started(tmp_path: Path, root: Path, **params: str) -> subprocess.Popen[bytes]:
    lines = [f'root_directory = "{root}"', *(f'{key} = "{value}"' for key, value in params.items())]
    (tmp_path / "web1.toml").write_text("\n".join(['name = "web1"', 'driver = "chroot"', "[params]", *lines, ""]))
    argv = (sys.executable, "-c", "from hvcore.cli import main; main()", "--run-dir", str(tmp_path / "run"))
    return subprocess.Popen(
        (*argv, "start", "--console", str(tmp_path / "web1.toml")),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("isolation", ["namespaces", "none"])
def test_all_of_its_output_is_shown_until_it_ends(
    node: hvcore.Node, images: Any, tmp_path: Path, isolation: str, leftovers: Leftovers
) -> None:
    command = started(tmp_path, images.tree(SCRIPT % 0), isolation=isolation)
    out, err = command.communicate(timeout=60)
    assert (command.returncode, out) == (0, b"first\nlast\n")
    assert b"web1: shutdown (no process left)" in err
    node.cleanup("web1")
    assert leftovers() == []


def test_it_runs_on_when_the_user_leaves(node: hvcore.Node, images: Any, tmp_path: Path) -> None:
    command = started(tmp_path, images.tree(SCRIPT % 1000))
    assert command.stdout is not None
    assert command.stdout.readline() == b"first\n"
    assert command.stdout.readline() == b"last\n"
    command.send_signal(signal.SIGINT)
    assert b"web1 is still running" in command.communicate(timeout=60)[1]
    assert command.returncode == 130
    assert node.info("web1").state is hvcore.State.RUNNING
    node.stop("web1")


def test_a_script_that_fails_is_shown_and_leaves_nothing(
    node: hvcore.Node, images: Any, tmp_path: Path, leftovers: Leftovers
) -> None:
    command = started(tmp_path, images.tree("#!/bin/sh\necho wrong; exit 3\n"))
    out, err = command.communicate(timeout=60)
    assert command.returncode == 1
    assert out in (b"", b"wrong\n")  # it may have gone before it was read, but the error quotes it
    assert b"exited with 3 after" in err
    assert b'"wrong"' in err
    assert node.instances() == []
    assert leftovers() == []


def test_an_interrupted_script_leaves_nothing(
    node: hvcore.Node, images: Any, tmp_path: Path, leftovers: Leftovers
) -> None:
    command = started(tmp_path, images.tree("#!/bin/sh\necho waits; exec sleep 1000\n"))
    assert command.stdout is not None
    assert command.stdout.readline() == b"waits\n"
    command.send_signal(signal.SIGINT)
    assert b"web1 is not running, and nothing of it is left" in command.communicate(timeout=60)[1]
    assert command.returncode == 130
    assert leftovers() == []
