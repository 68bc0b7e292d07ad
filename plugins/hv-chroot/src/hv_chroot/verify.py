"""Why this node cannot run an instance: privileges, tools, and the disk. Looks only, and mounts nothing."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from typing import Final

import hvcore
from hv_chroot.spec import ChrootSpec
from hvcore import identify_disk

__all__ = ["TOOLS", "verify"]

TOOLS: Final = {"bwrap": "bubblewrap", "mount": "mount", "setpriv": "util-linux"}
"""Program to the Debian package that has it."""


def verify(spec: ChrootSpec, host: hvcore.Host) -> Iterator[hvcore.Problem]:
    """Every reason that can be seen without mounting the disk."""
    if not host.privileged:
        what = "only root can mount a disk"
        yield hvcore.Problem(path="privileges", what=what, got=f"uid {os.geteuid()}", todo="run it as root")
    for program, package in TOOLS.items():
        if shutil.which(program) is None:
            yield hvcore.Problem(path=program, what="is not installed on this node", todo=f"install {package}")
    yield from _disk(spec)


def _disk(spec: ChrootSpec) -> Iterator[hvcore.Problem]:
    path, got = "disks[0].path", repr(spec.disk)
    wanted = "give an image file or a block device"
    try:
        if stat.S_ISDIR(os.stat(spec.disk).st_mode):
            yield hvcore.Problem(path=path, what="is a directory", got=got, todo=wanted)
            return
        disk = identify_disk(spec.disk)
    except FileNotFoundError:
        yield hvcore.Problem(path=path, what="does not exist", got=got, todo=wanted)
        return
    except OSError as error:
        yield hvcore.Problem(path=path, what=f"cannot be used ({error.strerror})", got=got, todo=wanted)
        return
    if disk.size_bytes == 0:
        yield hvcore.Problem(path=path, what="is empty", got=got, todo="put a root file system on it")
    elif not os.access(spec.disk, os.R_OK if spec.read_only else os.R_OK | os.W_OK):
        todo = "make it so, or set read_only for the disk"
        yield hvcore.Problem(path=path, what="may not be read and written", got=got, todo=todo)
