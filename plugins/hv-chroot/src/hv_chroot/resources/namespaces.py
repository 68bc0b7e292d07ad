"""The namespaces of an instance that exist before it: those of its users and of its network."""

from __future__ import annotations

import hvcore.plugin as hv
from hv_chroot.resource import Namespaces
from hvcore.plugin import Held, HeldNamespaces, ResourceKind, Site, Turn

__all__ = ["NamespacesKind"]


class NamespacesKind(ResourceKind[Namespaces, HeldNamespaces | None], name="namespaces", turn=Turn.WHO):
    """A process holds them until the instance has joined them; it ends with the operation."""

    def placeholder(self, resource: Namespaces, site: Site) -> HeldNamespaces | None:
        """Namespaces held by pid 0, which no process has."""
        if resource.users is None and not resource.network:
            return None
        return HeldNamespaces(pid=0, users=resource.users is not None, network=resource.network)

    def acquire(self, resource: Namespaces, held: Held) -> HeldNamespaces | None:
        """Create the namespaces, in a process that holds them."""
        uids = None if resource.users is None else held[resource.users]
        return held.enter(hv.hold_namespaces(users=uids, network=resource.network))
