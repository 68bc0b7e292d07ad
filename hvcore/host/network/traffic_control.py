"""Limits of a link's bandwidth, by tc(8)'s requests: what it transmits, by a token bucket, and what it receives.

A link cannot delay what it receives. So that is led through another link, an ifb, whose token bucket delays it. Everything
at a link goes with it; the ifb stays, and is removed by its own name.
"""

from __future__ import annotations

import errno
import functools
import os
import socket
import struct
from typing import Final

from hvcore.host.libc import libc_call
from hvcore.host.network.links import add_ifb, set_link, the_link
from hvcore.host.network.netlink import CREATE, DUMP, REPLACE, Netlink, attribute, attributes, nested
from hvcore.host.threads import in_thread

__all__ = [
    "LIMIT_MODULES",
    "Limit",
    "has_filter_of_received",
    "limit_received",
    "limit_transmitted",
    "limits_at",
    "remove_limits",
    "transmit_limit",
    "why_no_limits",
]

LIMIT_MODULES: Final = "modprobe -a sch_tbf sch_ingress cls_u32 act_mirred ifb"
"""The command that loads what limits need."""

Limit = int
"""Bits per second."""

# linux/rtnetlink.h, linux/pkt_sched.h, linux/pkt_cls.h
_NEWQDISC, _DELQDISC, _GETQDISC, _NEWTFILTER, _GETTFILTER = 36, 37, 38, 44, 46
_KIND, _OPTIONS = 1, 2
_ROOT, _INGRESS_PARENT, _INGRESS = 0xFFFFFFFF, 0xFFFFFFF1, 0xFFFF0000
_TBF_PARMS, _TBF_RATE64, _TBF_BURST = 1, 4, 6
_ETHERNET: Final = 1  # TC_LINKLAYER_ETHERNET: the kernel then asks for no table of rates
_U32_SEL, _U32_ACT, _TERMINAL = 5, 7, 1
_ACT_KIND, _ACT_OPTIONS, _MIRRED_PARMS = 1, 2, 2
_STOLEN, _EGRESS_REDIRECT = 4, 1
_HEADER: Final = struct.Struct("=BxxxiIII")
_BURSTS_PER_S, _QUEUES_PER_S = 100, 20  # 10 ms of traffic at once, and 50 ms that wait
_ETHERNET_BYTES: Final = 22  # with a VLAN
_CLONE_NEWNET: Final = 0x40000000  # linux/sched.h
_ABSENT: Final = frozenset((errno.ENOENT, errno.EINVAL, errno.ENODEV))


def limit_transmitted(netlink: Netlink, index: int, rate: Limit, *, mtu: int) -> None:
    """Let the link transmit at most ``rate`` bits per second. Raises OSError."""
    bytes_per_s, packet = rate // 8, mtu + _ETHERNET_BYTES
    burst = max(bytes_per_s // _BURSTS_PER_S, 2 * packet)
    queue = burst + max(bytes_per_s // _QUEUES_PER_S, 10 * packet)
    rates = struct.pack("=BBHhHI", 0, _ETHERNET, 0, 0, 0, min(bytes_per_s, 2**32 - 1))
    parameters = rates + bytes(len(rates)) + struct.pack("=III", queue, 0, 0)
    options = [
        attribute(_TBF_PARMS, parameters),
        attribute(_TBF_BURST, burst),
        attribute(_TBF_RATE64, struct.pack("=Q", bytes_per_s)),
    ]
    body = _HEADER.pack(0, index, 0, _ROOT, 0) + attribute(_KIND, "tbf") + nested(_OPTIONS, *options)
    netlink.ask(_NEWQDISC, body, CREATE | REPLACE)


def limit_received(netlink: Netlink, index: int, ifb: int, rate: Limit, *, mtu: int) -> None:
    """Lead what the link receives through the link ``ifb``, which lets at most ``rate`` through. Raises OSError."""
    limit_transmitted(netlink, ifb, rate, mtu=mtu)
    set_link(netlink, ifb, up=True)
    netlink.ask(
        _NEWQDISC, _HEADER.pack(0, index, _INGRESS, _INGRESS_PARENT, 0) + attribute(_KIND, "ingress"), CREATE | REPLACE
    )
    redirect = attribute(_MIRRED_PARMS, struct.pack("=IIiiiiI", 0, 0, _STOLEN, 0, 0, _EGRESS_REDIRECT, ifb))
    action = nested(1, attribute(_ACT_KIND, "mirred"), nested(_ACT_OPTIONS, redirect))
    every_packet = struct.pack("=BBBxHHhhI", _TERMINAL, 0, 1, 0, 0, 0, 0, 0) + bytes(16)  # a key with an empty mask
    options = nested(_OPTIONS, attribute(_U32_SEL, every_packet), nested(_U32_ACT, action))
    protocol = 1 << 16 | socket.htons(3)  # priority 1, ETH_P_ALL
    head = _HEADER.pack(0, index, 0, _INGRESS, protocol)
    netlink.ask(_NEWTFILTER, head + attribute(_KIND, "u32") + options, CREATE)


def remove_limits(netlink: Netlink, index: int) -> None:
    """Remove the limits at the link; also twice, and when the link is gone."""
    for parent in (_ROOT, _INGRESS_PARENT):
        try:
            netlink.ask(_DELQDISC, _HEADER.pack(0, index, 0, parent, 0))
        except OSError as error:
            if error.errno not in _ABSENT:
                raise


def limits_at(netlink: Netlink, index: int) -> frozenset[str]:
    """The kinds of the queueing disciplines at the link: ``tbf``, ``ingress`` and others."""
    found = set()
    for body in netlink.ask(_GETQDISC, _HEADER.pack(0, index, 0, 0, 0), DUMP):
        if _HEADER.unpack_from(body)[1] == index:
            kind = attributes(body[_HEADER.size :]).get(_KIND, b"")
            found.add(kind.rstrip(b"\0").decode("ascii", "replace"))
    return frozenset(found)


def transmit_limit(netlink: Netlink, index: int) -> int | None:
    """What `limit_transmitted` lets the link transmit, in whole bytes per second; None without a limit."""
    for body in netlink.ask(_GETQDISC, _HEADER.pack(0, index, 0, 0, 0), DUMP):
        _, link, _, parent, _ = _HEADER.unpack_from(body)
        found = attributes(body[_HEADER.size :])
        if (link, parent, found.get(_KIND)) == (index, _ROOT, b"tbf\0"):
            options = attributes(found.get(_OPTIONS, b""))
            if _TBF_RATE64 in options:
                return int(struct.unpack_from("=Q", options[_TBF_RATE64])[0])
            return int(struct.unpack_from("=8xI", options[_TBF_PARMS])[0])
    return None


def has_filter_of_received(netlink: Netlink, index: int) -> bool:
    """Whether a filter acts on what the link receives."""
    try:
        return bool(netlink.ask(_GETTFILTER, _HEADER.pack(0, index, 0, _INGRESS, 0), DUMP))
    except OSError as error:
        if error.errno in _ABSENT:
            return False
        raise


@functools.cache
def why_no_limits() -> str | None:
    """What of these limits the kernel lacks, in its words; None if it has all, or if it does not let this process try.

    They are made at a link of a network namespace that ends with the answer.
    """

    def tried() -> str | None:
        try:
            libc_call("unshare", _CLONE_NEWNET)
        except OSError:
            return None
        try:
            with Netlink() as netlink:
                for name in ("a", "b"):
                    add_ifb(netlink, name, address=f"02:00:00:00:00:0{name}")
                link, ifb = (the_link(netlink, name).index for name in ("a", "b"))
                limit_transmitted(netlink, link, 10**6, mtu=1500)
                limit_received(netlink, link, ifb, 10**6, mtu=1500)
        except OSError as error:
            return error.strerror or os.strerror(error.errno or 0)
        return None

    return in_thread(tried, name="limits")
