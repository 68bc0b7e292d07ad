"""Images with a busybox root, a network with a bridge, and the leftovers of instances."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path

import hvcore
from hvcore.host.cgroups.hierarchy import group_name
from hvcore.host.mount_table import mounts_at_or_below

Build = Callable[..., hvcore.Instance]
"""Of fixture ``web1``: an instance with that image, or directory, and these parameters."""
Leftovers = Callable[[], list[str]]
"""Of fixture ``leftovers``: the names of everything that any instance of the test has left."""

_LOOP_GET_STATUS64, _LOOP_INFO64_BYTES = 0x4C05, 232  # linux/loop.h
BUSYBOX = "/bin/busybox"
APPLETS = (
    *("cat", "chmod", "echo", "env", "false", "grep", "head", "hostname", "id", "kill", "ls", "mkdir", "mount"),
    *(
        "chown",
        "httpd",
        "ln",
        "mknod",
        "pidof",
        "ps",
        "readlink",
        "rm",
        "sh",
        "sleep",
        "stty",
        "touch",
        "true",
        "tty",
        "umount",
        "yes",
    ),
)

# Starts and stops one daemon; writes its arguments to the disk.
GOOD = """\
    #!/bin/sh
    echo "$1" >> /calls
    case $1 in
      start) sleep 1000 & echo $! > /daemon; echo up ;;
      stop) kill $(cat /daemon); echo down ;;
    esac
"""


class Images:
    """Makes disk images; each has a file ``/MARK`` in it, by which processes that live in one are found."""

    def __init__(self, folder: Path, mark: str) -> None:
        self.folder = folder
        self.mark = mark

    def tree(self, script: str | None = GOOD, *, name: str = "tree") -> Path:
        tree = self.folder / name
        for directory in ("bin", "dev", "proc", "tmp", "root", "etc", "run"):
            (tree / directory).mkdir(parents=True)
        shutil.copy2(BUSYBOX, tree / "bin/busybox")
        for applet in APPLETS:
            (tree / "bin" / applet).symlink_to("busybox")
        (tree / self.mark).touch()
        if script is not None:
            (tree / "ganeti-chroot").write_text(textwrap.dedent(script))
            (tree / "ganeti-chroot").chmod(0o755)
        return tree

    def pack(self, tree: Path, name: str = "root.img") -> Path:
        image = self.folder / name
        image.parent.mkdir(parents=True, exist_ok=True)
        command = ["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d", str(tree), "--", str(image), "6M"]
        subprocess.run(command, check=True, capture_output=True)
        shutil.rmtree(tree)
        return image

    def __call__(self, script: str | None = GOOD, *, name: str = "root.img") -> Path:
        return self.pack(self.tree(script), name)


def loops_of(folder: Path) -> list[str]:
    found = []
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            path = backing.read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in path and not _is_detached_now(f"/dev/{backing.parts[3]}"):
            found.append(f"{backing.parts[3]} on {os.fsdecode(path).strip()}")
    return found


def _is_detached_now(loop: str) -> bool:
    """Whether the kernel is about to detach that loop device, which nobody uses any more: it may be busy."""
    try:
        fd = os.open(loop, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return error.errno in (errno.ENXIO, errno.ENOENT)
    try:
        fcntl.ioctl(fd, _LOOP_GET_STATUS64, bytes(_LOOP_INFO64_BYTES))
    except OSError as error:
        return error.errno == errno.ENXIO
    finally:
        os.close(fd)
    return False


def processes_in(mark: str) -> list[str]:
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if Path(f"/proc/{pid}/root/{mark}").exists() and os.readlink(f"/proc/{pid}/ns/pid") != _OWN_PID_NS:
                found.append(f"{pid} ({Path(f'/proc/{pid}/comm').read_text().strip()})")
        except OSError:
            continue
    return found


_OWN_PID_NS = os.readlink("/proc/self/ns/pid") if os.path.exists("/proc/self/ns/pid") else ""


def groups_of(run: Path) -> list[Path]:
    """The control groups of all instances of that run directory, regardless of their names."""
    ending = group_name(run, "")
    return [path for top in ("*/", "") for path in Path("/sys/fs/cgroup").glob(f"{top}hvcore/*{ending}")]


def leftovers_of(folder: Path, mark: str) -> list[str]:
    """The mounts, loop devices, processes, groups and files of all instances with node and images in that folder."""
    run = folder / "run"
    found = [f"mount {mount.point}" for mount in mounts_at_or_below(str(folder.resolve()))]
    found += [f"loop {name}" for name in loops_of(folder)]
    found += [f"process {name}" for name in processes_in(mark)]
    found += [f"group {path}" for path in groups_of(run)]
    for kind in ("instances", "locks", "reservations/disk", "reservations/disk-readers", "reservations/uid-range"):
        found += [f"file {path}" for path in (run / kind).glob("*")]
    return found


class Net:
    """A network with a bridge, br0, that is 10.77.0.1."""

    def ip(self, *args: str) -> bytes:
        return subprocess.run(["ip", *args], check=True, capture_output=True).stdout

    def links(self) -> set[str]:
        return {link["ifname"] for link in json.loads(self.ip("-json", "link"))}
