"""What QEMU has by now, and the commands that plug and unplug devices, one typed function each.

Names and errors are as in `hv_kvm.qmp.commands`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from hv_kvm.event import QmpEvent
from hv_kvm.machine.option import Opt, as_command
from hv_kvm.qmp.client import COMMAND_DEADLINE_S, QmpClient
from hv_kvm.qmp.errors import QmpCommandError, QmpProtocolError, QmpTimeoutError
from hv_kvm.qmp.replies import Reply, ask_rows, ask_rows_of_all
from hv_kvm.qmp.size_commands import PERIPHERAL
from hvcore.plugin import dataclass

__all__ = [
    "Taken",
    "UnplugRefusedError",
    "add",
    "block_nodes",
    "close_sent",
    "descriptors_by_name",
    "devices",
    "fdsets",
    "let_go",
    "pci_slots",
    "remove",
    "set_link",
    "taken",
]

_BY_NAME: Final = ("fd", "fds", "vhostfd", "vhostfds", "addr.str")
"""Properties with descriptors: numbers on the command line, and by QMP names that ``getfd`` has given them."""

_FREED_S: Final = 2.0
_AT_LEAST_EVERY_S: Final = 1.0
_DELETED: Final = "DEVICE_DELETED"
_MISSING: Final = ("not found", "failed to find node")
_REFUSED: Final = ("DEVICE_UNPLUG_GUEST_ERROR", "MEM_UNPLUG_ERROR")


class UnplugRefusedError(Exception):
    """The guest has answered that it does not let the device go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """The names, numbers and slots that QEMU uses, also for what another program has plugged."""

    devices: frozenset[str]
    block_nodes: frozenset[str]
    fdsets: frozenset[int]
    pci_slots: frozenset[int]


_DEVICES: Final = ("qom-list", {"path": PERIPHERAL})
_NODES: Final = ("query-named-block-nodes", {"flat": True})
_SETS: Final = ("query-fdsets", None)
_PCI: Final = ("query-pci", None)


def taken(client: QmpClient, *, deadline_s: float = COMMAND_DEADLINE_S) -> Taken:
    """All of these at once."""
    found = ask_rows_of_all(client, (_DEVICES, _NODES, _SETS, _PCI), deadline_s)
    return Taken(
        devices=_names(found[0], "name"),
        block_nodes=_names(found[1], "node-name"),
        fdsets=_numbers(found[2]),
        pci_slots=_slots(found[3]),
    )


def _names(rows: Sequence[Reply], key: str) -> frozenset[str]:
    return frozenset(row.need(key, str) for row in rows)


def _numbers(rows: Sequence[Reply]) -> frozenset[int]:
    return frozenset(row.need("fdset-id", int) for row in rows)


def _slots(buses: Sequence[Reply]) -> frozenset[int]:
    return frozenset(row.need("slot", int) for bus in buses if bus.need("bus", int) == 0 for row in bus.rows("devices"))


def devices(client: QmpClient, *, deadline_s: float = COMMAND_DEADLINE_S) -> frozenset[str]:
    """The ids of all devices that have one, also of those that another program has plugged."""
    return _names(ask_rows(client, _DEVICES[0], deadline_s, _DEVICES[1]), "name")


def block_nodes(client: QmpClient, *, deadline_s: float = COMMAND_DEADLINE_S) -> frozenset[str]:
    """The names of all block nodes."""
    return _names(ask_rows(client, _NODES[0], deadline_s, _NODES[1]), "node-name")


def fdsets(client: QmpClient, *, deadline_s: float = COMMAND_DEADLINE_S) -> frozenset[int]:
    """The numbers of all sets of descriptors."""
    return _numbers(ask_rows(client, _SETS[0], deadline_s))


def pci_slots(client: QmpClient, *, deadline_s: float = COMMAND_DEADLINE_S) -> frozenset[int]:
    """The slots of the first PCI bus that have a device, also one of another program."""
    return _slots(ask_rows(client, _PCI[0], deadline_s))


def names_in_fdsets(client: QmpClient, *, deadline_s: float = COMMAND_DEADLINE_S) -> dict[int, frozenset[str]]:
    """The names that the descriptors in each set got from ``add-fd``.

    Before 9.1, QEMU keeps the descriptors of a removed set until the guest runs.
    """
    rows = ask_rows(client, "query-fdsets", deadline_s)
    return {row.need("fdset-id", int): frozenset(fd.maybe("opaque", str, "") for fd in row.rows("fds")) for row in rows}


def medium(client: QmpClient, drive: str, *, deadline_s: float = COMMAND_DEADLINE_S) -> str | None:
    """The file name of the medium in the drive with that id, as QEMU opened it; None for an empty drive."""
    for row in ask_rows(client, "query-block", deadline_s):
        if drive in row.maybe("qdev", str, "").split("/") and "inserted" in row:
            return row.part("inserted").need("file", str)
    return None


def node_size(client: QmpClient, node: str, *, deadline_s: float = COMMAND_DEADLINE_S) -> int:
    """The size in bytes of the disk on that block node."""
    for row in ask_rows(client, "query-named-block-nodes", deadline_s, {"flat": True}):
        if row.need("node-name", str) == node:
            return row.part("image").need("virtual-size", int)
    raise QmpProtocolError(subject=client.subject, what=f"there is no block node {node!r}")


def add(client: QmpClient, option: Opt, name: str, *, deadline_s: float = COMMAND_DEADLINE_S) -> None:
    """Do what the option does on the command line. Its descriptors are sent with the command; ``name`` is theirs in QEMU.

    Raises ValueError for an option that QEMU has no command for.
    """
    if option.name == "-add-fd":
        arguments = {"fdset-id": option.props["set"], "opaque": option.props["opaque"]}
        client.execute("add-fd", arguments, deadline_s=deadline_s, fds=[int(str(option.props["fd"]))])
        return
    props = dict(option.props)
    sent: list[str] = []
    try:
        for key in _BY_NAME:
            if isinstance(value := props.get(key), str | int) and _are_numbers(str(value)):
                props[key] = ":".join(_sent(client, str(value).split(":"), name, sent, deadline_s))
        command = as_command(Opt(name=option.name, head=option.head, props=props))
        if command is None:
            raise ValueError(f"{option.name} has no command in QMP")
        client.execute(command.name, command.arguments, deadline_s=deadline_s)
    except QmpCommandError:
        close_sent(client, sent, deadline_s=deadline_s)
        raise


def descriptors_by_name(option: Opt) -> int:
    """How many descriptors `add` gives a name for the option at most, from its form with symbols for them."""
    return sum(len(str(value).split(":")) for key in _BY_NAME if (value := option.props.get(key)))


def _are_numbers(value: str) -> bool:
    return all(part.isdecimal() for part in value.split(":"))


def _sent(client: QmpClient, numbers: Sequence[str], name: str, sent: list[str], deadline_s: float) -> list[str]:
    """The names that the descriptors have in QEMU now."""
    names = []
    for number in numbers:
        names.append(f"{name}-fd{len(sent)}")
        sent.append(names[-1])
        client.execute("getfd", {"fdname": names[-1]}, deadline_s=deadline_s, fds=[int(number)])
    return names


def close_sent(client: QmpClient, names: Sequence[str], *, deadline_s: float = COMMAND_DEADLINE_S) -> None:
    """Close descriptors that ``getfd`` gave these names, as far as no command has used them."""
    for name in names:
        _unless_missing(client, "closefd", {"fdname": name}, deadline_s)


def set_link(client: QmpClient, nic: str, *, up: bool, deadline_s: float = COMMAND_DEADLINE_S) -> None:
    """Plug in or pull out the cable of the NIC with that id, as the guest sees it. QEMU then passes no packet either way."""
    client.execute("set_link", {"name": nic, "up": up}, deadline_s=deadline_s)


def remove(client: QmpClient, option: Opt, device: str, *, deadline_s: float = COMMAND_DEADLINE_S) -> None:
    """Undo `add`, for all options but ``-device``. Does nothing if that was done before. ``device`` is on top of it."""
    props = option.props
    if option.name == "-blockdev":
        _remove_node(client, {"node-name": props["node-name"]}, device, deadline_s)
    elif option.name == "-add-fd":
        _unless_missing(client, "remove-fd", {"fdset-id": props["set"]}, deadline_s)
    elif option.name == "-netdev":
        _unless_missing(client, "netdev_del", {"id": props["id"]}, deadline_s)
    elif option.name == "-object":
        _unless_missing(client, "object-del", {"id": props["id"]}, deadline_s)
    elif option.name == "-chardev":
        _unless_missing(client, "chardev-remove", {"id": props["id"]}, deadline_s)


def _remove_node(client: QmpClient, arguments: dict[str, Any], device: str, deadline_s: float) -> None:
    """Remove the node. QEMU forgets the id of a device, then the device lets its node go, then the event comes."""
    try:
        _unless_missing(client, "blockdev-del", arguments, deadline_s)
    except QmpCommandError as error:
        if "in use" not in error.desc or device in devices(client, deadline_s=deadline_s):
            raise
        with suppress(QmpTimeoutError):  # it came before the command that failed
            client.wait_event(lambda event: _is_about(event, device), deadline_s=min(deadline_s, _FREED_S))
        client.execute("blockdev-del", arguments, deadline_s=deadline_s)


def _unless_missing(client: QmpClient, command: str, arguments: dict[str, Any], deadline_s: float) -> None:
    """Run the command; an error that says that there is no such thing is fine."""
    try:
        client.execute(command, arguments, deadline_s=deadline_s)
    except QmpCommandError as error:
        missing = any(words in error.desc.lower() for words in _MISSING)
        if error.error_class != "DeviceNotFound" and not missing:
            raise


def let_go(client: QmpClient, device: str, *, left_s: Callable[[], float]) -> bool:
    """Ask the guest to let the device go; whether it did so in time. Does nothing if the device is gone.

    ``left_s`` gives the seconds that are left. It is called at least every second: a stop by force may end the wait.

    A guest that is paused or has no driver for that does not answer. QEMU then keeps the request, until the guest is reset.
    Raises `UnplugRefusedError` with the guest's refusal.
    """
    try:
        client.execute("device_del", {"id": device})
    except QmpCommandError as error:
        if error.error_class == "DeviceNotFound":
            return True
        if "in the process of unplug" not in error.desc:
            raise
    while (rest_s := left_s()) > 0.0:
        with suppress(QmpTimeoutError):
            event = client.wait_event(lambda event: _is_about(event, device), deadline_s=min(rest_s, _AT_LEAST_EVERY_S))
            if event.name in _REFUSED:
                raise UnplugRefusedError(device)
            return True
    return device not in devices(client)


def _is_about(event: QmpEvent, device: str) -> bool:
    """Whether it is the end of the request. The events of parts of the device have a path only."""
    return event.name in (_DELETED, *_REFUSED) and event.data.get("device") == device
