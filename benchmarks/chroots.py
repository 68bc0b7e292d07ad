"""A start of a chroot instance beside mount, unshare and chroot by hand; and a list of many instances."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import hvcore
from benchmarks.clocks import parts_of
from benchmarks.guests import on_disk, on_tmpfs
from benchmarks.measure import Goal, Report, Row, alternate, elapsed_ms

__all__ = ["chroots", "image_with"]

_SCRIPT: Final = "#!/bin/sh\n[ $1 = stop ] || sleep 1000 &\n"
_MANY: Final = 200
_UNSHARED: Final = ("unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--")
_PARTS: Final = {
    "check and verify": "hvcore.plugins.loaded_driver:LoadedDriver.verify",
    "record, durable writes": "hvcore.state.store:Store.save",
    "claim": "hvcore.resources.disks:DiskClaimKind.acquire",
    "control group": "hvcore.resources.control_group:ControlGroupKind.acquire",
    "mount": "hv_chroot.resources.mounting:run_tool",
    "everything else of the root": "hv_chroot.resources.root_mount:RootKind.acquire",
    "output": "hv_chroot.resources.root_mount:OutputKind.acquire",
    "user namespace": "hv_chroot.resources.namespaces:NamespacesKind.acquire",
    "script, confined": "hv_chroot.run.start:run_start",
    "confinement read back": "hv_chroot.run.start:remember",
}


def chroots(repeat: int) -> Iterator[Report]:
    """One report on starting and one on listing; nothing without root."""
    where = on_tmpfs() or on_disk()
    if where is None or os.geteuid() != 0:
        return
    with tempfile.TemporaryDirectory(prefix="hvcore-bench-", dir=where) as name:
        place = Path(name)
        node = hvcore.Node(place / "run")
        image = image_with(place, _SCRIPT)
        try:
            yield _start(node, place, image, repeat)
            yield _list(node, place, repeat)
        finally:
            for info in node.instances():
                node.stop(info.name, force=True)


def _tree(place: Path, script: str) -> Path:
    tree = place / "tree"
    for name in ("bin", "dev", "proc"):
        (tree / name).mkdir(parents=True)
    shutil.copy2("/bin/busybox", tree / "bin/busybox")
    for name in ("sh", "sleep"):
        (tree / "bin" / name).symlink_to("busybox")
    (tree / "dev/null").touch()
    (tree / "ganeti-chroot").write_text(script)
    (tree / "ganeti-chroot").chmod(0o755)
    return tree


def image_with(place: Path, script: str) -> Path:
    """A new image with a small root file system, and that script for start and stop."""
    image = place / "web1.img"
    command = [
        "mke2fs",
        "-q",
        "-F",
        "-t",
        "ext4",
        "-O",
        "^has_journal",
        "-d",
        str(_tree(place, script)),
        str(image),
        "6M",
    ]
    subprocess.run(command, check=True, capture_output=True)
    return image


def _instance(name: str, image: Path, **params: Any) -> hvcore.Instance:
    return hvcore.Instance(name=name, driver="chroot", disks=(hvcore.Disk(path=str(image)),), params=params)


def _start(node: hvcore.Node, place: Path, image: Path, repeat: int) -> Report:
    driver = node.driver("chroot")
    (place / "bare").mkdir()

    def bare() -> float:
        def steps() -> None:
            subprocess.run(["mount", "-i", "-o", "loop,nodev,nosuid", str(image), str(place / "bare")], check=True)
            subprocess.run([*_UNSHARED, "chroot", str(place / "bare"), "/ganeti-chroot", "start"], check=True)

        took = elapsed_ms(steps)
        subprocess.run(["umount", str(place / "bare")], check=True)
        return took

    def ours(**params: Any) -> float:
        instance = _instance("web1", image, **params)
        took = elapsed_ms(lambda: driver.start(instance))
        node.stop("web1", force=True)
        return took

    found = alternate(
        {
            "bare": bare,
            "ours": ours,
            "users": lambda: ours(network="none"),
            "plain": lambda: ours(isolation="none"),
        },
        repeat=repeat,
    )
    by_hand = Row(name="mount, unshare, chroot by hand", samples=found["bare"])
    return Report(
        title="start of a chroot instance until its script has ended",
        rows=[
            by_hand,
            Row(name="Node.start", samples=found["ours"], against=by_hand, goal=Goal(1.3, ratio=True)),
            Row(name="with its own users and network", samples=found["users"], against=by_hand),
            Row(name="with isolation = none", samples=found["plain"], against=by_hand),
        ],
        parts=parts_of(_PARTS, ours, repeat=repeat, rest="everything else"),
        parts_of="Node.start, median ms",
        notes=("by hand nothing is confined, claimed, recorded or read back",),
    )


def _list(node: hvcore.Node, place: Path, repeat: int) -> Report:
    driver = node.driver("chroot")
    for number in range(_MANY):
        # A directory for each, not a disk: a node has few loop devices.
        tree = place / "trees" / str(number)
        shutil.copytree(place / "tree", tree, symlinks=True, copy_function=os.link)
        params = {"root_directory": str(tree)}
        driver.start(hvcore.Instance(name=f"web{number:03}", driver="chroot", params=params))
    found = alternate({"warm": lambda: elapsed_ms(lambda: _all_running(node))}, repeat=repeat)
    for info in node.instances():
        node.stop(info.name, force=True)
    row = Row(name=f"{_MANY} chroot instances, again by the same node", samples=found["warm"], goal=Goal(15))
    return Report(title="Node.instances(), each with state and figures", rows=[row])


def _all_running(node: hvcore.Node) -> None:
    infos = node.instances()
    if len(infos) != _MANY or any(info.resident_mib is None for info in infos):
        raise RuntimeError(f"{len(infos)} instances, and some do not run")
