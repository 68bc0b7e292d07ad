"""The interfaces of the node that belong to instances: found by the ledger, read from the kernel once for all of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Final

from hvcore.model.observation import Interface
from hvcore.model.record import Record

if TYPE_CHECKING:
    from hvcore.host.network.links import Counters, LinkFacts, Neighbour
    from hvcore.model.usage import NicUse

__all__ = ["NodeInterfaces"]

_MACVTAP: Final = "macvtap"
_OF_NIC: Final = re.compile(r"(nic(\d+))(?:\..+)?")
_FIELD: Final = re.compile(r"nics\[(\d+)\]")


def _position(record: Record, key: str) -> int | None:
    """The position among the instance's NICs of the one that the resource belongs to. It changes when one is detached."""
    of_nic = _OF_NIC.fullmatch(key)
    if of_nic is None:
        return None
    field = record.devices.get(of_nic[1])
    found = _FIELD.fullmatch(field) if isinstance(field, str) else None
    return int(of_nic[2] if found is None else found[1])


class NodeInterfaces:
    """The links and neighbours of the node at the time of the first question."""

    def of(self, record: Record, macs: Sequence[str]) -> Iterator[Interface]:
        """Those of the instance's NICs, which have these MAC addresses; nothing for a NIC without an interface."""
        switches = {entry.data.get("port"): entry.data.get("bridge") for entry in record.ledger}
        for entry in record.ledger:
            nic = _position(record, entry.key)
            name, mark = entry.data.get("name"), entry.data.get("owner")
            if nic is None or name is None or mark is None or nic >= len(macs):
                continue
            link = self._by_name.get(name)
            if link is not None and link.alias == mark:  # another link may have the name by now
                seen = tuple(self._addresses.get(macs[nic].lower(), ()))
                # A port of Open vSwitch is not among the links. Its database is not read: that takes 10 ms.
                port_of = switches.get(name) or self._name_of.get(link.master)
                yield Interface(nic=nic, name=name, port_of=port_of, seen=seen)

    def counters(self, record: Record, macs: Sequence[str]) -> Iterator[NicUse]:
        """What the instance's NICs have received and sent; nothing for a NIC without an interface of this node."""
        from hvcore.model.usage import NicUse  # noqa: PLC0415 - not for a list

        for one in self.of(record, macs):
            counted = self._counters.get(self._by_name[one.name].index)
            if counted is None:
                continue
            # What a tap or veth of the node sends, the instance receives. A macvtap has the instance's own view.
            ours = counted if self._by_name[one.name].kind == _MACVTAP else counted.from_other_end()
            yield NicUse(
                nic=one.nic,
                interface=one.name,
                received_packets=ours.received_packets,
                received_bytes=ours.received_bytes,
                sent_packets=ours.sent_packets,
                sent_bytes=ours.sent_bytes,
            )

    @cached_property
    def _counters(self) -> dict[int, Counters]:
        from hvcore.host.network.links import link_counters  # noqa: PLC0415 - as below
        from hvcore.host.network.netlink import Netlink  # noqa: PLC0415 - as below

        try:
            with Netlink() as netlink:
                return link_counters(netlink)
        except OSError:
            return {}

    @cached_property
    def _by_name(self) -> dict[str, LinkFacts]:
        return {link.name: link for link in self._read[0]}

    @cached_property
    def _name_of(self) -> dict[int, str]:
        return {link.index: link.name for link in self._read[0]}

    @cached_property
    def _addresses(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for row in self._read[1]:
            found.setdefault(row.mac, []).append(row.address)
        return found

    @cached_property
    def _read(self) -> tuple[list[LinkFacts], list[Neighbour]]:
        # Imported here: most lists have no instance with an interface.
        from hvcore.host.network.links import links, neighbours  # noqa: PLC0415
        from hvcore.host.network.netlink import Netlink  # noqa: PLC0415

        try:
            with Netlink() as netlink:
                return list(links(netlink)), list(neighbours(netlink))
        except OSError:  # a node that forbids netlink: an instance is shown without its interfaces
            return [], []
