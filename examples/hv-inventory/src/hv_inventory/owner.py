"""A parameter, a rule and a lifecycle hook for every driver: the owner of the instance."""

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
    owner = hv.Param("owner", login, help="The login name of the owner.", default_means="not known", example="alice")
    return hv.ParamGroup("inventory", owner, help="What the inventory knows of the instance.")


@hv.hookimpl
def check(instance: hv.Instance, params: hv.Params) -> Iterator[hv.Problem]:
    """A rule across values. Pure: it gives the same answer on every machine."""
    if instance.memory_mib > _BIG_MIB and params["owner"] is None:
        what = f"is required above {_BIG_MIB} MiB"
        yield hv.Problem(path="params.owner", what=what, todo="set it to a login name")


@hv.hookimpl
def before_start(instance: hv.Instance) -> None:
    """Refuse to start an instance whose owner has no account here. Nothing has been acquired yet."""
    owner = instance.params.get("owner")
    if owner is None:
        return
    try:
        pwd.getpwnam(owner)
    except KeyError:
        todo = "create one, or name another owner"
        raise hv.OperationError(f"{instance.name}: owner {owner!r} has no account on this node; {todo}") from None
