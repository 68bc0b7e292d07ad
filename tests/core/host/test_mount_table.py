"""Reading the mount table, and unmounting below a directory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvcore.errors import LeftoverError
from hvcore.host.mount_table import (
    Mount,
    _at_or_below,
    _mentions,
    mounts,
    mounts_at_or_below,
    parse_mountinfo,
    unmount_below,
)

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
MS_BIND, MS_MOVE, MS_PRIVATE = 4096, 8192, 1 << 18
MakeMount = Callable[..., None]
PARTS = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8)


def written(point: str) -> bytes:
    """As the kernel writes it (fs/proc_namespace.c: space, tab, newline and backslash)."""
    escaped = os.fsencode(point).replace(b"\\", b"\\134").replace(b" ", b"\\040")
    return escaped.replace(b"\t", b"\\011").replace(b"\n", b"\\012").replace(b"#", b"\\043")


@given(st.lists(PARTS, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts)))
def test_every_path_is_unescaped(point: str) -> None:
    text = (
        b"36 35 98:0 "
        + written(point)
        + b" "
        + written(point)
        + b" rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n"
    )
    assert parse_mountinfo(text) == [Mount(id=36, parent=35, device=(98, 0), root=point, point=point, read_only=False)]
    assert _mentions(text, point)
    assert _mentions(text, os.path.dirname(point))


def test_our_own_table_can_be_read() -> None:
    points = {mount.point for mount in mounts()}
    assert "/proc" in points  # "/" itself is not there in a chroot
    assert all(point.startswith("/") for point in points)


def table(*points: tuple[int, int, str]) -> list[Mount]:
    return [
        Mount(id=number, parent=parent, device=(8, 1), root="/", point=point, read_only=False)
        for number, parent, point in points
    ]


def test_a_name_with_the_same_beginning_is_not_below() -> None:
    found = _at_or_below("/run/web1", table((2, 1, "/run/web1"), (3, 1, "/run/web10"), (4, 2, "/run/web1/a")))
    assert [mount.id for mount in found] == [4, 2]


def test_a_slash_at_the_end_changes_nothing() -> None:
    everything = table((1, 1, "/"), (2, 1, "/run/web1"), (3, 1, "/run"))
    assert _at_or_below("/run/web1/", everything) == _at_or_below("/run/web1", everything)
    assert [mount.id for mount in _at_or_below("/", everything)] == [3, 2, 1]


def test_the_topmost_mount_comes_first_even_if_it_is_older() -> None:
    """2 was moved below 3, and 5 is stacked on 4."""
    everything = table((1, 1, "/"), (2, 3, "/d/b/a"), (3, 1, "/d/b"), (4, 1, "/d/c"), (5, 4, "/d/c"))
    order = [mount.id for mount in _at_or_below("/d", everything)]
    assert order.index(2) < order.index(3)
    assert order.index(5) < order.index(4)


@pytest.fixture
def private(tmp_path: Path, mount: MakeMount) -> Path:
    """A directory whose mounts do not propagate."""
    mount("tmpfs", tmp_path, "tmpfs")
    mount("", tmp_path, "", MS_PRIVATE)
    return tmp_path


@pytest.mark.live
@ROOT
def test_everything_at_or_below_is_unmounted_and_nothing_beside_it(private: Path, mount: MakeMount) -> None:
    for name in ("web1", "web10"):
        (private / name).mkdir()
        mount("tmpfs", private / name, "tmpfs")
        (private / name / "a b\n\\").mkdir()
        mount("tmpfs", private / name / "a b\n\\", "tmpfs")
    mount("tmpfs", private / "web1", "tmpfs")  # on top of the first mount
    assert unmount_below(str(private / "web1")) == 3
    assert mounts_at_or_below(str(private / "web1")) == []
    assert len(mounts_at_or_below(str(private / "web10"))) == 2
    assert unmount_below(str(private / "web1")) == 0


@pytest.mark.live
@ROOT
def test_an_older_mount_that_was_moved_below_a_younger_one_is_unmounted_first(private: Path, mount: MakeMount) -> None:
    for name in ("old", "young"):
        (private / name).mkdir()
        mount("tmpfs", private / name, "tmpfs")
    (private / "young" / "below").mkdir()
    mount(str(private / "old"), private / "young" / "below", "", MS_MOVE)
    assert unmount_below(str(private / "young")) == 2


@pytest.mark.live
@ROOT
@pytest.mark.parametrize("how", ["cwd", "fd"])
def test_a_busy_mount_stays_and_its_user_is_named(private: Path, mount: MakeMount, how: str) -> None:
    (private / "web1").mkdir()
    mount("tmpfs", private / "web1", "tmpfs")
    (private / "web1" / "f").touch()
    script = (
        f"import os,sys; os.chdir({str(private / 'web1')!r})" if how == "cwd" else "import sys; f = open(sys.argv[1])"
    )
    argv = [sys.executable, "-c", f"{script}; print(flush=True); sys.stdin.read()", str(private / "web1" / "f")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as popen:
        assert popen.stdout is not None
        popen.stdout.readline()
        with pytest.raises(LeftoverError, match=rf"web1: cannot be unmounted, got .*busy, used by pid {popen.pid} \("):
            unmount_below(str(private / "web1"))
        assert len(mounts_at_or_below(str(private / "web1"))) == 1
    assert unmount_below(str(private / "web1")) == 1
