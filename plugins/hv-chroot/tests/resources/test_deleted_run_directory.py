"""Whatever is deleted below the run directory, no file of the operator is."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from images import Build, Leftovers

import hvcore
from hvcore.host.disks.wait_unused import wait_unused

pytestmark = pytest.mark.live

WRITES = """\
    #!/bin/sh
    : > /dev/null  # the shell needs it, and without isolation this root has none
    echo "$1" >> /calls
    if [ "$1" = start ]; then sleep 1000 & echo $! > /daemon; else kill $(cat /daemon); fi
"""


def rm(run_dir: Path) -> None:
    subprocess.run(["rm", "-rf", str(run_dir)], check=False, capture_output=True)


def rm_one_file_system(run_dir: Path) -> None:
    subprocess.run(["rm", "-rf", "--one-file-system", str(run_dir)], check=False, capture_output=True)


def find(run_dir: Path) -> None:
    subprocess.run(["find", str(run_dir), "-depth", "-delete"], check=False, capture_output=True)


def empty_files(run_dir: Path) -> None:
    subprocess.run(["find", str(run_dir), "-type", "f", "-exec", "truncate", "-s0", "{}", "+"], check=False, capture_output=True)  # fmt: skip


def give_away(run_dir: Path) -> None:
    subprocess.run(["chown", "-R", "65534", str(run_dir)], check=False, capture_output=True)
    subprocess.run(["chmod", "-R", "0", str(run_dir)], check=False, capture_output=True)
    subprocess.run(["chown", "-R", "0", str(run_dir)], check=False, capture_output=True)
    subprocess.run(["chmod", "-R", "u+rwX", str(run_dir)], check=False, capture_output=True)


def unmount_once_and_rm(run_dir: Path) -> None:
    for place in sorted((run_dir / "instances/web1").iterdir()):
        subprocess.run(["umount", str(place)], check=False, capture_output=True)
    rm(run_dir)


HARM = pytest.mark.parametrize("harm", [rm, rm_one_file_system, find, empty_files, give_away, unmount_once_and_rm])


def contents(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    """Mode, owner and contents of everything below, without what the scripts of the instance write."""
    found = {}
    for path in sorted(directory.rglob("*")):
        if path.name not in {"calls", "daemon", "written"}:
            seen = path.lstat()
            data = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            found[str(path.relative_to(directory))] = (seen.st_mode, seen.st_uid, data)
    return found


@HARM
@pytest.mark.parametrize("params", [{}, {"isolation": "none"}], ids=["isolated", "plain"])
def test_a_root_directory_is_as_it_was(
    node: hvcore.Node,
    images: Any,
    web1: Build,
    leftovers: Leftovers,
    harm: Callable[[Path], None],
    params: dict[str, str],
) -> None:
    tree = images.tree(WRITES)
    before = contents(tree)
    node.driver("chroot").start(web1(tree, **params))
    made_inside = {name: fact for name, fact in contents(tree).items() if name not in before}
    harm(node.run_dir)
    assert contents(tree) == {**before, **made_inside}
    assert node.stop("web1", force=True).changed
    assert contents(tree) == {**before, **made_inside}
    assert leftovers() == []


@HARM
def test_a_bind_and_an_overlay_directory_are_as_they_were(
    node: hvcore.Node, images: Any, web1: Build, leftovers: Leftovers, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    source, changes = tmp_path / "source", tmp_path / "changes"
    for directory in (source, changes):
        directory.mkdir()
        (directory / "precious").write_text("data\n")
    tree = images.tree(WRITES.replace("echo", "echo x > /mnt/data/written; echo", 1))
    before = contents(tree), contents(source)
    wanted = web1(tree, overlay="directory", overlay_directory=str(changes), binds=[f"{source}:/mnt/data:rw"])
    node.driver("chroot").start(wanted)
    layer = contents(changes)
    harm(node.run_dir)
    assert (contents(tree), contents(source)) == before
    assert contents(changes) == layer
    assert (source / "written").read_text() == "x\n"
    node.stop("web1", force=True)
    assert leftovers() == []


@HARM
def test_the_files_of_an_image_are_as_they_were(
    node: hvcore.Node, images: Any, web1: Build, leftovers: Leftovers, harm: Callable[[Path], None]
) -> None:
    image = images(WRITES)
    node.driver("chroot").start(web1(image))
    harm(node.run_dir)
    node.stop("web1", force=True)
    wait_unused(str(image), 5.0)
    assert leftovers() == []
    node.driver("chroot").start(web1(image))
    assert node.stop("web1").stopped_by == "script"
    assert leftovers() == []


def test_what_runs_inside_still_writes_and_a_program_executed_in_it_does(
    node: hvcore.Node, images: Any, web1: Build, leftovers: Leftovers
) -> None:
    tree = images.tree(WRITES)
    for params in ({}, {"isolation": "none"}):
        node.driver("chroot").start(web1(tree, **params))
        done = node.execution("web1", ["/bin/touch", "/written"])
        assert subprocess.run(done.argv, check=False, capture_output=True).returncode == 0
        assert (tree / "written").exists()
        (tree / "written").unlink()
        assert node.stop("web1").stopped_by in ("script", "term")
        assert leftovers() == []
    assert (tree / "calls").read_text() == "start\nstop\n" * 2


def test_a_directory_that_one_writes_to_is_refused_to_a_reader_of_another_run_directory(
    node: hvcore.Node, other_node: hvcore.Node, images: Any, web1: Build
) -> None:
    tree = images.tree(WRITES)
    node.driver("chroot").start(web1(tree))
    reader = web1(tree, name="web2", overlay="memory")
    with pytest.raises(hvcore.DiskInUseError, match="instance web1"):
        other_node.driver("chroot").start(reader)
    node.stop("web1")
    other_node.driver("chroot").start(reader)
    second = web1(tree, name="web3", overlay="memory")
    node.driver("chroot").start(second)
    with pytest.raises(hvcore.DiskInUseError, match="instance web"):
        node.driver("chroot").start(web1(tree))
    for one, name in ((node, "web3"), (other_node, "web2")):
        one.stop(name)
