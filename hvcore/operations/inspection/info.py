"""The answer to a caller who asks for instances: what is observed, with what the record and the node's network say."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Final

from hvcore.errors import NotFoundError
from hvcore.host.processes.process import boot_id
from hvcore.model.observation import InstanceInfo
from hvcore.model.record import STATUS, Record
from hvcore.model.state import ACTIVE, ENDED, State
from hvcore.operations.context import Context
from hvcore.operations.inspection.interfaces import NodeInterfaces
from hvcore.operations.inspection.observe import Observed, observed, observed_all

__all__ = ["ended_at", "info", "info_of", "infos"]

_REFUSED: Final = "egress_refused"  # the binding in `hvcore.resources.passt_namespace`
_EGRESS: Final = "egress"  # the name of the kind in `hvcore.resources.egress`


def info(context: Context, name: str) -> InstanceInfo:
    """One instance. Raises `NotFoundError` when it has no record on this node."""
    seen = observed(context, name)
    if seen.state is State.STOPPED:
        raise NotFoundError(name)
    return _with_weakness(context, info_of(context, name, seen), seen.record)


def _with_weakness(context: Context, found: InstanceInfo, record: Record | None) -> InstanceInfo:
    """The answer, with a reason if the egress rules of a running guest are not enforced."""
    if record is None or found.state not in ACTIVE:
        return found
    if _REFUSED in record.bindings:
        reason = _new_addresses(record)
    elif any(entry.kind == _EGRESS for entry in record.ledger):
        from hvcore.host.network.egress_table import weakness  # noqa: PLC0415 - 5 ms (subprocess), for guests with rules

        why = weakness(context.host, found.name)
        reason = None if why is None else f"egress is not enforced: {why}; hv recover restores it"
    else:
        return found
    if reason is None:
        return found
    return replace(found, reason=reason if found.reason is None else f"{found.reason}; {reason}")


def _new_addresses(record: Record) -> str | None:
    """A text about public addresses that the node got after the rules in the guest's network namespace were made."""
    from hvcore.host.network.links import node_addresses  # noqa: PLC0415 - 1 ms (netlink), for guests with such rules
    from hvcore.host.network.netlink import Netlink  # noqa: PLC0415 - the same
    from hvcore.model.network.egress_rules import is_private  # noqa: PLC0415 - the same

    known = {one for addresses in record.bindings[_REFUSED].values() for one in addresses}
    try:
        with Netlink() as netlink:
            now = set(node_addresses(netlink))
    except OSError:  # a node that forbids netlink
        return None
    new = sorted(one for one in now - known if not is_private(one))
    if not new:
        return None
    return f"egress does not refuse new addresses of the node: {', '.join(new)}; hv reboot refuses them"


def infos(context: Context) -> list[InstanceInfo]:
    """Every instance that has a record on this node, sorted by name."""
    names = context.store.names()
    found, node = zip(names, observed_all(context, names), strict=True), NodeInterfaces()
    return [info_of(context, name, seen, node=node) for name, seen in found if seen.state is not State.STOPPED]


def info_of(
    context: Context, name: str, seen: Observed, *, driver: str = "unknown", node: NodeInterfaces | None = None
) -> InstanceInfo:
    """The observation, as the answer to a caller. ``driver`` is for an instance without a readable record."""
    record = seen.record
    if record is None:
        return InstanceInfo.of(seen.observation, name=name, driver=driver)
    instance = record.instance
    macs = [instance.mac(index) for index in range(len(instance.nics))]
    interfaces = tuple((node or NodeInterfaces()).of(record, macs)) if macs and seen.state in ACTIVE else ()
    ended = seen.state in ENDED and record.boot_id == boot_id()
    return InstanceInfo.of(
        seen.observation,
        name=name,
        driver=record.driver,
        uuid=instance.uuid,
        source=record.source or None,
        started_at=record.started_at or None,
        ended_at=ended_at(context, name) if ended else None,
        disks=instance.disks,
        nics=tuple(replace(nic, mac=mac) for nic, mac in zip(instance.nics, macs, strict=True)),
        interfaces=interfaces,
        devices=record.devices,
    )


def ended_at(context: Context, name: str) -> float | None:
    """When bubblewrap wrote the exit status of the instance's process: its last change of that file."""
    try:
        return os.stat(context.store.dir(name) / STATUS).st_mtime
    except OSError:
        return None
