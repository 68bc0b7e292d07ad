"""The monitor commands about the size of a guest: its balloon, its memory and its processors. As `commands`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hv_kvm.qmp.client import COMMAND_DEADLINE_S, QmpClient
from hv_kvm.qmp.errors import QmpCommandError
from hv_kvm.qmp.replies import ask, ask_rows
from hvcore.plugin import dataclass

__all__ = [
    "PERIPHERAL",
    "CpuPlace",
    "balloon",
    "device_add",
    "device_del",
    "query_balloon",
    "query_hotpluggable_cpus",
    "query_iothreads",
    "query_size_of",
    "query_vcpus_at_start",
    "set_property",
]

PERIPHERAL: Final = "/machine/peripheral"
"""Where QEMU has the devices with an id, in its tree of objects."""

_ORDER: Final = ("node-id", "socket-id", "die-id", "module-id", "cluster-id", "core-id", "thread-id")


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuPlace:
    """A place for a vCPU: its device model, its position as properties of the device, and its path if it is occupied."""

    model: str
    position: Mapping[str, int]
    path: str | None

    @property
    def order(self) -> tuple[int, ...]:
        """By what places are in order: QEMU fills them from the first one at the start."""
        return tuple(self.position.get(key, 0) for key in _ORDER)


def query_balloon(client: QmpClient, *, deadline_s: float = COMMAND_DEADLINE_S) -> int:
    """The bytes of memory that the balloon leaves to the guest now. QEMU refuses (DeviceNotActive) without a balloon."""
    return ask(client, "query-balloon", deadline_s).need("actual", int)


def balloon(client: QmpClient, size_bytes: int, *, deadline_s: float = COMMAND_DEADLINE_S) -> None:
    """Ask the guest to keep only that much memory. QEMU keeps this for a guest that is not ready for it yet."""
    client.execute("balloon", {"value": size_bytes}, deadline_s=deadline_s)


def query_size_of(client: QmpClient, device: str, *, deadline_s: float = COMMAND_DEADLINE_S) -> int:
    """The bytes that the guest uses of the virtio-mem device with that id."""
    path = f"{PERIPHERAL}/{device}"
    value = client.execute("qom-get", {"path": path, "property": "size"}, deadline_s=deadline_s)
    return value if type(value) is int else 0


def set_property(
    client: QmpClient, device: str, name: str, value: Any, *, deadline_s: float = COMMAND_DEADLINE_S
) -> None:
    """Set a property of the device with that id. QEMU refuses values that the device does not take."""
    client.execute(
        "qom-set", {"path": f"{PERIPHERAL}/{device}", "property": name, "value": value}, deadline_s=deadline_s
    )


def query_hotpluggable_cpus(client: QmpClient, *, deadline_s: float = COMMAND_DEADLINE_S) -> tuple[CpuPlace, ...]:
    """The places for vCPUs, in their order. A machine type without hot-plug of processors refuses."""
    found = []
    for row in ask_rows(client, "query-hotpluggable-cpus", deadline_s):
        position = row.part("props")
        found.append(
            CpuPlace(
                model=row.need("type", str),
                position={key: position.need(key, int) for key in _ORDER if key in position},
                path=row.maybe("qom-path", str, "") or None,
            )
        )
    return tuple(sorted(found, key=lambda place: place.order))


def query_vcpus_at_start(client: QmpClient, *, deadline_s: float = COMMAND_DEADLINE_S) -> int | None:
    """The number of vCPUs with which QEMU was started; None for a QEMU before 6.2, which does not say it."""
    try:
        found = client.execute("qom-get", {"path": "/machine", "property": "smp"}, deadline_s=deadline_s)
    except QmpCommandError:
        return None
    cpus = found.get("cpus") if isinstance(found, dict) else None
    return cpus if type(cpus) is int else None


def query_iothreads(client: QmpClient, *, deadline_s: float = COMMAND_DEADLINE_S) -> dict[str, int]:
    """The thread of each I/O thread, by its id, as a pid in QEMU's pid namespace."""
    rows = ask_rows(client, "query-iothreads", deadline_s)
    return {row.need("id", str): row.need("thread-id", int) for row in rows}


def device_add(client: QmpClient, properties: Mapping[str, Any], *, deadline_s: float = COMMAND_DEADLINE_S) -> None:
    """Plug a device in; the guest gets an interrupt. QEMU refuses what the machine or the place cannot take."""
    client.execute("device_add", dict(properties), deadline_s=deadline_s)


def device_del(client: QmpClient, device: str, *, deadline_s: float = COMMAND_DEADLINE_S) -> None:
    """Ask the guest to give up the device with that id or path. Event DEVICE_DELETED says when it has."""
    client.execute("device_del", {"id": device}, deadline_s=deadline_s)
