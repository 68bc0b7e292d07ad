"""Links to which the node routes addresses. The routes go with the link, the rules for a table are deleted by name."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from typing import Any, Final

from hvcore.errors import OperationError, Problem
from hvcore.host.network.link_names import owner_of_mark
from hvcore.host.network.link_sysctls import FORWARDING, not_forwarding, set_routed
from hvcore.host.network.links import add_address, find_link, set_link, the_link
from hvcore.host.network.netlink import Netlink
from hvcore.host.network.routes import (
    LOCAL_TABLE,
    MAIN_TABLE,
    add_route,
    add_rule,
    delete_rule,
    in_the_way,
    route_device,
    rules_for,
    table_number,
)
from hvcore.model.network.node_links import RoutedPort
from hvcore.model.plan import Step
from hvcore.model.record import Entry
from hvcore.resources.held import Held
from hvcore.resources.kind import ResourceKind, Turn
from hvcore.resources.node_link import beside, name_of_link
from hvcore.resources.owner import Owner, Site

__all__ = ["RoutedPortKind"]

_GATEWAY: Final = "fe80::1/64"
_LOOPBACK: Final = 1  # the index of lo in each network namespace


class RoutedPortKind(ResourceKind[RoutedPort, None], name="routed-port", turn=Turn.NETWORK):
    """A rule stays when its link goes, and would then match the next link of that name. So the ledger has what it needs."""

    def verify(self, resource: RoutedPort, site: Site) -> Iterator[Problem]:
        """The table must exist, the node must forward packets, and no address may be the node's own or have another route."""
        if (problem := _no_table(resource)) is not None:
            yield problem
        for version in not_forwarding(resource.versions):
            key = FORWARDING[version]
            what = f"needs a node that forwards IPv{version}, and {key} is 0"
            yield Problem(path=resource.where, what=what, got="'routed'", todo=f"set it: sysctl {key}=1")
        with Netlink() as netlink:
            own = [address for address in resource.addresses if route_device(netlink, address) == _LOOPBACK]
            table = table_number(resource.table) or MAIN_TABLE
            others = {} if problem is not None else dict(_other_routes(netlink, resource, table, site))
        for address in own:
            what, todo = "is an address of this node", "give the guest another"
            yield Problem(path=beside(resource.where, "ip"), what=what, got=repr(address), todo=todo)
        for address, todo in others.items():
            if address not in own:
                what = f"has another route in table {resource.table or 'main'}"
                yield Problem(path=beside(resource.where, "ip"), what=what, got=repr(address), todo=todo)

    def describe(self, resource: RoutedPort, site: Site) -> Iterator[Step]:
        """The addresses, and the table."""
        table = "the main table" if resource.table is None else f"table {resource.table}, with rules for them"
        yield Step(kind="connect", what=f"route {', '.join(resource.addresses)} to {resource.link.key}, in {table}")

    def entry(self, resource: RoutedPort, site: Site) -> Mapping[str, Any] | None:
        """What rules name: the link, the addresses, and the table. None for the main table, which needs no rules."""
        table = _table(resource, site.name)
        if table == MAIN_TABLE:
            return None
        return {"name": name_of_link(resource.link, site), "table": table, "addresses": list(resource.addresses)}

    def acquire(self, resource: RoutedPort, held: Held) -> None:
        """Set the link up, and route the addresses to it. Raises `OperationError`."""
        name, link = held.owner.name, held[resource.link].name
        table = _table(resource, name)
        held.owner.progress(f"routing {', '.join(resource.addresses)} to {link}")
        try:
            with Netlink() as netlink:
                index = the_link(netlink, link).index
                set_routed(link, resource.versions)
                set_link(netlink, index, mtu=resource.mtu, up=True)
                if 6 in resource.versions:
                    add_address(netlink, index, _GATEWAY, at_once=True)
                for address in resource.addresses:
                    _add(netlink, name, resource, address, index=index, table=table)
                if table != MAIN_TABLE:
                    for rule in rules_for(link, table, resource.addresses):
                        add_rule(netlink, rule)
        except OSError as error:
            what = f"{name}: {resource.where}: cannot route its addresses to {link}, got {error.strerror}"
            place = f" for {error.filename}" if error.filename else ""
            raise OperationError(f"{what}{place}; see 'ip route show table all'") from error

    def prove(self, resource: RoutedPort, site: Site, owner: Owner) -> None:
        """The node must send packets for each address to the link. Raises `OperationError`."""
        link = name_of_link(resource.link, site)
        with Netlink() as netlink:
            found = find_link(netlink, link)
            index = None if found is None else found.index
            lost = [address for address in resource.addresses if route_device(netlink, address) != index]
        if lost:
            what = f"{owner.name}: {resource.where}: the node does not route {', '.join(lost)} to {link}"
            raise OperationError(f"{what}; see 'ip route get {lost[0]}' and 'ip rule'")

    def release(self, entry: Entry, owner: Owner) -> None:
        """Delete the rules. The routes went with the link."""
        data = entry.data
        with Netlink() as netlink:
            for rule in rules_for(data["name"], data["table"], data["addresses"]):
                delete_rule(netlink, rule)


def _other_routes(netlink: Netlink, resource: RoutedPort, table: int, site: Site) -> Iterator[tuple[str, str]]:
    """Addresses with a route of another program in the table, and what to do about each."""
    for address, index in in_the_way(netlink, resource.addresses, table).items():
        link = None if index is None else find_link(netlink, index)
        if link is not None and owner_of_mark(site.host.run_dir, link.alias) is not None:
            continue  # its own, or of an instance that has reserved the address
        at = "" if link is None else f" dev {link.name}"
        family = " -6" if ":" in address else ""
        command = f"ip{family} route del {address}{at} table {resource.table or 'main'}"
        yield address, f"delete it: {command}; or give the guest another"


def _no_table(resource: RoutedPort) -> Problem | None:
    if table_number(resource.table) not in (None, LOCAL_TABLE):
        return None
    what, todo = "is not a routing table for guests", "give a number such as 100, or a name of /etc/iproute2/rt_tables"
    return Problem(path=resource.table_given_by or resource.where, what=what, got=repr(resource.table), todo=todo)


def _table(resource: RoutedPort, name: str) -> int:
    if (problem := _no_table(resource)) is not None:
        raise OperationError(f"{name}: {problem}")
    return table_number(resource.table) or MAIN_TABLE


def _add(netlink: Netlink, name: str, resource: RoutedPort, address: str, *, index: int, table: int) -> None:
    try:
        add_route(netlink, address, index=index, table=table)
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise
        what = f"{name}: {resource.where}: {address} has another route in table {resource.table or 'main'}"
        raise OperationError(f"{what}; delete that route, or give the guest another address") from error
