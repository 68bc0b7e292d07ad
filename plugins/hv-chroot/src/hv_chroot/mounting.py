"""The mounts of a start: the first disk, and a small file system that bounds what the scripts can write as output."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

import hvcore
from hv_chroot.spec import ChrootSpec
from hvcore import LIFE_LOCK, STATUS, identify_disk, run_tool

__all__ = ["OUTPUT", "ROOT", "mount_command", "mount_disk", "mount_output"]

ROOT: Final = "root"
OUTPUT: Final = "output"

_OUTPUT_OPTIONS: Final = b"size=1m,nr_inodes=16,mode=0700"
_MS_NOSUID_NODEV_NOEXEC: Final = 2 | 4 | 8  # linux/mount.h


def mount_command(spec: ChrootSpec, target: str, *, image: bool) -> tuple[str, ...]:
    """The command that mounts the disk; ``image`` says that it is a file and needs a loop device.

    Without mount's helper programs (-i): they would outlive it and answer to nobody.
    """
    options = ["nodev", "nosuid", "ro" if spec.read_only else "rw", *(["loop"] if image else [])]
    return ("mount", "-i", "--make-private", "-o", ",".join(options), "--", spec.disk, target)


def mount_disk(spec: ChrootSpec, job: hvcore.Job) -> Path:
    """Mount the disk in the instance's directory and give the mount point.

    The ledger has to have it, and the disk has to be claimed. Raises `LaunchError` with what mount said.
    """
    target = job.dir / ROOT
    target.mkdir(mode=0o700, exist_ok=True)
    disk = identify_disk(spec.disk)
    command = mount_command(spec, str(target), image=not disk.block_device)
    left = job.deadline.left()
    ended, said = run_tool(command, life=job.dir / LIFE_LOCK, status=job.dir / STATUS, deadline_s=left)
    if ended is None:
        todo = f"see whether {spec.disk!r} can be read at all"
        raise hvcore.DeadlineError(subject=job.name, waiting_for=f"mount of {spec.disk!r}", waited_s=left, todo=todo)
    if ended.code != 0:
        how = f"disk {spec.disk!r} cannot be mounted, mount {ended}"
        raise hvcore.LaunchError(name=job.name, how=how, output=said, argv=command)
    return target


def mount_output(job: hvcore.Job) -> Path:
    """A file for the output of the scripts and of what they leave running, that can grow to 1 MiB and no further.

    Nobody reads along once the start is done, so the file system has to set the limit. Raises `OperationError`.
    """
    directory = job.dir / OUTPUT
    directory.mkdir(mode=0o700, exist_ok=True)
    libc = ctypes.CDLL(None, use_errno=True)
    target = os.fsencode(directory)
    if libc.mount(b"hvcore", target, b"tmpfs", ctypes.c_ulong(_MS_NOSUID_NODEV_NOEXEC), _OUTPUT_OPTIONS) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise hvcore.OperationError(
            f"{job.name}: no tmpfs for its output at {directory}, got {reason}; check the kernel"
        )
    return directory / "log"
