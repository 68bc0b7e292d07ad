"""A tap device of the node. This release does not make any: a guest that needs one is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from hv_kvm.machine.resource import Tap, TapFds
from hvcore.plugin import Held, OperationError, Problem, ResourceKind, Site, Turn

__all__ = ["TapKind"]

_WHAT: Final = "needs a tap, which this release of hv-kvm does not make"


class TapKind(ResourceKind[Tap, TapFds], name="tap", turn=Turn.NETWORK):
    """Checked and rendered, and not yet acquired."""

    def verify(self, resource: Tap, site: Site) -> Iterator[Problem]:
        """No tap can be made yet."""
        yield Problem(path=resource.where, what=_WHAT, got=repr(resource.mode), todo="use mode 'user'")

    def placeholder(self, resource: Tap, site: Site) -> TapFds:
        """Symbols for the descriptors. Whether vhost is there is the node's to say; a plan assumes that it is."""
        nic = resource.key.removesuffix(".tap")
        names = [nic + (f".{queue}" if resource.queues > 1 else "") for queue in range(resource.queues)]
        vhost = tuple(f"{{fd:vhost-{name}}}" for name in names) if resource.vhost is not False else ()
        return TapFds(fds=tuple(f"{{fd:tap-{name}}}" for name in names), vhost_fds=vhost)

    def acquire(self, resource: Tap, held: Held) -> TapFds:
        """Raises `OperationError`."""
        raise OperationError(f"{held.owner.name}: {resource.where} {_WHAT}; use mode 'user'")
