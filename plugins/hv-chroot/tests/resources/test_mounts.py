"""Sources of a root, its changes, and binds of the node's files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from images import Build, Leftovers

import hvcore
from hvcore.host.mount_table import mounts_at_or_below

pytestmark = pytest.mark.live


# Writes its findings to /reports, a writable bind of the test.
REPORTING = """\
    #!/bin/sh
    touch /written
    { cat /etc/resolv.conf; cat /shown/page; touch /shown/new; ls -ln /; } > /reports/$1 2>&1
    [ $1 = start ] && sleep 1000 &
    [ $1 = start ] || kill -9 -1
"""
# Runs without namespaces too, where /dev is the image's.
DAEMON = """\
    #!/bin/sh
    [ -c /dev/null ] || : > /dev/null
    [ $1 = stop ] || { sleep 1000 & echo $! > /daemon; }
    [ $1 = start ] || kill $(cat /daemon)
"""
USERS = pytest.mark.parametrize("users", ["off", "on"])


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    (tmp_path / "reports").mkdir()
    return tmp_path / "reports"


@pytest.fixture
def shown(tmp_path: Path) -> Path:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages/page").write_text("a page of the node\n")
    return tmp_path / "pages"


def inside(node: hvcore.Node, applet: str, *arguments: str) -> str:
    """What that program of busybox writes inside the instance."""
    execution = node.execution("web1", [f"/bin/{applet}", *arguments])
    return subprocess.run(execution.argv, capture_output=True, text=True, check=True).stdout


def points(tmp_path: Path) -> list[str]:
    return [mount.point for mount in mounts_at_or_below(str(tmp_path))]


@USERS
def test_directory_is_a_root_and_keeps_what_is_written(
    node: hvcore.Node, images: Any, web1: Build, reports: Path, leftovers: Leftovers, users: str
) -> None:
    tree = images.tree(REPORTING)
    node.driver("chroot").start(web1(tree, user_namespace=users, binds=[f"{reports}:/reports:rw"]))
    assert node.stop("web1").stopped_by == "script"
    assert leftovers() == []
    assert (tree / "written").stat().st_uid == 0
    assert (reports / "stop").stat().st_uid == 0
    assert re.search(r"\s0\s+0\s.* written", (reports / "start").read_text())


@USERS
@pytest.mark.parametrize("kind", ["disk", "directory"])
def test_changes_in_memory_are_gone_after_the_stop(
    node: hvcore.Node, images: Any, web1: Build, reports: Path, users: str, kind: str
) -> None:
    tree = images.tree(REPORTING)
    source = images.pack(tree) if kind == "disk" else tree
    before = source.read_bytes() if kind == "disk" else sorted(os.listdir(source))
    instance = web1(source, overlay="memory", overlay_size=4, user_namespace=users, binds=[f"{reports}:/reports:rw"])
    for _ in range(2):
        node.driver("chroot").start(instance)
        assert node.stop("web1").stopped_by == "script"
    assert "written" in (reports / "start").read_text()
    assert before == (source.read_bytes() if kind == "disk" else sorted(os.listdir(source)))


@USERS
def test_changes_kept_in_a_directory_are_there_again(
    node: hvcore.Node, images: Any, web1: Build, tmp_path: Path, users: str
) -> None:
    script = """\
        #!/bin/sh
        [ $1 = stop ] && exec kill -9 -1
        cat /count; echo x >> /count; rm -f /etc/gone; sleep 1000 &
    """
    tree = images.tree(script)
    (tree / "etc/gone").write_text("before")
    image = images.pack(tree)
    before = image.read_bytes()
    kept = tmp_path / "kept, of: web1\\"
    kept.mkdir()
    instance = web1(image, overlay="directory", overlay_directory=str(kept), user_namespace=users)
    for times in (1, 2):
        node.driver("chroot").start(instance)
        node.stop("web1")
        assert (kept / "changes/count").read_text() == "x\n" * times
    assert (kept / "changes/count").stat().st_uid == 0
    assert image.read_bytes() == before


def test_lower_file_system_is_shared_by_many_each_with_its_own_changes(
    node: hvcore.Node, images: Any, web1: Build, leftovers: Leftovers
) -> None:
    image = images()
    driver = node.driver("chroot")
    for name in ("web1", "web2"):
        driver.start(web1(image, name=name, overlay="memory"))
    with pytest.raises(hvcore.DiskInUseError, match="instance web1"):
        driver.start(web1(image, name="web3"))
    assert node.stop("web1").stopped_by == "script"
    assert node.info("web2").state is hvcore.State.RUNNING
    assert node.stop("web2").stopped_by == "script"
    assert leftovers() == []


def test_two_instances_never_keep_their_changes_in_one_directory(
    node: hvcore.Node, images: Any, web1: Build, tmp_path: Path
) -> None:
    image = images()
    (tmp_path / "kept").mkdir()
    kept = {"overlay": "directory", "overlay_directory": str(tmp_path / "kept")}
    node.driver("chroot").start(web1(image, **kept))
    with pytest.raises(hvcore.DiskInUseError, match="kept': already in use by instance web1"):
        node.driver("chroot").start(web1(image, name="web2", **kept))
    node.stop("web1", force=True)


def test_one_directory_is_the_root_of_one_instance(node: hvcore.Node, images: Any, web1: Build) -> None:
    tree = images.tree()
    node.driver("chroot").start(web1(tree))
    with pytest.raises(hvcore.DiskInUseError, match="instance web1"):
        node.driver("chroot").start(web1(tree, name="web2"))
    node.stop("web1")


@pytest.mark.parametrize(
    "how",
    [{"user_namespace": "off"}, {"user_namespace": "on"}, {"isolation": "none"}],
    ids=["root", "users", "plain"],
)
def test_directory_is_the_root_of_one_instance_on_the_node(
    node: hvcore.Node, other_node: hvcore.Node, images: Any, web1: Build, how: dict[str, str]
) -> None:
    tree = images.tree(DAEMON)
    (tree / "inner").mkdir()
    for place in (tree / "inner", tree.parent):  # or verify refuses it for its script
        shutil.copy2(tree / "ganeti-chroot", place)
        (place / "bin").mkdir(exist_ok=True)
        shutil.copy2(str(shutil.which("busybox")), place / "bin" / "sh")
    node.driver("chroot").start(web1(tree, **how))
    holder = rf"instance web1 of run directory {re.escape(str(node.run_dir))}, mounted at "
    for directory in (tree, tree / "inner", tree.parent):
        for params in (how, {**how, "overlay": "memory"}):
            with pytest.raises(hvcore.DiskInUseError, match=holder):
                other_node.driver("chroot").start(web1(directory, **params))
    assert node.info("web1").state is hvcore.State.RUNNING
    assert other_node.instances() == []
    node.stop("web1")
    other_node.driver("chroot").start(web1(tree, **how))
    with pytest.raises(hvcore.DiskInUseError, match=f"run directory {re.escape(str(other_node.run_dir))}"):
        node.driver("chroot").start(web1(tree, **how))
    other_node.stop("web1")


def test_directory_that_the_operator_has_mounted_is_no_obstacle(
    node: hvcore.Node, images: Any, web1: Build, tmp_path: Path, leftovers: Leftovers
) -> None:
    """Also in a tree with the form of a run directory."""
    place = tmp_path / "instances" / "web1" / "rootfs"
    place.mkdir(parents=True)
    subprocess.run(["mount", "--bind", str(images.tree(DAEMON)), str(place)], check=True)
    try:
        node.driver("chroot").start(web1(place))
        node.stop("web1")
    finally:
        subprocess.run(["umount", str(place)], check=True)
    assert leftovers() == []


def test_directory_that_is_only_read_is_shared_on_the_node_and_its_changes_are_not(
    node: hvcore.Node, other_node: hvcore.Node, images: Any, web1: Build, tmp_path: Path
) -> None:
    tree = images.tree()
    (tmp_path / "kept").mkdir()
    kept = {"overlay": "directory", "overlay_directory": str(tmp_path / "kept")}
    node.driver("chroot").start(web1(tree, **kept))
    with pytest.raises(hvcore.DiskInUseError, match=r"kept': already in use by instance web1 of run directory"):
        other_node.driver("chroot").start(web1(tree, **kept))
    other_node.driver("chroot").start(web1(tree, overlay="memory"))
    node.stop("web1")
    with pytest.raises(hvcore.DiskInUseError, match="instance web1 of run directory"):
        node.driver("chroot").start(web1(tree))
    other_node.stop("web1")


@pytest.mark.skipif(shutil.which("mksquashfs") is None, reason="needs mksquashfs")
@USERS
def test_squashfs_with_changes_in_memory(
    node: hvcore.Node, images: Any, web1: Build, tmp_path: Path, leftovers: Leftovers, users: str
) -> None:
    image = tmp_path / "root.squashfs"
    command = ["mksquashfs", str(images.tree()), str(image), "-no-progress", "-quiet", "-noappend"]
    subprocess.run(command, check=True, capture_output=True)
    node.driver("chroot").start(web1(image, overlay="memory", user_namespace=users))
    assert node.stop("web1").stopped_by == "script"
    assert leftovers() == []


@USERS
def test_binds_are_read_only_by_default(
    node: hvcore.Node, images: Any, web1: Build, reports: Path, shown: Path, users: str
) -> None:
    binds = [f"{reports}:/reports:rw", f"{shown}:/shown"]
    node.driver("chroot").start(web1(images(REPORTING), binds=binds, user_namespace=users))
    node.stop("web1")
    assert "a page of the node" in (reports / "start").read_text()
    assert "Read-only file system" in (reports / "start").read_text()
    assert sorted(os.listdir(shown)) == ["page"]


@USERS
@pytest.mark.parametrize("present", [True, False])
def test_resolv_conf_of_the_node(
    node: hvcore.Node, images: Any, web1: Build, reports: Path, users: str, *, present: bool
) -> None:
    tree = images.tree(REPORTING)
    if present:
        (tree / "etc/resolv.conf").write_text("its own")
    binds = [f"{reports}:/reports:rw"]
    node.driver("chroot").start(web1(images.pack(tree), resolv_conf="node", binds=binds, user_namespace=users))
    node.stop("web1")
    assert (reports / "start").read_bytes().startswith(Path("/etc/resolv.conf").read_bytes())


@USERS
@pytest.mark.parametrize("link", ["../../../../../../../{}", "/{}"])
def test_link_in_the_image_leads_no_mount_and_no_directory_to_the_node(
    node: hvcore.Node, images: Any, web1: Build, shown: Path, users: str, link: str
) -> None:
    tmp_path = images.folder
    (tmp_path / "outside").mkdir()
    tree = images.tree()
    (tree / "data").symlink_to(link.format(str(tmp_path / "outside").lstrip("/")))
    image = images.pack(tree)
    for target in ("/data", "/data/deeper"):
        node.driver("chroot").start(web1(image, binds=[f"{shown}:{target}"], user_namespace=users))
        assert inside(node, "cat", f"{target}/page") == "a page of the node\n"
        node.stop("web1")
    assert os.listdir(tmp_path / "outside") == []


# As distributions ship it, to a place that a start makes; absolute, to a file; through a link to a directory; to the top.
LINKS = {
    "dangling": "../run/systemd/resolve/stub-resolv.conf",
    "absolute": "/run/its-own",
    "through another": "/alias/resolv.conf",
    "above the top": "/../../../root/resolv.conf",
}


ISOLATED = {
    "users": {"user_namespace": "on"},
    "no users": {"user_namespace": "off"},
    "none": {"isolation": "none", "allow_devices": True},
}


@pytest.mark.parametrize("isolation", ISOLATED.values(), ids=ISOLATED)
@pytest.mark.parametrize("link", LINKS.values(), ids=LINKS)
def test_resolv_conf_that_is_a_link_is_resolved_in_the_root(
    node: hvcore.Node, images: Any, web1: Build, isolation: dict[str, Any], link: str
) -> None:
    tree = images.tree(DAEMON)
    (tree / "etc/resolv.conf").symlink_to(link)
    (tree / "alias").symlink_to("root")
    (tree / "run/its-own").touch()
    node.driver("chroot").start(web1(images.pack(tree), resolv_conf="node", **isolation))
    assert inside(node, "cat", "/etc/resolv.conf") == Path("/etc/resolv.conf").read_text()
    node.stop("web1", force=True)


def test_links_that_lead_to_each_other_are_refused(
    node: hvcore.Node, images: Any, web1: Build, leftovers: Leftovers
) -> None:
    tree = images.tree()
    (tree / "etc/resolv.conf").symlink_to("/etc/other")
    (tree / "etc/other").symlink_to("resolv.conf")
    with pytest.raises(hvcore.OperationError, match=r"Too many levels of symbolic links"):
        node.driver("chroot").start(web1(images.pack(tree), resolv_conf="node"))
    assert leftovers() == []


def test_what_a_start_makes_in_the_root_has_its_mode_whatever_the_umask(
    node: hvcore.Node, images: Any, web1: Build, shown: Path
) -> None:
    tree = images.tree()
    before = os.umask(0o077)
    try:
        node.driver("chroot").start(web1(tree, binds=[f"{shown}:/new/place"], resolv_conf="node"))
    finally:
        os.umask(before)
    node.stop("web1")
    modes = [(tree / name).stat().st_mode & 0o777 for name in ("new", "new/place", "etc/resolv.conf")]
    assert modes == [0o755, 0o755, 0o644]


@pytest.fixture
def mount() -> Iterator[Callable[[Path], None]]:
    """Mounts a tmpfs there, with a file, until the end of the test."""
    made: list[Path] = []

    def at(place: Path) -> None:
        place.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "hvcore-test", place], check=True)
        made.append(place)
        (place / "data").touch()

    yield at
    for place in reversed(made):
        subprocess.run(["umount", place], check=True)


def test_mounts_below_the_root_are_refused_by_name_or_shown_by_a_bind(
    node: hvcore.Node, images: Any, web1: Build, mount: Callable[[Path], None]
) -> None:
    chroot, tree = node.driver("chroot"), images.tree()
    mount(tree / "var")
    mount(tree / "var/lib")
    mount(tree / "proc")
    for call in (chroot.verify, chroot.start):
        with pytest.raises(
            hvcore.VerifyError, match=r"would not see: '\S+/var', '\S+/var/lib', got .*; unmount them, or add a bind"
        ):
            call(web1(tree))
    with pytest.raises(hvcore.VerifyError, match=r"params.binds: has mounts below it .*: '\S+/var/lib'"):
        chroot.verify(web1(tree, binds=[f"{tree}/var:/var:rw"]))
    chroot.start(web1(tree, binds=[f"{tree}/var:/var:rw", f"{tree}/var/lib:/var/lib:rw"]))
    for name in ("var", "var/lib"):
        inside(node, "touch", f"/{name}/written")
        assert sorted(set(os.listdir(tree / name)) - {"lib"}) == ["data", "written"]
    node.stop("web1")


def test_mounts_below_what_keeps_the_changes_are_refused(
    node: hvcore.Node, images: Any, web1: Build, mount: Callable[[Path], None], tmp_path: Path
) -> None:
    mount(tmp_path / "changes/changes/var")
    with pytest.raises(hvcore.VerifyError, match=r"params.overlay_directory: has mounts below it"):
        node.driver("chroot").verify(web1(images(), overlay="directory", overlay_directory=str(tmp_path / "changes")))


def test_without_namespaces_a_mounted_proc_is_refused_too(
    node: hvcore.Node, images: Any, web1: Build, mount: Callable[[Path], None]
) -> None:
    tree = images.tree(DAEMON)
    mount(tree / "proc")
    with pytest.raises(hvcore.VerifyError, match=r"would not see: '\S+/proc'"):
        node.driver("chroot").verify(web1(tree, isolation="none"))


def test_bind_into_a_read_only_root_needs_a_place(node: hvcore.Node, images: Any, web1: Build, shown: Path) -> None:
    with pytest.raises(
        hvcore.OperationError,
        match=r"Read-only file system.*in a read-only root every directory in the path must exist",
    ):
        node.driver("chroot").start(web1(images(), read_only=True, binds=[f"{shown}:/not/there"]))


def test_full_file_system_fails_the_start_with_the_output_of_the_script(
    node: hvcore.Node, images: Any, web1: Build, leftovers: Leftovers
) -> None:
    script = "#!/bin/sh\ncat /dev/zero > /tmp/full; echo full; exit 4\n"
    with pytest.raises(hvcore.LaunchError, match="exited with 4"):
        node.driver("chroot").start(web1(images(script), overlay="memory", overlay_size=1))
    assert leftovers() == []


def test_mounts_are_not_shared_with_other_namespaces(
    node: hvcore.Node, images: Any, web1: Build, tmp_path: Path
) -> None:
    node.driver("chroot").start(web1(images.tree(), overlay="memory"))
    mounted = Path("/proc/self/mountinfo").read_text().splitlines()
    ours = [line for line in mounted if str(tmp_path) in line.split()[4]]
    assert len(ours) == 4
    assert not any("shared:" in line for line in ours)
    assert all({"nosuid", "nodev"} <= set(line.split()[5].split(",")) for line in ours)
    node.stop("web1")
