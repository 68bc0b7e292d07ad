"""The second half of a parameter's check: what it names has to be there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hvcore import Schema
from hvcore.host.node_checks import node_problems
from hvcore.plugin import Param, ParamGroup, directory, file, list_of

SCHEMA = Schema.compile(
    [
        (
            "x",
            ParamGroup(
                "x",
                Param("kernel", file(), help="What is booted."),
                Param("key", file(), secret=True, help="What nobody sees."),
                Param("share", directory(), help="What is shared."),
                Param("shares", list_of(directory()), help="More of them."),
            ),
        )
    ]
)


def told(**values: str | list[str]) -> list[str]:
    return [str(problem) for problem in node_problems(SCHEMA, SCHEMA.check(values, "web1"))]


def test_what_is_there_and_what_is_not_set_is_fine(tmp_path: Path) -> None:
    (tmp_path / "a,b").touch()
    assert told(kernel=str(tmp_path / "a,b"), share=str(tmp_path)) == []
    assert told() == []


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    first, second = told(kernel=str(tmp_path), share=str(tmp_path / "file"))
    assert first.startswith(f"params.kernel: is a directory, not a file, got {str(tmp_path)!r}")
    assert second.startswith("params.share: is not a directory, got")
    (missing,) = told(kernel=str(tmp_path / "none"))
    assert "cannot be used (No such file or directory)" in missing


def test_each_path_of_a_list_is_looked_at(tmp_path: Path) -> None:
    (only,) = told(shares=[str(tmp_path), str(tmp_path / "none")])
    assert only.startswith(f"params.shares: cannot be used (No such file or directory), got {str(tmp_path / 'none')!r}")


def test_a_secret_path_is_not_shown(tmp_path: Path) -> None:
    (only,) = told(key=str(tmp_path / "hunter2"))
    assert "hunter2" not in only


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").touch(mode=0o000)
    assert "cannot be read by this user" in told(kernel=str(tmp_path / "a"))[0]
