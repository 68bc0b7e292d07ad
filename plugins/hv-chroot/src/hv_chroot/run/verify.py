"""Why this node cannot run an instance: privileges, tools, and its root. Looks only, and mounts nothing."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from typing import Final

import hvcore.plugin as hv
from hv_chroot.resources.veth import bridge_problems
from hv_chroot.run.control_group import limits_of
from hv_chroot.seccomp import MACHINES
from hv_chroot.spec import ChrootSpec
from hvcore.plugin import identify_disk, uid_ranges

__all__ = ["TOOLS", "verify"]

TOOLS: Final = {"bwrap": "bubblewrap", "mount": "mount", "setpriv": "util-linux"}
"""Program to the Debian package that has it."""
_PLAIN_TOOLS: Final = {"chroot": "coreutils", "env": "coreutils", "mount": "mount"}
_FOR_USERS: Final = {"nsenter": "util-linux", "unshare": "util-linux"}


def verify(spec: ChrootSpec, host: hv.Host) -> Iterator[hv.Problem]:
    """Every reason that can be seen without mounting anything."""
    if not host.privileged:
        what = "only root can mount a disk"
        yield hv.Problem(path="privileges", what=what, got=f"uid {os.geteuid()}", todo="run it as root")
    yield from _abilities(spec)
    for what in host.cgroups.problems(limits_of(spec)):
        yield hv.Problem(path="params", what=f"its limits cannot be set, {what}", todo="unset them")
    if spec.disk is not None:
        yield from _disk(spec, spec.disk)
    directories = {"root_directory": spec.directory, "overlay_directory": spec.overlay_directory}
    for key, path in directories.items():
        if path is not None:
            yield from _directory(f"params.{key}", path)
    yield from bridge_problems(spec)
    for bind in spec.binds:
        if not os.path.exists(bind.source):
            todo = "make it, or leave it out"
            yield hv.Problem(path="params.binds", what="does not exist", got=repr(bind.source), todo=todo)


def _abilities(spec: ChrootSpec) -> Iterator[hv.Problem]:
    tools = {**(TOOLS if spec.namespaces else _PLAIN_TOOLS), **(_FOR_USERS if spec.users or spec.interfaces else {})}
    for program, package in tools.items():
        if shutil.which(program) is None:
            yield hv.Problem(path=program, what="is not installed on this node", todo=f"install {package}")
    if spec.users and not uid_ranges():
        what = "cannot be had, the uids for its users are not ours to give"
        todo = "run hvcore outside of a container, or set it to 'off'"
        yield hv.Problem(path="params.user_namespace", what=what, todo=todo)
    machine = os.uname().machine
    if spec.namespaces and spec.seccomp and machine not in MACHINES:
        what = "has no profile for this architecture"
        yield hv.Problem(path="params.seccomp", what=what, got=repr(machine), todo="set it to 'off'")


def _directory(place: str, path: str) -> Iterator[hv.Problem]:
    if os.path.isdir(path):
        return
    what = "is no directory" if os.path.lexists(path) else "does not exist"
    yield hv.Problem(path=place, what=what, got=repr(path), todo="make it a directory")


def _disk(spec: ChrootSpec, place: str) -> Iterator[hv.Problem]:
    path, got = "disks[0].path", repr(place)
    wanted = "give an image file or a block device"
    try:
        if stat.S_ISDIR(os.stat(place).st_mode):
            todo = "set params.root_directory to it in place of a disk"
            yield hv.Problem(path=path, what="is a directory", got=got, todo=todo)
            return
        disk = identify_disk(place)
    except FileNotFoundError:
        yield hv.Problem(path=path, what="does not exist", got=got, todo=wanted)
        return
    except OSError as error:
        yield hv.Problem(path=path, what=f"cannot be used ({error.strerror})", got=got, todo=wanted)
        return
    if disk.size_bytes == 0:
        yield hv.Problem(path=path, what="is empty", got=got, todo="put a root file system on it")
    elif not os.access(place, os.W_OK | os.R_OK if spec.source_is_written else os.R_OK):
        todo = "make it so, or set read_only for the disk"
        yield hv.Problem(path=path, what="may not be read and written", got=got, todo=todo)
