"""What a reboot holds of an instance, from its record, until the start of the reboot takes it over."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from hvcore.errors import NodeError
from hvcore.host.between_halves import BetweenHalves
from hvcore.host.environment import Host
from hvcore.host.kept_ports import ServedPort
from hvcore.host.processes.launched import marked_for
from hvcore.model.record import Record
from hvcore.params.network_types import forward_of
from hvcore.resources.disks import claims_in
from hvcore.resources.identity import UID_KINDS
from hvcore.resources.node_files import LinkKind
from hvcore.resources.port_forward import FORWARDS
from hvcore.resources.unique_value import value_locks

__all__ = ["hold"]

_PORTS: Final = 1 << 16


def hold(between: BetweenHalves, record: Record, host: Host) -> None:
    """Hold what the instance of that record has.

    Raises `DiskInUseError` when another has the disk at one of its paths, and `NodeError` if the node refuses something.
    """
    try:
        _hold(between, record, host)
    except OSError as error:
        what = f"{record.name}: what it has on this node cannot be held for the reboot, got {error.strerror}"
        raise NodeError(f"{what}; it runs on; check {host.run_dir}") from error


def _hold(between: BetweenHalves, record: Record, host: Host) -> None:
    between.reserved.hold()
    between.disks.hold(claims_in(record))
    between.uids.hold(UID_KINDS)
    between.hold_links(Path(entry.data["path"]) for entry in record.ledger if entry.kind == LinkKind.name)
    ports, locks = list(_ports(record)), list(value_locks(between.reserved, host))
    if ports or locks:
        pids = marked_for(host.run_dir / "instances" / record.name, host.uid_pool)
        between.ports.hold(ports, pids)
        between.hold_locks(locks, pids)


def _ports(record: Record) -> Iterator[ServedPort]:
    """Each port in the record's bindings: those of displays, and the forwards."""
    for key, value in record.bindings.items():
        if key == FORWARDS and isinstance(value, dict):
            for name, text in value.items():
                with suppress(ValueError, TypeError):
                    one = forward_of(text)
                    yield ServedPort(key=name, protocol=one.protocol, address=one.address, port=one.port)
        elif isinstance(value, str):
            address, _, port = value.rpartition(":")
            with suppress(ValueError):
                ipaddress.ip_address(address)
                if 0 < int(port) < _PORTS:
                    yield ServedPort(key=key, protocol="tcp", address=address, port=int(port))
