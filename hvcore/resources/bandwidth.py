"""Limits of the bandwidth of a link, to the guest and from the guest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hvcore.errors import NodeError, OperationError, Problem
from hvcore.host.network.links import add_ifb, find_link, set_link, the_link
from hvcore.host.network.netlink import Netlink
from hvcore.host.network.traffic_control import (
    LIMIT_MODULES,
    limit_received,
    limit_transmitted,
    limits_at,
    remove_limits,
    transmit_limit,
    why_no_limits,
)
from hvcore.model.network.node_links import Bandwidth, Macvtap
from hvcore.model.plan import Step
from hvcore.model.record import Entry
from hvcore.resources.held import Held
from hvcore.resources.kind import ResourceKind, Turn
from hvcore.resources.node_link import make_link, name_and_mark, name_taken, remove_link
from hvcore.resources.owner import Owner, Site

__all__ = ["BandwidthKind", "shown_limits"]

_UNITS = ((10**9, "G"), (10**6, "M"), (10**3, "K"))


class BandwidthKind(ResourceKind[Bandwidth, None], name="bandwidth", turn=Turn.NETWORK):
    """What a link receives is limited by a second link, an ifb, which is in the ledger."""

    def verify(self, resource: Bandwidth, site: Site) -> Iterator[Problem]:
        """The kernel must have what limits a link."""
        if (why := why_no_limits()) is not None:
            what = f"needs parts of the kernel that this node lacks ({why})"
            yield Problem(path=resource.where, what=what, todo=f"{LIMIT_MODULES}; or unset it")
        yield from name_taken(resource.where, *name_and_mark(resource, site))

    def describe(self, resource: Bandwidth, site: Site) -> Iterator[Step]:
        """The limits."""
        limits = shown_limits(resource.to_guest, resource.from_guest)
        yield Step(kind="limit", what=f"{resource.link.key} to at most {limits}")

    def entry(self, resource: Bandwidth, site: Site) -> Mapping[str, Any]:
        """The ifb, and the link that is limited."""
        name, mark = name_and_mark(resource, site)
        return {"ifb": name, "mark": mark, "mac": _address(resource), "link": resource.link.key}

    def acquire(self, resource: Bandwidth, held: Held) -> None:
        """Set the limits. Raises `OperationError`."""
        owner, name = held.owner, held[resource.link].name
        ifb, mark = name_and_mark(resource, held.site)
        owner.progress(f"limiting {name}")
        transmits, receives = _of_link(resource)
        try:
            with Netlink() as netlink:
                link = the_link(netlink, name)
                if transmits is not None:
                    limit_transmitted(netlink, link.index, transmits, mtu=link.mtu)
                if receives is not None:
                    make_link(ifb, mark, owner, lambda: add_ifb(netlink, ifb, address=_address(resource)))
                    index = the_link(netlink, ifb).index
                    set_link(netlink, index, alias=mark)
                    limit_received(netlink, link.index, index, receives, mtu=link.mtu)
        except OSError as error:
            what = f"{owner.name}: {resource.where}: cannot limit {name}, got {error.strerror}"
            raise OperationError(f"{what}; hv verify says what this node lacks") from error

    def prove(self, resource: Bandwidth, site: Site, owner: Owner) -> None:
        """The limits must be there, with their rates. Raises `OperationError`."""
        entry, own = owner.record.entry(resource.link.key), owner.record.entry(resource.key)
        transmits, receives = _of_link(resource)
        wanted = {kind for kind, rate in (("tbf", transmits), ("ingress", receives)) if rate is not None}
        with Netlink() as netlink:
            link = find_link(netlink, entry.data["name"])
            found = limits_at(netlink, link.index) if link is not None else frozenset()
            ifb = find_link(netlink, own.data["ifb"])
            rates = [None if one is None else transmit_limit(netlink, one.index) for one in (link, ifb)]
        if not wanted <= found:
            what = f"{owner.name}: {resource.where}: {entry.data['name']} is not limited any more"
            raise OperationError(f"{what}; another program changed it")
        if rates != [None if rate is None else rate // 8 for rate in (transmits, receives)]:
            what = f"{owner.name}: {resource.where}: {entry.data['name']} has other limits"
            raise OperationError(f"{what}; another program changed it")

    def release(self, entry: Entry, owner: Owner) -> None:
        """Remove the limits of the link, if it is still there, and the ifb. Raises `NodeError`."""
        link = next((one.data for one in owner.record.ledger if one.key == entry.data["link"]), None)
        try:
            with Netlink() as netlink:
                found = None if link is None else find_link(netlink, link["name"])
                if found is not None and link is not None and found.alias == link["owner"]:
                    remove_limits(netlink, found.index)
        except OSError as error:
            what = f"{owner.name}: cannot remove the limits of {entry.data['link']}, got {error.strerror}"
            raise NodeError(f"{what}; try again") from error
        remove_link(entry.data["ifb"], entry.data["mark"], owner, made_as=("ifb", entry.data["mac"]))


def _address(resource: Bandwidth) -> str:
    return f"fe{resource.mac[2:].lower()}"


def _of_link(resource: Bandwidth) -> tuple[int | None, int | None]:
    """What the link may transmit and receive. A macvtap transmits what its guest sends, any other link the opposite."""
    if isinstance(resource.link, Macvtap):
        return resource.from_guest, resource.to_guest
    return resource.to_guest, resource.from_guest


def shown_limits(to_guest: int | None, from_guest: int | None) -> str:
    """The limits in words; empty without any."""
    both = (("to", to_guest), ("from", from_guest))
    return " and ".join(f"{_shown(rate)}bit/s {way} the guest" for way, rate in both if rate is not None)


def _shown(rate: int) -> str:
    return next((f"{rate // factor} {unit}" for factor, unit in _UNITS if rate % factor == 0), f"{rate} ")
