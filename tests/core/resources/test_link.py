"""A link to a file of the instance, at a path of the operator; an existing file there is left alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hvcore.plugin import Job, Link, OperationError, Site
from hvcore.resources.node_files import LinkKind

AtWork = Callable[..., Job]


def link(path: Path, target: str = "vnc") -> Link:
    return Link(key="vnc.link", given_by="params.vnc_bind_address", path=str(path), target=target)


def test_it_leads_into_the_instances_directory_and_goes_with_it(at_work: AtWork, tmp_path: Path) -> None:
    job, path = at_work(), tmp_path / "vnc"
    job.acquire(link(path))
    assert path.readlink() == job.dir / "vnc"
    job.release("vnc.link")
    assert not os.path.lexists(path)
    job.acquire(link(path))
    job.release()
    job.release()


def test_one_that_is_there_already_is_taken(at_work: AtWork, tmp_path: Path) -> None:
    job, path = at_work(), tmp_path / "vnc"
    path.symlink_to(job.dir / "vnc")
    job.acquire(link(path))
    assert path.readlink() == job.dir / "vnc"


@pytest.mark.parametrize("present", ["file", "link"])
def test_what_is_in_the_way_is_named_and_stays(at_work: AtWork, tmp_path: Path, present: str) -> None:
    path = tmp_path / "vnc"
    path.touch() if present == "file" else path.symlink_to("/elsewhere")
    job = at_work()
    with pytest.raises(OperationError, match=f"web1: '{path}' exists already; remove it or choose another path"):
        job.acquire(link(path))
    job.release()  # the ledger has the path, but the file is not ours
    assert os.path.lexists(path)


def test_a_directory_that_is_not_there_is_named(at_work: AtWork, tmp_path: Path) -> None:
    with pytest.raises(OperationError, match="cannot be made, got No such file or directory; choose another"):
        at_work().acquire(link(tmp_path / "none" / "vnc"))


def test_verify_says_what_is_in_the_way_and_where_no_file_can_be_made(
    site: Callable[..., Site], tmp_path: Path
) -> None:
    def problem(path: Path) -> str:
        return "\n".join(map(str, LinkKind().verify(link(path), site())))

    path = tmp_path / "vnc"
    assert problem(path) == ""
    path.symlink_to(site().dir / "vnc")
    assert problem(path) == ""
    path.unlink()
    path.touch()
    assert "exists already" in problem(path)
    assert "which is not a directory of this node" in problem(tmp_path / "gone" / "vnc")
    assert "which is not a directory of this node" in problem(path / "vnc")
