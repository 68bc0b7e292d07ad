"""Parameter types for networks: addresses, VLANs, bit rates, forwarded ports, and the values that their texts mean."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Final

from hvcore.frozen import dataclass
from hvcore.params.param import PATTERN_END, ParamType, Reject, wrong_type
from hvcore.params.types import line

__all__ = ["Forward", "Vlan", "addresses", "bit_rate", "forward", "forward_of", "mac", "vlan", "vlan_of"]

_HEX: Final = "[0-9a-fA-F]"
_MAX_ADDRESSES: Final = 16
_MAX_VLAN: Final = 4094  # IEEE 802.1Q: 0 and 4095 are reserved
_VLAN_BYTES: Final = 256
_MOST_BITS: Final = 10**12
_FEWEST_BITS: Final = 8_000  # less than a packet of 1500 bytes a second
_FACTORS: Final = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}


def mac() -> ParamType:
    """A unicast MAC address: six bytes in hexadecimal digits with ':' between them."""
    # An even first byte: its lowest bit marks multicast, which no interface may have.
    form = f"{_HEX}[02468aceACE](?::{_HEX}{{2}}){{5}}"
    expects = "a unicast MAC address such as 'aa:00:00:4b:c1:01'"

    def parse(value: object) -> str:
        clean = line(value, 64)
        if re.fullmatch(form, clean) is None:
            odd = re.fullmatch(f"{_HEX}{{2}}(:{_HEX}{{2}}){{5}}", clean)
            raise Reject("is a multicast address" if odd else "is not a MAC address")
        return clean

    schema = {"type": "string", "pattern": f"^{form}{PATTERN_END}"}
    return ParamType("MAC address", expects, parse, schema)


def addresses() -> ParamType:
    """One IP address or a list, each with or without a prefix length. The clean value is a tuple of texts."""
    expects = f"an IPv4 or IPv6 address such as '192.0.2.7' or 'fd00::7/64', or a list of at most {_MAX_ADDRESSES}"

    def parse(value: object) -> tuple[str, ...]:
        found: list[str] = []
        given = value if isinstance(value, list | tuple) else [value]
        if len(given) > _MAX_ADDRESSES:
            raise Reject(f"has more than {_MAX_ADDRESSES} addresses")
        for item in given:
            clean = _interface_address(item)
            if clean in found:
                raise Reject(f"has {clean} twice", "leave one out")
            found.append(clean)
        return tuple(found)

    one = {"type": "string", "minLength": 1, "maxLength": 64}
    schema = {"anyOf": [one, {"type": "array", "items": one, "maxItems": _MAX_ADDRESSES}]}
    return ParamType("addresses", expects, parse, schema)


def _interface_address(value: object) -> str:
    text = line(value, 64)
    if "%" in text:
        raise Reject("has a zone, which differs between nodes", "give the address without '%' and the zone")
    try:
        found = ipaddress.ip_interface(text)
    except ValueError:
        raise Reject("is not an IP address", "give one such as '192.0.2.7' or 'fd00::7/64'") from None
    if found.ip.is_multicast or found.ip.is_unspecified:
        raise Reject("is not the address of one interface")
    return str(found) if "/" in text else str(found.ip)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vlan:
    """The VLANs of a port: ``untagged``, that of packets without a tag, and the ranges of those ``tagged``, in order."""

    untagged: int | None
    tagged: tuple[tuple[int, int], ...] = ()


def vlan() -> ParamType:
    """A VLAN (``10``), a trunk (``"trunk:10,20-30"``), or both as in Ganeti (``".10:20:30"``)."""
    expects = (
        f"a VLAN number from 1 to {_MAX_VLAN} such as 10, a trunk such as 'trunk:10,20-30', or an untagged and tagged "
        "VLANs such as '.10:20:30'"
    )

    def parse(value: object) -> str:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise wrong_type(value, "a VLAN")
        found = _vlan(line(str(value), _VLAN_BYTES))
        ranges = [str(low) if low == high else f"{low}-{high}" for low, high in found.tagged]
        if not ranges:
            return str(found.untagged)
        return f"trunk:{','.join(ranges)}" if found.untagged is None else f".{found.untagged}:{':'.join(ranges)}"

    numbers = {"type": "integer", "minimum": 1, "maximum": _MAX_VLAN}
    item, text = "[0-9]{1,4}(?:-[0-9]{1,4})?", {"type": "string", "maxLength": _VLAN_BYTES}
    form = f"[0-9]{{1,4}}|trunk:{item}(?:,{item})*|(?:\\.[0-9]{{1,4}})?(?::{item})*"
    return ParamType("vlan", expects, parse, {"anyOf": [numbers, {**text, "pattern": f"^(?:{form}){PATTERN_END}"}]})


def vlan_of(clean: str) -> Vlan:
    """What a clean `vlan` means."""
    return _vlan(clean)


def _vlan(text: str) -> Vlan:
    if text.startswith("trunk:"):
        return Vlan(untagged=None, tagged=_ranges(text.removeprefix("trunk:").split(",")))
    first, *others = text.split(":")
    if first.startswith("."):
        first = first[1:]
    elif others and first:
        raise Reject("has tagged VLANs after a number", f"give '.{text}' if {first} is the untagged VLAN")
    if not first and not others:
        raise Reject("is not a VLAN")
    untagged = _number(first) if first else None
    tagged = _ranges(others)
    if untagged is not None and any(low <= untagged <= high for low, high in tagged):
        raise Reject(f"has VLAN {untagged} both untagged and tagged", "leave one out")
    return Vlan(untagged=untagged, tagged=tagged)


def _ranges(parts: Iterable[str]) -> tuple[tuple[int, int], ...]:
    """The ranges of the parts, sorted and merged."""
    found: list[tuple[int, int]] = []
    for part in parts:
        first, _, last = part.partition("-")
        low, high = _number(first), _number(last) if "-" in part else _number(first)
        if low > high:
            raise Reject(f"has the range {part}, which ends before it begins")
        found.append((low, high))
    merged: list[tuple[int, int]] = []
    for low, high in sorted(found):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def _number(text: str) -> int:
    if not re.fullmatch("[0-9]{1,4}", text):
        raise Reject("has a part that is not a VLAN number" if text else "has an empty part")
    if not 1 <= int(text) <= _MAX_VLAN:
        raise Reject(f"has {text}, which is not between 1 and {_MAX_VLAN}")
    return int(text)


def bit_rate() -> ParamType:
    """A rate in bits per second: a whole number, or a text such as ``"80M"``. The clean value is the number."""
    expects = "a rate from 8K to 1000G bits per second, as a number or a text such as '80M'"

    def parse(value: object) -> int:
        rate = value
        if isinstance(value, str):
            found = re.fullmatch(r"([0-9]{1,12})(?:\.([0-9]{1,3}))? ?([KMGkmg]?)", line(value, 32))
            if found is None:
                raise Reject("is not a rate", "give one such as '80M' or '1.5G', in bits per second")
            whole, part, unit = found.groups(default="")
            rate = int(f"{whole}{part:<03}") * _FACTORS[unit.upper()] // 1000
        if isinstance(rate, bool) or not isinstance(rate, int):
            raise wrong_type(value, "a rate")
        if not _FEWEST_BITS <= rate <= _MOST_BITS:
            raise Reject(
                "is below the minimum of 8K" if rate < _FEWEST_BITS else "is above the maximum of 1000G",
                "give the rate in bits per second, with K, M or G",
            )
        return int.__int__(rate)

    numbers = {"type": "integer", "minimum": _FEWEST_BITS, "maximum": _MOST_BITS}
    words = {
        "type": "string",
        "maxLength": 32,
        "pattern": rf"^[0-9]{{1,12}}(?:\.[0-9]{{1,3}})? ?[KMGkmg]?{PATTERN_END}",
    }
    return ParamType("bit rate", expects, parse, {"anyOf": [numbers, words]})


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """A port of the node whose connections go to a port of the guest.

    ``address`` None means all addresses of the node, ``port`` 0 one that hvcore chooses. ``protocol`` is ``tcp`` or
    ``udp``.
    """

    address: str | None
    port: int
    guest_port: int
    protocol: str

    def __str__(self) -> str:
        shown = f"[{self.address}]" if ":" in (self.address or "") else self.address
        head = f"{shown}:" if shown else ""
        return f"{head}{self.port}:{self.guest_port}{'' if self.protocol == 'tcp' else f'/{self.protocol}'}"

    def overlaps(self, other: Forward) -> bool:
        """Whether both cannot be had at once: one protocol and port, at one address or at all addresses."""
        same = self.port == other.port != 0 and self.protocol == other.protocol
        return same and (self.address == other.address or None in (self.address, other.address))


_FORWARD: Final = (
    r"(?:(?P<v4>[0-9.]{7,15}):|\[(?P<v6>[0-9A-Fa-f:.]{2,45})\]:)?"
    r"(?P<port>[0-9]{1,5}):(?P<guest_port>[0-9]{1,5})(?:/(?P<protocol>tcp|udp))?"
)


def forward() -> ParamType:
    """A forwarded port, ``[ADDRESS:]PORT:GUEST_PORT[/PROTOCOL]``; `forward_of` gives its parts."""
    expects = (
        "a port of the node and one of the guest such as '2222:22', '127.0.0.1:8080:80/tcp' or '[::1]:5353:53/udp'"
    )

    def parse(value: object) -> str:
        return str(_forward(line(value, 80)))

    schema = {
        "type": "string",
        "maxLength": 80,
        "pattern": r"^(?:[0-9.]{7,15}:|\[[0-9A-Fa-f:.]{2,45}\]:)?[0-9]{1,5}:[0-9]{1,5}(?:/(?:tcp|udp))?" + PATTERN_END,
    }
    return ParamType("forward", expects, parse, schema)


def forward_of(clean: str) -> Forward:
    """What a clean `forward` means."""
    return _forward(clean)


def _forward(text: str) -> Forward:
    found = re.fullmatch(_FORWARD, text)
    if found is None:
        raise Reject("is not of the form [ADDRESS:]PORT:GUEST_PORT[/tcp|/udp]")
    address = found["v4"] or found["v6"]
    if address is not None:
        try:
            address = str(ipaddress.IPv4Address(address) if found["v4"] else ipaddress.IPv6Address(address))
        except ValueError:
            raise Reject(f"has {address!r}, which is not an IP address") from None
        if address in ("0.0.0.0", "::"):  # noqa: S104 - refused
            raise Reject("has the address of no interface", "leave the address out for all addresses of the node")
    port, guest_port = int(found["port"]), int(found["guest_port"])
    if port > 65535 or not 0 < guest_port <= 65535:
        raise Reject("has a port that does not exist", "give ports up to 65535; 0 for the node's lets hvcore choose")
    return Forward(address=address, port=port, guest_port=guest_port, protocol=found["protocol"] or "tcp")
