"""Why this node cannot run an instance: privileges, tools, and the root. Mounts nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Final

import hvcore.plugin as hv
from hv_chroot.resource import resources_of
from hv_chroot.seccomp import MACHINES
from hv_chroot.spec import ChrootSpec

__all__ = ["TOOLS", "examine", "site_of", "verify"]

TOOLS: Final = {"bwrap": "bubblewrap", "mount": "mount", "setpriv": "util-linux"}
"""For each program the Debian package that contains it."""
_PLAIN_TOOLS: Final = {"chroot": "coreutils", "env": "coreutils", "mount": "mount"}
_LOOP: Final = "/dev/loop-control"
_FOR_USERS: Final = {"nsenter": "util-linux", "unshare": "util-linux"}


def verify(hooks: hv.Hooks, spec: ChrootSpec, host: hv.Host) -> Iterator[hv.Problem]:
    """Every reason that shows without mounting anything."""
    if not host.privileged:
        what = "only root can mount a disk"
        yield hv.Problem(path="privileges", what=what, got=f"uid {os.geteuid()}", todo="run it as root")
    yield from _abilities(spec)
    yield from hooks.kinds.problems(resources_of(spec), site_of(spec, host))


def site_of(spec: ChrootSpec, host: hv.Host) -> hv.Site:
    """The node and the level at which the instance's resources are acquired."""
    return hv.Site(name=spec.name, host=host, level=hv.Level.STRICT)


def _abilities(spec: ChrootSpec) -> Iterator[hv.Problem]:
    tools = {**(TOOLS if spec.namespaces else _PLAIN_TOOLS), **(_FOR_USERS if spec.users or spec.interfaces else {})}
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
    for name, package in TOOLS.items():
        yield hv.program(name, package)
    if os.access(_LOOP, os.R_OK | os.W_OK):
        yield hv.Finding(subject=_LOOP, severity=hv.Severity.OK, what="image files can be mounted")
    else:
        what, todo = "cannot be used: image files cannot be mounted, block devices can", "modprobe loop"
        yield hv.Finding(subject=_LOOP, severity=hv.Severity.NOTE, what=what, todo=todo)
