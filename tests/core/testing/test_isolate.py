"""Which moments of an operation the checks of crashes try."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hvcore.testing.isolate import act_at, forked


def counted(work: Callable[[], object], directory: Path) -> int:
    """How many moments the work has, in a child: an audit hook cannot be removed."""

    def do() -> int:
        seen = act_at(-1, lambda: None, directory)
        work()
        return seen()

    found = forked(do).result()
    assert isinstance(found, int)
    return found


@pytest.mark.parametrize("times", [1, 2, 500])
@pytest.mark.parametrize("look", [Path.read_text, lambda path: os.listdir(path.parent), lambda path: os.open(path, 0)])
def test_waiting_for_a_file_is_one_moment_however_long_it_takes(
    tmp_path: Path, look: Callable[[Path], object], times: int
) -> None:
    """Otherwise the sampled moments of a slow start are all in the wait, and a broken driver passes on a busy node."""
    status = tmp_path / "status"
    status.touch()

    def start() -> None:
        (tmp_path / "before").touch()
        for _ in range(times):
            look(status)
        (tmp_path / "after").touch()

    assert counted(start, tmp_path) == 3


@pytest.mark.parametrize(
    "change", [Path.touch, lambda path: path.write_text("x"), lambda path: path.parent.chmod(0o700), Path.mkdir]
)
def test_each_change_is_a_moment_and_so_is_the_first_look_after_it(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    def work() -> None:
        for number in range(5):
            change(tmp_path / str(number))
            os.listdir(tmp_path)
            os.listdir(tmp_path)

    assert counted(work, tmp_path) == 10
