"""``hv watch`` as a process: a line for each event, until ^C."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fixture_types import File, Hv

pytestmark = pytest.mark.heavy  # a process of hv for each test

COMMAND = (sys.executable, "-c", "from hvcore.cli import main; main()")


@contextmanager
def watching(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A watch that is ended at the end of the block, and has to end well."""
    with subprocess.Popen([*COMMAND, "watch", *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise
        process.send_signal(signal.SIGINT)
        assert process.wait(300) == 0


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.fixture
def begun(run_dir: Path) -> Callable[[Path], None]:
    """Waits until a watch has written its bookmark, from which on no event is missed."""

    def wait(path: Path) -> None:
        from hvcore.host.notifier import ENTRIES, Notifier
        from hvcore.host.processes.process import wait_readable

        with Notifier() as notifier:
            notifier.watch(str(path.parent), ENTRIES)
            while not path.exists():
                assert wait_readable(notifier.fd, 60)
                list(notifier.changes())

    return wait


def test_a_line_for_each_event_until_the_user_ends_it(
    hv: Hv, instance_file: File, tmp_path: Path, begun: Callable[[Path], None]
) -> None:
    mark = tmp_path / "mark"
    with watching("--bookmark", str(mark)) as process:
        begun(mark)
        hv("start", instance_file())
        assert line(process).split()[2:] == ["web1", "started"]
        hv("pause", "web1")
        assert line(process).split()[2:] == ["web1", "paused"]
        hv("stop", "web1")
        assert line(process).split()[2:] == ["web1", "stopped", "stop"]


def test_a_bookmark_continues_after_the_last_event_that_was_printed(
    hv: Hv, instance_file: File, tmp_path: Path, begun: Callable[[Path], None]
) -> None:
    mark = tmp_path / "mark"
    with watching("--bookmark", str(mark)):
        begun(mark)
    hv("start", instance_file())
    with watching("--json", "--bookmark", str(mark)) as process:
        first = json.loads(line(process))
        assert (first["event"], first["name"], first["driver"]) == ("started", "web1", "fake")
    hv("stop", "web1")
    with watching("--json", "--bookmark", str(mark)) as process:
        last = json.loads(line(process))
        assert (last["event"], last["ended_by"], last["reason"]) == (
            "stopped",
            "unknown",
            "it ended between two watches",
        )


def test_since_a_time_prints_what_was_before(hv: Hv, instance_file: File) -> None:
    hv("start", instance_file())
    for since in ("1h", "2000-01-01", "2000-01-01T00:00:00+02:00"):
        with watching("--since", since, "web1") as process:
            assert line(process).split()[2:] == ["web1", "started"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--since", "yesterday"], "must be a time such as 10m"),
        (["--since", "1h", "--bookmark", "x"], "--since cannot be used with --bookmark"),
        (["--bookmark", "{file}"], "is not a bookmark"),
        (["../x"], "name"),
    ],
)
def test_what_it_cannot_use_is_refused(hv: Hv, tmp_path: Path, arguments: list[str], words: str) -> None:
    file = tmp_path / "file"
    file.write_text("[]")
    result = hv("watch", *(argument.format(file=file) for argument in arguments))
    assert result.exit_code == 2
    assert words in result.stderr
