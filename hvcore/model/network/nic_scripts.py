"""Scripts of the operator that connect the interface of a NIC, with the environment that Ganeti's scripts have. Pure."""

from __future__ import annotations

import uuid
from typing import Any

from hvcore.frozen import dataclass
from hvcore.model.instance import Instance
from hvcore.model.resource import Resource
from hvcore.params.network_types import Vlan, vlan_of

__all__ = ["NetworkScripts", "script_environment"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkScripts(Resource[None]):
    """Programs that connect a link to a network and disconnect it, in place of what hvcore does.

    Each gets the interface's name as its argument, and ``environment`` with INTERFACE and ACTION added. ``up`` and
    ``down`` are absolute paths, None for nothing. The ``mode`` of the NIC and its ``bridge`` say what is checked after
    ``up``. Each has at most ``deadline_s`` seconds. ``given_by`` is the parameter of ``up``; ``down`` and ``bridge`` have
    their own.
    """

    link: Resource[Any]
    up: str | None
    down: str | None
    mode: str
    bridge: str | None = None
    environment: tuple[tuple[str, str], ...] = ()
    deadline_s: float = 30.0
    down_given_by: str = ""
    bridge_given_by: str = ""

    def needs(self) -> tuple[Resource[Any], ...]:
        """The link."""
        return (self.link,)


def script_environment(instance: Instance, index: int) -> tuple[tuple[str, str], ...]:
    """The variables of Ganeti's network scripts for NIC ``index``, without INTERFACE and ACTION.

    IP is the first address without its prefix length, as in Ganeti. IPS has all of them as the instance file has them.
    """
    nic = instance.nics[index]
    found = {
        "INSTANCE": instance.name,
        "INTERFACE_INDEX": str(index),
        "INTERFACE_NAME": nic.name,
        "INTERFACE_UUID": str(uuid.uuid5(uuid.UUID(instance.uuid), f"nic{index}")),
        "MAC": instance.mac(index),
        "MODE": nic.mode,
        "LINK": nic.link,
        "BRIDGE": nic.link if nic.mode == "bridged" else None,
        "VLAN": None if nic.vlan is None else _vlan(vlan_of(nic.vlan)),
        "IP": nic.ip[0].partition("/")[0] if nic.ip else None,
        "IPS": " ".join(nic.ip) or None,
        "TAGS": " ".join(instance.tags),
    }
    return tuple((key, value) for key, value in sorted(found.items()) if value is not None)


def _vlan(vlan: Vlan) -> str:
    """As Ganeti writes it, which has no ranges: ``.10`` untagged, ``:20:21`` tagged, ``.10:20:21`` both."""
    tagged = (number for low, high in vlan.tagged for number in range(low, high + 1))
    return ("" if vlan.untagged is None else f".{vlan.untagged}") + "".join(f":{number}" for number in tagged)
