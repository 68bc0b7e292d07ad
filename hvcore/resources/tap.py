"""Tap devices: each has its descriptors from the driver, is never persistent, and goes with the guest."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from typing import Any

from hvcore.errors import OperationError, Problem
from hvcore.host.network.links import set_link, the_link
from hvcore.host.network.netlink import Netlink
from hvcore.host.network.tap_device import TUN, VHOST_NET, open_tap, tap_features
from hvcore.model.network.node_links import Tap, TapFds
from hvcore.model.plan import Step
from hvcore.model.record import Entry
from hvcore.resources.held import Held
from hvcore.resources.kind import ResourceKind, Turn
from hvcore.resources.node_link import make_link, name_and_mark, name_of_link, name_taken, release_link, root_needed
from hvcore.resources.owner import Owner, Site
from hvcore.resources.tap_queues import fd_symbols, vhost_fds, vhost_missing

__all__ = ["TapKind"]


class TapKind(ResourceKind[Tap, TapFds], name="tap", turn=Turn.NETWORK):
    """The kernel removes a tap with its last descriptor: when the guest ends, and when a start is killed."""

    def __init__(self, tun: str = TUN, vhost_net: str = VHOST_NET) -> None:
        self._tun, self._vhost_net = tun, vhost_net

    def verify(self, resource: Tap, site: Site) -> Iterator[Problem]:
        """The node must have taps, several queues if they are wanted, and vhost-net if it is; only root can make a tap."""
        path = resource.where
        try:
            features = tap_features(self._tun)
        except OSError as error:
            what, todo = f"needs a tap device, and {self._tun} cannot be opened ({error.strerror})", "load module tun"
            yield Problem(path=path, what=what, todo=f"{todo}, or use mode 'user'")
            return
        if resource.queues > 1 and not features.multi_queue:
            what = f"needs {resource.queues} queues, and the taps of this kernel have only one"
            yield Problem(path=path, what=what, todo="set virtio_net_queues = 1")
        yield from vhost_missing(path, resource.vhost, self._vhost_net)
        yield from root_needed(path, "make a tap device", "use mode 'user'")
        yield from name_taken(path, *name_and_mark(resource, site))

    def describe(self, resource: Tap, site: Site) -> Iterator[Step]:
        """The tap and its queues."""
        queues = f" with {resource.queues} queues" if resource.queues > 1 else ""
        yield Step(kind="tap", what=f"make tap {name_of_link(resource, site)}{queues} for the NIC {resource.mac}")

    def placeholder(self, resource: Tap, site: Site) -> TapFds:
        """Symbols for the descriptors. Only the node knows whether it has vhost; a plan assumes that it does."""
        return fd_symbols(resource, name_of_link(resource, site))

    def entry(self, resource: Tap, site: Site) -> Mapping[str, Any]:
        """The tap's name, and its mark."""
        name, mark = name_and_mark(resource, site)
        return {"name": name, "owner": mark}

    def acquire(self, resource: Tap, held: Held) -> TapFds:
        """The descriptors. The tap has its address and its mark, and is down. Raises `OperationError`."""
        (name, mark), instance = name_and_mark(resource, held.site), held.owner.name
        held.owner.progress(f"making tap {name}")
        try:
            completes = resource.switch is None or held[resource.switch].in_kernel
            vnet_hdr = resource.vnet_hdr and completes

            def opens() -> list[int]:
                return open_tap(name, queues=resource.queues, vnet_hdr=vnet_hdr, tun=self._tun)

            opened = make_link(name, mark, held.owner, opens)
        except OSError as error:
            in_the_way = error.errno in (errno.EBUSY, errno.EINVAL)
            todo = f"see 'ip -d link show {name}'" if in_the_way else "hv verify says what this node lacks"
            what = f"{instance}: {resource.where}: cannot make tap {name}, got {error.strerror}"
            raise OperationError(f"{what}; {todo}") from error
        fds = tuple(map(held.add, opened))
        for_vhost = tuple(map(held.add, vhost_fds(resource, instance, self._vhost_net)))
        self._set_up(resource, name, held)
        return TapFds(name=name, fds=fds, vhost_fds=for_vhost)

    def release(self, entry: Entry, owner: Owner) -> None:
        """Remove a link of that name and mark. The tap went with its process, unless something made it persistent."""
        release_link(entry, owner)

    def _set_up(self, resource: Tap, name: str, held: Held) -> None:
        try:
            with Netlink() as netlink:
                set_link(
                    netlink,
                    the_link(netlink, name).index,
                    # A bridge has the lowest address of its ports. This one is never the lowest.
                    address=f"fe{resource.mac[2:]}",
                    mtu=resource.mtu,
                    alias=name_and_mark(resource, held.site)[1],
                )
        except OSError as error:
            what = f"{held.owner.name}: {resource.where}: cannot set up tap {name}, got {error.strerror}"
            raise OperationError(f"{what}; correct mac and mtu of the NIC") from error
