"""Settings of the kernel for one link, and whether the node forwards packets, in /proc/sys/net of the caller's network."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

__all__ = ["FORWARDING", "not_forwarding", "set_routed"]

FORWARDING: Final = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}
"""The setting of the node, by IP version."""

_SYS: Final = Path("/proc/sys")
# The node routes for the guest and answers for what it asks for. It believes nothing that the guest says about routes, and
# drops packets whose source is not an address of the guest (the kernel has that for IPv4 only).
_ROUTED: Final = {
    4: {"forwarding": 1, "proxy_arp": 1, "rp_filter": 1, "accept_redirects": 0, "send_redirects": 0},
    # A node can disable IPv6 for new links, and forward it.
    6: {"disable_ipv6": 0, "forwarding": 1, "proxy_ndp": 1, "accept_ra": 0, "accept_redirects": 0},
}


def not_forwarding(versions: Iterable[int], proc_sys: Path = _SYS) -> list[int]:
    """Those IP versions that the node does not forward."""
    return [version for version in versions if _value(proc_sys / FORWARDING[version].replace(".", "/")) in ("", "0")]


def set_routed(name: str, versions: Iterable[int], proc_sys: Path = _SYS) -> None:
    """Let the node forward packets of that link, and answer requests for addresses that it routes. Raises OSError."""
    for version in versions:
        folder = proc_sys / f"net/ipv{version}/conf/{name}"
        for key, value in _ROUTED[version].items():
            (folder / key).write_text(str(value), encoding="ascii")


def _value(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError:
        return ""
