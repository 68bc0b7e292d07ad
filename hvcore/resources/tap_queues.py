"""The queues of a tap or a macvtap: their symbols in a plan, and a descriptor of vhost-net for each."""

from __future__ import annotations

import os
from collections.abc import Iterator

from hvcore.errors import OperationError, Problem
from hvcore.host.network.tap_device import open_vhost
from hvcore.model.network.node_links import Macvtap, Tap, TapFds

__all__ = ["fd_symbols", "vhost_fds", "vhost_missing"]


def fd_symbols(resource: Tap | Macvtap, name: str) -> TapFds:
    """Symbols for the descriptors. Only the node knows whether it has vhost; a plan assumes that it does."""
    nic = resource.key.partition(".")[0]
    names = [nic + (f".{queue}" if resource.queues > 1 else "") for queue in range(resource.queues)]
    vhost = tuple(f"{{fd:vhost-{name}}}" for name in names) if resource.vhost is not False else ()
    return TapFds(name=name, fds=tuple(f"{{fd:tap-{name}}}" for name in names), vhost_fds=vhost)


def vhost_missing(path: str, wanted: bool | None, vhost_net: str) -> Iterator[Problem]:  # noqa: FBT001 - of the resource
    """The problem of a node that has no vhost-net, if it is wanted."""
    if wanted and (why := _no_vhost(vhost_net)) is not None:
        what = f"needs vhost-net, and {vhost_net} cannot be opened ({why})"
        yield Problem(path=path, what=what, todo="load module vhost_net, or unset vhost_net")


def vhost_fds(resource: Tap | Macvtap, instance: str, vhost_net: str) -> list[int]:
    """A descriptor of vhost-net for each queue; none if it is not wanted, or the node need not have it."""
    if resource.vhost is False or (resource.vhost is None and _no_vhost(vhost_net) is not None):
        return []
    fds: list[int] = []
    try:
        while len(fds) < resource.queues:
            fds.append(open_vhost(vhost_net))
    except OSError as error:
        for fd in fds:
            os.close(fd)
        what = f"{instance}: {resource.where}: cannot open {vhost_net}, got {error.strerror}"
        raise OperationError(f"{what}; load module vhost_net, or unset vhost_net") from error
    return fds


def _no_vhost(vhost_net: str) -> str | None:
    """Why vhost-net cannot be used; None when it can."""
    try:
        os.close(open_vhost(vhost_net))
    except OSError as error:
        return error.strerror
    return None
