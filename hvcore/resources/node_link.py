"""What the kinds of links have in common: who may make one, whose name it is, how it is made and removed."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from hvcore.errors import NodeError, Problem
from hvcore.host.network.link_names import COMMUNICATION, link_mark, link_name
from hvcore.host.network.links import delete_link, find_link, may_change_links
from hvcore.host.network.netlink import Netlink
from hvcore.model.network.node_links import Tap, Veth
from hvcore.model.record import Entry
from hvcore.model.resource import Resource
from hvcore.resources.owner import Owner, Site

__all__ = [
    "beside",
    "make_link",
    "name_and_mark",
    "name_of_link",
    "name_taken",
    "release_link",
    "remove_link",
    "root_needed",
]

_T = TypeVar("_T")
_NAME_TAKEN: Final = frozenset((errno.EEXIST, errno.EBUSY, errno.EINVAL))  # the last two: of a tap


def name_of_link(link: Resource[Any], site: Site) -> str:
    """The name of the link on the node.

    It depends on the bridge of Open vSwitch: a database that still has a port of that name takes the link into its bridge.
    """
    communication = isinstance(link, Tap) and link.communication
    switch = link.switch if isinstance(link, Tap | Veth) else None
    key = link.key if switch is None else f"{link.key} {switch.name}"
    return link_name(site.host.run_dir, site.name, key, **({"prefix": COMMUNICATION} if communication else {}))


def root_needed(path: str, what: str, otherwise: str) -> Iterator[Problem]:
    """The problem of a user who may not change the node's links: ``needs root, to WHAT``."""
    with Netlink() as netlink:
        if not may_change_links(netlink):
            yield Problem(path=path, what=f"needs root, to {what}", todo=f"run as root, or {otherwise}")


def name_and_mark(link: Resource[Any], site: Site) -> tuple[str, str]:
    """The name of the link on the node, and the mark by which it is known to be ours."""
    return name_of_link(link, site), link_mark(site.host.run_dir, site.name, link.key)


def beside(where: str, key: str) -> str:
    """The path of another key of the same NIC: ``nics[0].vlan`` beside ``nics[0].link``."""
    table, dot, _ = where.rpartition(".")
    return f"{table}.{key}" if dot else where


def name_taken(path: str, name: str, mark: str) -> Iterator[Problem]:
    """The problem that another program's link has the name. A link with this mark belongs to the instance itself."""
    with Netlink() as netlink:
        found = find_link(netlink, name)
    if found is not None and found.alias != mark:
        what, got = f"needs the interface name {name}, and another interface has it", found.alias or found.kind
        yield Problem(path=path, what=what, got=repr(got), todo=f"remove it: ip link del {name}")


def make_link(name: str, mark: str, owner: Owner, make: Callable[[], _T]) -> _T:
    """The result of ``make``, which makes the link of that name. Raises the OSError of ``make``.

    If a link has the name, and an earlier start left it, whose record was lost, it is removed first.
    """
    try:
        return make()
    except OSError as error:
        if error.errno not in _NAME_TAKEN or not remove_link(name, mark, owner):
            raise
    return make()


def release_link(entry: Entry, owner: Owner) -> None:
    """Remove the link that the entry names, if it has the entry's mark. Raises `NodeError` when the kernel refuses that."""
    remove_link(entry.data["name"], entry.data["owner"], owner)


def remove_link(name: str, mark: str, owner: Owner, *, made_as: tuple[str, str] = ("", "")) -> bool:
    """Remove the link of that name and mark, or one without a mark if it has the kind and the address ``made_as``.

    Returns whether there was such a link. Raises `NodeError` when the kernel refuses to remove it.

    The kernel ignores the mark in the request that makes a link, and a start can be killed before the next one.
    """
    try:
        with Netlink() as netlink:
            found = find_link(netlink, name)
            if found is None or not (
                found.alias == mark or (not found.alias and (found.kind, found.address) == made_as)
            ):
                return False
            delete_link(netlink, found.index)
    except OSError as error:
        what = f"{owner.name}: cannot remove interface {name}, got {error.strerror}"
        raise NodeError(f"{what}; try again") from error
    return True
