"""From the first moment of a start, nobody on the node can write to a mount of the instance: a deletion would reach files."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from images import Build, Leftovers

import hvcore
from hvcore.host.mount_table import mounts_at_or_below

pytestmark = pytest.mark.live

CALLS = {"libc_call", "system_call", "run_tool", "shield", "in_own_mounts", "launch"}
CASES = tuple(itertools.product(("disk", "directory"), ("none", "memory", "directory"), ("on", "off")))
OURS = ("output",)  # a tmpfs that has nothing of the operator's


@pytest.fixture
def seen(tmp_path: Path) -> Iterator[set[str]]:
    """Names of mounts of the instance that the node could write to, at any return of a function that may have mounted."""
    found: set[str] = set()
    looked = [0]

    def look(frame: FrameType, event: str, _: object) -> None:
        if event == "return" and frame.f_code.co_name in CALLS:
            looked[0] += 1
            mounts = mounts_at_or_below(str(tmp_path / "run"))
            found.update(mount.point for mount in mounts if not mount.read_only and Path(mount.point).name not in OURS)

    threading.setprofile(look)
    sys.setprofile(look)
    yield found
    sys.setprofile(None)
    threading.setprofile(None)
    assert looked[0] > 5


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_no_mount_of_a_start_is_writable_for_the_node(
    node: hvcore.Node, images: Any, web1: Build, tmp_path: Path, seen: set[str], case: tuple[str, str, str]
) -> None:
    kind, overlay, users = case
    tree, shared, kept = images.tree(), tmp_path / "shared", tmp_path / "kept"
    shared.mkdir()
    kept.mkdir()
    source = images.pack(tree) if kind == "disk" else tree
    params: dict[str, object] = {"overlay": overlay}
    if overlay == "directory":
        params["overlay_directory"] = str(kept)
    binds = [f"{shared}:/new/place:rw", f"{shared}:/new/place/below"]
    (shared / "below").mkdir()
    node.driver("chroot").start(web1(source, binds=binds, resolv_conf="node", user_namespace=users, **params))
    assert seen == set()
    node.stop("web1")
    assert seen == set()


def test_without_namespaces_neither(node: hvcore.Node, images: Any, web1: Build, seen: set[str]) -> None:
    node.driver("chroot").start(web1(images(), isolation="none"))
    node.stop("web1")
    assert seen == set()


def test_a_mount_that_fails_leaves_nothing(
    node: hvcore.Node, images: Any, web1: Build, leftovers: Leftovers, tmp_path: Path
) -> None:
    image = images()
    with open(image, "r+b") as file:
        file.seek(1024)
        file.write(b"\0" * 1024)  # the superblock
    with pytest.raises(hvcore.HvError):
        node.driver("chroot").start(web1(image))
    assert leftovers() == []
    assert mounts_at_or_below(str(tmp_path)) == []


def test_an_image_behind_a_link_on_another_mount(
    node: hvcore.Node, images: Any, web1: Build, tmp_path: Path, mounted: Callable[[Path], None]
) -> None:
    (tmp_path / "link").mkdir()
    mounted(tmp_path / "link")
    (tmp_path / "link" / "web1.img").symlink_to(images())
    node.driver("chroot").start(web1(tmp_path / "link" / "web1.img"))
    assert node.info("web1").state is hvcore.State.RUNNING
    node.stop("web1")


@pytest.fixture
def mounted() -> Iterator[Callable[[Path], None]]:
    made: list[Path] = []

    def mount(point: Path) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "test", str(point)], check=True)
        made.append(point)

    yield mount
    for point in made:
        subprocess.run(["umount", str(point)], check=True)
