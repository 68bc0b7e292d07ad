"""Bridges of Open vSwitch as resources, and what ovs-vsctl(8) reads and writes about them. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from hvcore.frozen import dataclass
from hvcore.model.resource import Resource
from hvcore.params.network_types import Vlan

__all__ = [
    "OVS_SOCKET",
    "OvsBridge",
    "OvsBridgeFacts",
    "OvsPortFacts",
    "bridges_in",
    "limits_in",
    "marked_ports_in",
    "port_in",
    "to_add_port",
    "to_delete_limits",
    "to_delete_port",
    "to_find_bridge",
    "to_find_limits",
    "to_find_marked",
    "to_find_port",
]

OVS_SOCKET: Final = "/run/openvswitch/db.sock"
"""The socket of Open vSwitch's database, as Debian and others have it."""

_MARK: Final = "hvcore"  # the key in external_ids


@dataclass(frozen=True, slots=True, kw_only=True)
class OvsBridgeFacts:
    """A bridge. ``vlan`` is that of a bridge for one VLAN of another bridge, else None.

    With ``in_kernel`` False, packets are moved by a process (``datapath_type=netdev``). Such a bridge does not complete
    checksums that a sender left to it.
    """

    name: str
    in_kernel: bool
    vlan: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OvsPortFacts:
    """A port: its mark, which is empty if hvcore did not make it, and the error that the switch has with its interface."""

    mark: str
    in_use: bool
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OvsBridge(Resource[OvsBridgeFacts]):
    """A bridge of Open vSwitch, looked up in the database at ``socket``. It is not held.

    ``vlan`` and ``from_guest`` are those of the port that it is needed for.
    """

    name: str
    socket: str = OVS_SOCKET
    vlan: str | None = None
    from_guest: int | None = None


def to_find_bridge(name: str) -> tuple[str, ...]:
    """Read the bridge, and which bridges are for one VLAN: `bridges_in` has them."""
    own = ("--columns=name,datapath_type", "find", "Bridge", f"name={_text(name)}")
    return (*own, "--", "--columns=name,tag", "find", "Port", f"name={_text(name)}", "fake_bridge=true")


def bridges_in(output: str) -> OvsBridgeFacts | None:
    """The bridge that `to_find_bridge` found. That of one VLAN has the datapath of its parent, which is not read."""
    bridges, fakes = _tables(output)
    for row in bridges:
        return OvsBridgeFacts(name=row["name"], in_kernel=row["datapath_type"] in ("", "system"))
    for row in fakes:
        return OvsBridgeFacts(name=row["name"], in_kernel=False, vlan=int(row["tag"]))
    return None


def to_find_port(name: str) -> tuple[str, ...]:
    """Read the port and its interface: `port_in` has it."""
    port = ("--columns=external_ids", "find", "Port", f"name={_text(name)}")
    return (*port, "--", "--columns=ofport,error", "find", "Interface", f"name={_text(name)}")


def port_in(output: str) -> OvsPortFacts | None:
    """The port that `to_find_port` found."""
    ports, interfaces = _tables(output)
    if not ports:
        return None
    interface = interfaces[0] if interfaces else {"ofport": (), "error": ()}
    number, error = interface["ofport"], interface["error"]
    mark = ports[0]["external_ids"].get(_MARK, "")
    return OvsPortFacts(mark=mark, in_use=isinstance(number, int) and number > 0, error=error or "")


def to_find_marked() -> tuple[str, ...]:
    """Read the names and marks of all ports that hvcore made: `marked_ports_in` has them."""
    return ("--columns=name,external_ids", "find", "Port", f'external_ids:{_MARK}!=""')


def marked_ports_in(output: str) -> Iterator[tuple[str, str]]:
    """``(name, mark)`` of each port that `to_find_marked` found."""
    (ports,) = _tables(output)
    yield from ((row["name"], row["external_ids"].get(_MARK, "")) for row in ports)


def to_add_port(  # noqa: PLR0913 - each is one column of one transaction
    bridge: str,
    name: str,
    mark: str,
    *,
    mac: str,
    vlan: Vlan | None,
    to_guest: int | None = None,
    from_guest: int | None = None,
    replace: bool = False,
) -> tuple[str, ...]:
    """Add the port with all its settings in one transaction. With ``replace``, a port of that name is removed first."""
    # transient: ovs-ctl(8) can remove such ports after a boot, when no guest has them.
    columns = [f"external_ids:{_MARK}={_text(mark)}", "other_config:transient=true", *_vlan_columns(vlan)]
    # The MAC address of the guest, for controllers: that of the tap is another.
    interface = [f"external_ids:attached-mac={_text(mac)}"]
    if from_guest is not None:
        kilobits = max(1, from_guest // 1000)
        interface += [f"ingress_policing_rate={kilobits}", f"ingress_policing_burst={max(kilobits // 10, 1)}"]
    words = ["--if-exists", "del-port", name, "--"] if replace else []
    words += ["add-port", bridge, name, *columns, "--", "set", "Interface", name, *interface]
    if to_guest is not None:
        limit = ["type=linux-htb", f"other_config:max-rate={to_guest}", f"external_ids:{_MARK}={_text(mark)}"]
        words += ["--", "--id=@limit", "create", "QoS", *limit, "--", "set", "Port", name, "qos=@limit"]
    return tuple(words)


def to_find_limits(mark: str) -> tuple[str, ...]:
    """Read the limits with that mark: `limits_in` has their names. They stay when their port is deleted."""
    return ("--columns=_uuid", "find", "QoS", f"external_ids:{_MARK}={_text(mark)}")


def limits_in(output: str) -> tuple[str, ...]:
    """What `to_find_limits` found."""
    (rows,) = _tables(output)
    return tuple(row["_uuid"] for row in rows)


def to_delete_limits(names: tuple[str, ...]) -> tuple[str, ...]:
    """Delete these limits, if they exist."""
    return ("--if-exists", "destroy", "QoS", *names)


def to_delete_port(name: str) -> tuple[str, ...]:
    """Delete the port, if it exists."""
    return ("--if-exists", "del-port", name)


def _vlan_columns(vlan: Vlan | None) -> list[str]:
    if vlan is None:
        return []
    tag = [] if vlan.untagged is None else [f"tag={vlan.untagged}"]
    if not vlan.tagged:
        return ["vlan_mode=access", *tag]
    numbers = (str(number) for low, high in vlan.tagged for number in range(low, high + 1))
    return [f"vlan_mode={'native-untagged' if tag else 'trunk'}", *tag, f"trunks={','.join(numbers)}"]


def _text(value: str) -> str:
    """A text as ovs-vsctl reads it. Without quotes, ``10`` would be a number."""
    return json.dumps(value, ensure_ascii=False)


def _tables(output: str) -> list[list[dict[str, Any]]]:
    """The rows of each table in the output of ``ovs-vsctl --format=json``, one table to a line. Raises ValueError."""
    found = []
    for line in output.splitlines():
        if line.startswith("{"):
            table = json.loads(line)
            found.append([dict(zip(table["headings"], map(_value, row), strict=True)) for row in table["data"]])
    return found


def _value(value: Any) -> Any:
    match value:
        case ["set", [*items]]:
            return tuple(map(_value, items))
        case ["map", [*pairs]]:
            return {_value(key): _value(item) for key, item in pairs}
        case ["uuid", str(found)]:
            return found
    return value
