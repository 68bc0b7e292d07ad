"""The parameters of the driver, and what must hold between them and the instance. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import hvcore

__all__ = ["PARAMS", "check", "params"]

# Not hvcore.file(): that one is looked for on the node, this one is inside the instance's own file system.
_PATH_INSIDE: Final = replace(
    hvcore.file(), kind="path inside", expects="the absolute path of a program on the first disk", node_check=None
)

PARAMS: Final = hvcore.ParamGroup(
    "chroot",
    hvcore.Param(
        "init_script",
        _PATH_INSIDE,
        default="/ganeti-chroot",
        help="The program on the first disk that is run with the argument start, and with stop when it stops.",
        example="/etc/init.d/rcS",
    ),
    hvcore.Param(
        "script_deadline",
        hvcore.seconds(minimum=0.1, maximum=86400),
        default=60,
        unit="seconds",
        help="How long one run of the script may take; a start fails then, a stop goes on without it.",
        changes="launch",
        example=120,
    ),
    hvcore.Param(
        "network",
        hvcore.one_of("host", "none"),
        default="host",
        help="Whether it shares the node's network, as in Ganeti, or has one of its own without a way out.",
        example="none",
    ),
    hvcore.Param(
        "hostname",
        hvcore.regexp("[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", "a host name of at most 64 bytes", max_bytes=64),
        help="The host name that its processes see; unset, it is the instance's name.",
        example="web1",
    ),
    help="A root file system on a disk, confined to namespaces of its own.",
)


@hvcore.hookimpl
def params() -> hvcore.ParamGroup:
    """The parameters of this driver."""
    return PARAMS


@hvcore.hookimpl
def check(instance: hvcore.Instance) -> Iterator[hvcore.Problem]:
    """One disk, and nothing asked for that such an instance does not have."""
    if not instance.disks:
        yield hvcore.Problem(path="disks", what="is empty", todo="give the disk with the root file system")
    for index, disk in enumerate(instance.disks[1:], 1):
        what = "is a second disk, and only the root file system is mounted"
        yield hvcore.Problem(path=f"disks[{index}]", what=what, got=repr(disk.path), todo="remove it")
    for index, nic in enumerate(instance.nics):
        what = "a chroot instance has no network interface of its own"
        todo = "remove it; params.network says what it shares with the node"
        yield hvcore.Problem(path=f"nics[{index}]", what=what, got=repr(nic.mode), todo=todo)
