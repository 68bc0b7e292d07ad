"""A parameter, a rule and a lifecycle hook that work with every driver: who owns the instance."""

from __future__ import annotations

import pwd
from collections.abc import Iterator

import hvcore.plugin as hv

__all__ = ["before_start", "check", "params"]

_BIG_MIB = 1024


@hv.hookimpl
def params() -> hv.ParamGroup:
    """One parameter, under ``[params]`` beside the driver's own."""
    login = hv.regexp("[a-z_][a-z0-9_-]{0,31}", "a login name")
    who = "Who answers questions about the instance."
    owner = hv.Param("owner", login, help=who, default_means="not known", example="alice")
    return hv.ParamGroup("inventory", owner, help="For the inventory.")


@hv.hookimpl
def check(instance: hv.Instance, params: hv.Params) -> Iterator[hv.Problem]:
    """A rule across values. Pure: it gives the same answer on every machine."""
    if instance.memory_mib > _BIG_MIB and params["owner"] is None:
        what = f"is required above {_BIG_MIB} MiB"
        yield hv.Problem(path="params.owner", what=what, todo="say who owns it")


@hv.hookimpl
def before_start(instance: hv.Instance) -> None:
    """Refuse to start what belongs to nobody here. Nothing has been acquired yet, so nothing is to be undone."""
    owner = instance.params.get("owner")
    if owner is None:
        return
    try:
        pwd.getpwnam(owner)
    except KeyError:
        todo = "make one, or name another owner"
        raise hv.OperationError(f"{instance.name}: owner {owner!r} has no account on this node; {todo}") from None
