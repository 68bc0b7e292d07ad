"""Making the root of a plain chroot a mount point. The chroot is made of this machine's directories."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hvcore.host.confinement import own_root
from hvcore.host.mount_table import mounts, parse_mountinfo

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

_MS_BIND = 0x1000
_MS_BIND_REC = _MS_BIND | 0x4000
_MS_SHARED_REC = 0x100000 | 0x4000
_CHROOT = "import os, sys; os.chroot(sys.argv[1]); os.chdir('/'); os.execv(sys.executable, sys.argv[2:])"


@pytest.fixture
def plain_chroot(tmp_path: Path, mount: Callable[..., None]) -> Path:
    """A directory that is not a mount point, on a shared mount as on nodes with systemd, with two instances."""
    share = tmp_path / "share"
    share.mkdir()
    mount("none", share, "tmpfs")
    mount("none", share, flags=_MS_SHARED_REC)
    top = share / "a b"
    top.mkdir()
    left_out = {"run", "mnt", tmp_path.parts[1]}
    # The test itself may run from a directory that is left out: a checkout in /tmp.
    ours = {Path(sys.prefix), Path(own_root.__file__).parents[2]}
    places = [Path("/") / name for name in sorted(os.listdir("/")) if name not in left_out]
    for place in (*places, *(path for path in sorted(ours) if path.parts[1] in left_out)):
        inside = top / place.relative_to("/")
        if place.is_symlink():
            inside.symlink_to(place.readlink())
        elif place.is_dir() and not inside.is_dir():
            inside.mkdir(parents=True)
            # With what is mounted below it for the kernel's files only: elsewhere, copies of mounts of other tests would
            # keep their directories and disks in use.
            mount(str(place), inside, flags=_MS_BIND_REC if place.name in ("proc", "sys") else _MS_BIND)
            # Not mounts that are shared with the node: unmounting here would unmount them there.
            mount("none", inside, flags=0x40000 | 0x4000)
    for name in ("web1", "web2"):
        (top / "run/instances" / name / "root").mkdir(parents=True)
        mount("none", top / "run/instances" / name / "root", "tmpfs")
    return top


def lasting(chroot: Path) -> set[str]:
    """Mounts below the chroot, and mounts of the node that other test runs do not change meanwhile."""
    ours = (f"{chroot}/", "/proc", "/sys", "/dev/pts")
    return {mount.point for mount in mounts() if mount.point.startswith(ours)}


def test_the_chroot_is_the_root_without_other_instances_and_the_node_keeps_its_mounts(plain_chroot: Path) -> None:
    before = lasting(plain_chroot)
    inside = [sys.executable, "-I", "-S", os.path.abspath(own_root.__file__), "cat", "/proc/self/mountinfo"]
    seen = subprocess.run(
        [sys.executable, "-c", _CHROOT, str(plain_chroot), *inside],
        env={**os.environ, "HVCORE_INSTANCE": "/run/instances/web2"},
        capture_output=True,
        check=True,
    )
    points = {mount.point for mount in parse_mountinfo(seen.stdout)}
    assert "/" in points
    assert "/run/instances/web2/root" in points
    assert "/run/instances/web1/root" not in points
    assert lasting(plain_chroot) == before


@pytest.mark.parametrize(
    "place",
    [
        pytest.param("tmp/other/run/instances/web1/root", id="an instance of another run directory"),
        pytest.param("mnt/disk", id="a disk of the operator"),
        pytest.param("run/container/merged", id="the root of a container"),
    ],
)
def test_a_mount_that_the_command_does_not_need_is_not_kept_in_use_by_it(
    mount: Callable[..., None], plain_chroot: Path, place: str
) -> None:
    assert not _sees(mount, plain_chroot, place, [])


@pytest.mark.parametrize("source", ["mnt/disk/images/a.img", "mnt", "link/images"])
def test_a_mount_is_kept_for_the_source_of_a_bind(mount: Callable[..., None], plain_chroot: Path, source: str) -> None:
    (plain_chroot / "link").symlink_to("/mnt/disk")
    assert _sees(mount, plain_chroot, "mnt/disk", ["--ro-bind", f"/{source}", "/seen"])


def _sees(mount: Callable[..., None], chroot: Path, place: str, options: list[str]) -> bool:
    """Whether a command with these options of bubblewrap has the mount, which is made first."""
    (chroot / place).mkdir(parents=True)
    mount("none", chroot / place, "tmpfs")
    code = "import sys; sys.stdout.write(open('/proc/self/mountinfo').read())"
    inside = [sys.executable, "-I", "-S", os.path.abspath(own_root.__file__), sys.executable, "-I", "-S", "-c", code]
    seen = subprocess.run(
        [sys.executable, "-c", _CHROOT, str(chroot), *inside, *options], capture_output=True, check=True
    )
    return f"/{place}" in {mount.point for mount in parse_mountinfo(seen.stdout)}


def test_nothing_of_the_node_is_above_that_root(plain_chroot: Path) -> None:
    """Not even for a root inside that leaves the chroot."""
    climb = (
        "import os; os.mkdir('/jail'); os.chroot('/jail'); [os.chdir('..') for _ in range(50)]; os.chroot('.');"
        "print(*sorted(os.listdir('/')))"
    )
    program = [sys.executable, "-I", "-S", os.path.abspath(own_root.__file__), sys.executable, "-I", "-S", "-c", climb]
    seen = subprocess.run(
        [sys.executable, "-c", _CHROOT, str(plain_chroot), *program], capture_output=True, check=True, text=True
    )
    assert seen.stdout.split() == sorted(os.listdir(plain_chroot))


def test_no_module_is_imported_outside_of_the_chroot() -> None:
    """Above the chroot there may be another Python or none, so nothing can be imported from there."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import own_root; sys.meta_path.clear(); own_root._mounts_to_remove(b'/', [])"
    folder = os.path.dirname(os.path.abspath(own_root.__file__))
    subprocess.run([sys.executable, "-I", "-S", "-c", code, folder], check=True)
    assert own_root._unescaped(rb"/a\040b\134c") == rb"/a b\c"
