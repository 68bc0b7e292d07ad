"""Checks of this node: why it cannot run an instance, and the findings of ``hv doctor``."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import hvcore.plugin as hv
from hv_chroot.families.root import Bind
from hv_chroot.names import ROOT
from hv_chroot.resource import resources_of
from hv_chroot.resources.root_files import program_problem, script_problem
from hv_chroot.run.confinement import site_of
from hv_chroot.run.start import root_problem
from hv_chroot.seccomp import MACHINES
from hv_chroot.spec import ChrootSpec

__all__ = ["examine", "verify"]

_TOOLS: Final = {"bwrap": "bubblewrap", "mount": "mount", "setpriv": "util-linux"}
"""For each program the Debian package that contains it."""
_PLAIN_TOOLS: Final = {"chroot": "coreutils", "env": "coreutils", "mount": "mount"}
_FOR_USERS: Final = {"nsenter": "util-linux", "unshare": "util-linux"}
_DATA: Final = ("data", "home", "media", "mnt", "run", "srv", "tmp", "var")
"""Directories of a root in which no distribution has an interpreter."""
_LOOP: Final = "/dev/loop-control"


def verify(hooks: hv.Hooks, spec: ChrootSpec, host: hv.Host) -> Iterator[hv.Problem]:
    """Every reason that shows without mounting anything."""
    if not host.privileged:
        what = "only root can mount a disk"
        yield hv.Problem(path="privileges", what=what, got=f"uid {os.geteuid()}", todo="run it as root")
    yield from _abilities(spec)
    yield from _script_problems(spec, site_of(spec, host))
    yield from hooks.kinds.problems(resources_of(spec), site_of(spec, host))


def _script_problems(spec: ChrootSpec, site: hv.Site) -> Iterator[hv.Problem]:
    """What is wrong with the start script, as far as that shows: in a directory, or in the root of a running instance."""
    root = _visible_root(spec, site)
    if root is None or (root != site.dir / ROOT and any(map(_may_cover, spec.binds))):
        return
    if root != site.dir / ROOT and spec.overlay == "none" and os.statvfs(root).f_flag & os.ST_NOEXEC:
        what, todo = "is on a file system that is mounted noexec", "mount it with exec, or use another directory"
        yield hv.Problem(path="params.root_directory", what=what, got=repr(spec.directory), todo=todo)
    problem = script_problem(root, spec.init_script, dict(spec.environment)["PATH"])
    if problem is not None:
        what, todo = problem
        if program_problem(root, spec.init_script) is not None:
            what = f"{what} in the root"
        yield hv.Problem(path="params.init_script", what=what, got=repr(spec.init_script), todo=todo)
    elif spec.namespaces and (wrong := root_problem(spec, root)) is not None:
        yield hv.Problem(path="params.root_directory", what=wrong[0], got=repr(spec.directory), todo=wrong[1])


def _may_cover(bind: Bind) -> bool:
    """Whether a bind may bring the script or its interpreter: it is at or above a place where programs are."""
    return bind.target.split("/")[1] not in _DATA


def _visible_root(spec: ChrootSpec, site: hv.Site) -> Path | None:
    """What the root of the next start can be seen at; None when it is not mounted yet. Changes in memory are not in it."""
    if spec.overlay == "memory" or not os.path.ismount(site.dir / ROOT):
        directory = spec.directory if spec.overlay != "directory" else None
        return Path(directory) if directory is not None and os.path.isdir(directory) else None
    return site.dir / ROOT


def _abilities(spec: ChrootSpec) -> Iterator[hv.Problem]:
    tools = {**(_TOOLS if spec.namespaces else _PLAIN_TOOLS), **(_FOR_USERS if spec.users or spec.interfaces else {})}
    for program, package in tools.items():
        if shutil.which(program) is None:
            yield hv.Problem(path=program, what="is not installed on this node", todo=f"install {package}")
    machine = os.uname().machine
    if spec.namespaces and spec.seccomp and machine not in MACHINES:
        what = "has no profile for this architecture"
        yield hv.Problem(path="params.seccomp", what=what, got=repr(machine), todo="set it to 'off'")


def examine(host: hv.Host) -> Iterator[hv.Finding]:
    """The findings, for ``hv doctor`` and ``hv verify chroot``."""
    if not host.privileged:
        what = f"only root can mount a disk, and this is uid {os.geteuid()}"
        yield hv.Finding(subject="privileges", severity=hv.Severity.PROBLEM, what=what, todo="run it as root")
    for name, package in _TOOLS.items():
        yield hv.program(name, package)
    if os.access(_LOOP, os.R_OK | os.W_OK):
        yield hv.Finding(subject=_LOOP, severity=hv.Severity.OK, what="image files can be mounted")
    else:
        what, todo = "cannot be used: image files cannot be mounted, block devices can", "modprobe loop"
        yield hv.Finding(subject=_LOOP, severity=hv.Severity.NOTE, what=what, todo=todo)
