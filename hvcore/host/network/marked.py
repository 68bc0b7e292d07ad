"""What of the node's network has the mark of an instance: interfaces, ports of Open vSwitch; rules that lead to neither.

A port outlives a boot, and a rule outlives its interface. A mark names run directory, instance and resource.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from hvcore.frozen import dataclass
from hvcore.host.network.link_names import is_ours, owner_of_mark
from hvcore.host.network.links import delete_link, find_link, links
from hvcore.host.network.netlink import Netlink
from hvcore.host.network.ovs_vsctl import OvsError, ask, run_here
from hvcore.host.network.routes import Route, Rule, delete_rule, routes, rules
from hvcore.model.network.ovs_bridge import (
    OVS_SOCKET,
    limits_in,
    marked_ports_in,
    port_in,
    to_delete_limits,
    to_delete_port,
    to_find_limits,
    to_find_marked,
    to_find_port,
)

__all__ = ["Marked", "command_to_delete", "lost_routes", "lost_rules", "marked", "remove_marked"]

_ASK_S: Final = 5.0
_INTERFACE: Final = "interface"
_PORT: Final = "port of Open vSwitch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """One thing: ``what`` it is, its ``name`` there and its mark, which names ``instance`` and the ``key`` of a resource.

    ``rules`` are those that lead packets to an interface or from it.
    """

    what: str
    name: str
    mark: str
    instance: str
    key: str
    rules: tuple[Rule, ...] = ()

    @property
    def command(self) -> str:
        """The command that removes it."""
        return f"ip link del {self.name}" if self.what == _INTERFACE else f"ovs-vsctl del-port {self.name}"


def marked(run_dir: Path, ovs_socket: str = OVS_SOCKET) -> Iterator[Marked]:
    """Everything with a mark of that run directory. What cannot be read is left out: findings about networks say so."""
    yield from _interfaces(run_dir)
    yield from _ports(run_dir, ovs_socket)


def _interfaces(run_dir: Path) -> Iterator[Marked]:
    with Netlink() as netlink:
        found = [(link, owner) for link in links(netlink) if (owner := owner_of_mark(run_dir, link.alias)) is not None]
        if not found:
            return
        all_rules, all_routes = list(rules(netlink)), list(routes(netlink))
    for link, (instance, key) in found:
        to = {(route.table, route.address) for route in all_routes if route.index == link.index}
        its_rules = (rule for rule in all_rules if rule.link == link.name or (rule.table, rule.address) in to)
        yield Marked(
            what=_INTERFACE, name=link.name, mark=link.alias, instance=instance, key=key, rules=tuple(its_rules)
        )


def _ports(run_dir: Path, socket: str) -> Iterator[Marked]:
    if not os.path.exists(socket):
        return
    with suppress(OvsError, ValueError):
        for name, mark in list(marked_ports_in(ask(run_here, socket, *to_find_marked(), deadline_s=_ASK_S))):
            if (owner := owner_of_mark(run_dir, mark)) is not None:
                yield Marked(what=_PORT, name=name, mark=mark, instance=owner[0], key=owner[1])


def remove_marked(thing: Marked, ovs_socket: str = OVS_SOCKET) -> None:
    """Remove it, if it still has that mark, and its rules. Raises OSError and `OvsError`."""
    if thing.what == _PORT:
        _remove_port(thing, ovs_socket)
        return
    with Netlink() as netlink:
        link = find_link(netlink, thing.name)
        if link is not None and link.alias == thing.mark:
            delete_link(netlink, link.index)
        for rule in thing.rules:
            delete_rule(netlink, rule)


def _remove_port(port: Marked, socket: str) -> None:
    def request(*words: str) -> str:
        return ask(run_here, socket, *words, deadline_s=_ASK_S)

    found = port_in(request(*to_find_port(port.name)))
    if found is not None and found.mark == port.mark:
        request(*to_delete_port(port.name))
    if limits := limits_in(request(*to_find_limits(port.mark))):
        request(*to_delete_limits(limits))


def lost_rules(keep: Callable[[Rule], bool]) -> Iterator[Rule]:
    """Rules of hvcore that lead nowhere: their interface is gone, or no route to an interface of hvcore needs them.

    Without those to ``keep``. A rule has no mark, so the rules of a run directory whose instance has ended and is not cleaned
    up look the same.
    """
    with Netlink() as netlink:
        found = [rule for rule in rules(netlink) if not keep(rule)]
        if not found:
            return
        ours = {link.index: link.name for link in links(netlink) if is_ours(link.name, link.alias)}
        led = {(route.table, route.address) for route in routes(netlink) if route.index in ours}
    names = set(ours.values())
    # An interface that is down has lost its routes, and its guest still has its rules.
    used = {(rule.version, rule.table) for rule in found if rule.link in names}
    for rule in found:
        if rule.link:
            lost = rule.link not in names
        else:
            lost = (rule.table, rule.address) not in led and (rule.version, rule.table) not in used
        if lost:
            yield rule


def lost_routes() -> Iterator[tuple[Route, str]]:
    """Routes of hvcore by an interface that is not of hvcore, with its name: such as one that was renamed."""
    with Netlink() as netlink:
        found = list(routes(netlink))
        there = {link.index: link for link in links(netlink)} if found else {}
    for route in found:
        link = there.get(route.index)
        if link is not None and not is_ours(link.name, link.alias):
            yield route, link.name


def command_to_delete(thing: Rule | Route) -> str:
    """The command that removes the rule or the route."""
    family = " -6" if thing.version == 6 else ""
    if isinstance(thing, Route):
        return f"ip{family} route del {thing.address} table {thing.table} proto 104"
    place = f"iif {thing.link}" if thing.link else f"to {thing.address}"
    return f"ip{family} rule del {place} lookup {thing.table} proto 104"
