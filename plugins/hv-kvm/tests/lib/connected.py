"""NICs of each mode that has an interface of the node, for tests that hold for all of them.

The test is in an empty network with the bridge ``br0`` that forwards packets.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from hvcore import Nic

__all__ = ["MACS", "MODES", "connected"]

MACS: Final = ("aa:00:00:4b:c1:01", "aa:00:00:4b:c1:02")
MODES: Final = ("bridged", "bridged by script", "routed", "ext")

_UP: Final = """#!/bin/sh
set -e
echo "up $INTERFACE $MODE" >> {ran}
ip link set "$INTERFACE" up
ip link set "$INTERFACE" master "$LINK"
"""
_DOWN: Final = """#!/bin/sh
echo "down $INTERFACE $MODE" >> {ran}
{more}
"""


def connected(mode: str, folder: Path, macs: tuple[str, ...] = MACS, *, down: str = "") -> dict[str, Any]:
    """The NICs, and the parameters of their guest. Scripts are written to the folder, and what they did to ``ran`` there."""
    if mode == "bridged":
        return {"nics": tuple(Nic(mode=mode, link="br0", mac=mac) for mac in macs)}
    if mode == "routed":
        addresses = (("192.0.2.7", "fd00::7"), ("192.0.2.8", "fd00::8"))
        nics = tuple(Nic(mode=mode, link="100", ip=ip, mac=mac) for mac, ip in zip(macs, addresses, strict=False))
        return {"nics": nics}
    ran = folder / "ran"
    for name, text in (("net-up", _UP), ("net-down", _DOWN)):
        (folder / name).write_text(text.format(ran=ran, more=down))
        (folder / name).chmod(0o755)
    return {
        "nics": tuple(Nic(mode=mode.split(maxsplit=1)[0], link="br0", mac=mac) for mac in macs),
        "network_up_script": str(folder / "net-up"),
        "network_down_script": str(folder / "net-down"),
    }
