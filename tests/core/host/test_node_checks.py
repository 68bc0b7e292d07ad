"""The part of a parameter's check that needs this node: its file has to exist."""

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
                Param("kernel", file(), help="Kernel to boot."),
                Param("key", file(), secret=True, help="File with the key."),
                Param("share", directory(), help="Directory to share."),
                Param("shares", list_of(directory()), help="More of them."),
            ),
        )
    ]
)


def problems(**values: str | list[str]) -> list[str]:
    return [str(problem) for problem in node_problems(SCHEMA, SCHEMA.check(values, "web1"))]


def test_existing_and_unset_paths_are_fine(tmp_path: Path) -> None:
    (tmp_path / "a,b").touch()
    assert problems(kernel=str(tmp_path / "a,b"), share=str(tmp_path)) == []
    assert problems() == []


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    first, second = problems(kernel=str(tmp_path), share=str(tmp_path / "file"))
    assert first.startswith(f"params.kernel: is a directory, not a file, got {str(tmp_path)!r}")
    assert second.startswith("params.share: is not a directory, got")
    (missing,) = problems(kernel=str(tmp_path / "none"))
    assert "cannot be used (No such file or directory)" in missing


def test_each_path_of_a_list_is_checked(tmp_path: Path) -> None:
    (only,) = problems(shares=[str(tmp_path), str(tmp_path / "none")])
    assert only.startswith(f"params.shares: cannot be used (No such file or directory), got {str(tmp_path / 'none')!r}")


def test_a_secret_path_is_not_shown(tmp_path: Path) -> None:
    (only,) = problems(key=str(tmp_path / "hunter2"))
    assert "hunter2" not in only


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "a").touch(mode=0o000)
    assert "cannot be read by this user" in problems(kernel=str(tmp_path / "a"))[0]
