"""What this node has for chroot instances, whatever their disk: privileges, tools, loop devices."""

from __future__ import annotations

import os
from collections.abc import Iterator

from hv_chroot.run.verify import TOOLS
from hvcore.plugin import Finding, Host, Severity, program

__all__ = ["examine"]

_LOOP = "/dev/loop-control"


def examine(host: Host) -> Iterator[Finding]:
    """The findings, for ``hv doctor`` and ``hv verify chroot``."""
    if not host.privileged:
        what = f"only root can mount a disk, and this is uid {os.geteuid()}"
        yield Finding(subject="privileges", severity=Severity.PROBLEM, what=what, todo="run it as root")
    for name, package in TOOLS.items():
        yield program(name, package)
    if os.access(_LOOP, os.R_OK | os.W_OK):
        yield Finding(subject=_LOOP, severity=Severity.OK, what="image files can be mounted")
    else:
        what, todo = "cannot be used: image files cannot be mounted, block devices can", "modprobe loop"
        yield Finding(subject=_LOOP, severity=Severity.NOTE, what=what, todo=todo)
