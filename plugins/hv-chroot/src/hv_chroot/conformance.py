"""The driver's instances for the conformance kit: root file systems of a few files, with busybox and a script."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import hvcore.plugin as hv
from hvcore.testing import Factory, Subject

__all__ = ["subject"]

_APPLETS: Final = ("cat", "echo", "kill", "sh", "sleep", "trap", "true")
_START: Final = "sleep 100000 & echo $! > /pid"
_STOP: Final = "kill $(cat /pid)"
_SCRIPT: Final = "#!/bin/sh\ncase $1 in\n  start) {start} ;;\n  stop) {stop} ;;\nesac\n"
_STUBBORN: Final = "(trap '' TERM; while :; do sleep 1; done) & true"


def _root(start: str = _START, stop: str = _STOP, *, params: Mapping[str, Any] | None = None, **fields: Any) -> Factory:
    def make(name: str, directory: Path) -> hv.Instance:
        image = directory / f"{name[-40:]}.img"
        if not image.exists() and _missing() is None:
            _make_image(image, _SCRIPT.format(start=start, stop=stop))
        disk = hv.Disk(path=str(image))
        return hv.Instance(name=name, driver="chroot", disks=(disk,), params=params or {}, **fields)

    return make


def _make_image(image: Path, script: str) -> None:
    with tempfile.TemporaryDirectory(dir=image.parent) as folder:
        tree = Path(folder)
        for name in ("bin", "dev", "proc", "tmp"):
            (tree / name).mkdir()
        shutil.copy2(shutil.which("busybox") or "/bin/busybox", tree / "bin/busybox")
        for applet in _APPLETS:
            (tree / "bin" / applet).symlink_to("busybox")
        (tree / "ganeti-chroot").write_text(script)
        (tree / "ganeti-chroot").chmod(0o755)
        command = ["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d", folder, "--", str(image), "4M"]
        subprocess.run(command, check=True, capture_output=True)


def _missing() -> str | None:
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    tools = ("busybox", "mke2fs", "mount", "bwrap")
    return next((f"no {tool}" for tool in tools if shutil.which(tool, path=path) is None), None)


def _unfit() -> str | None:
    return "needs root" if os.geteuid() != 0 else _missing()


def _two_disks(name: str, directory: Path) -> hv.Instance:
    disks = tuple(hv.Disk(path=str(directory / f"{number}.img")) for number in range(2))
    return hv.Instance(name=name, driver="chroot", disks=disks)


def _bind(directory: Path) -> hv.ListedDevice:
    (pages := directory / "pages").mkdir(exist_ok=True)
    return hv.ListedDevice(param="binds", item=f"{pages}:/tmp")


def subject() -> Subject:
    """The driver under test."""
    return Subject(
        driver="chroot",
        instance=_root(),
        stubborn=_root(start=_STUBBORN, stop="true"),
        ending=_root(start="sleep 0.2 &"),
        failing=_root(start="echo no database >&2; exit 3"),
        refused=(_two_disks,),
        device=_bind,
        unfit=_unfit,
        excused={
            "sec_user": "root inside is root outside, with twelve capabilities and its own namespaces",
            "sec_no_capabilities": "daemons inside change users and own files, which takes twelve capabilities",
            "crash_vmm_sigkill_state": "it has ended when no process is left, and the kernel does not report what ended the last one",
        },
    )
