"""What it has of a network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import hvcore

__all__ = ["PARAMS", "check", "params"]

PARAMS: Final = hvcore.ParamGroup(
    "network",
    hvcore.Param(
        "network",
        hvcore.one_of("host", "none"),
        default="host",
        help="Whether it shares the node's network, as in Ganeti, or has one of its own without a way out.",
        example="none",
    ),
    help="Its network.",
)


@hvcore.hookimpl
def params() -> hvcore.ParamGroup:
    """The parameters of this family."""
    return PARAMS


@hvcore.hookimpl
def check(instance: hvcore.Instance) -> Iterator[hvcore.Problem]:
    """No interface that would not be there."""
    for index, nic in enumerate(instance.nics):
        what = "a chroot instance has no network interface of its own"
        todo = "remove it; params.network says what it shares with the node"
        yield hvcore.Problem(path=f"nics[{index}]", what=what, got=repr(nic.mode), todo=todo)
