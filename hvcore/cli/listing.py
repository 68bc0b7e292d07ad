"""``hv list`` and ``hv info``: the state of the instances on this node."""

from __future__ import annotations

from typing import Any, Final

import hvcore
from hvcore.cli.options import command, json_option, name_argument
from hvcore.cli.output import Column, emit_json, remark, show, show_table
from hvcore.cli.session import known, open_node

__all__ = ["info", "list_instances"]

_STATES: Final = {
    "running": "green",
    "paused": "yellow",
    "starting": "yellow",
    "stopping": "yellow",
    "crashed": "bold red",
    "unknown": "bold red",
}
_NUMBERS: Final = ("VCPUS", "MEMORY", "RESIDENT", "CPU", "UPTIME")
_COLUMNS: Final = (
    *map(Column, ("NAME", "DRIVER")),
    Column("STATE", styles=_STATES),
    *(Column(title, right=True) for title in _NUMBERS),
    Column("REASON"),
)


@command("hv list", """hv list --json | jq -r '.[] | select(.state == "running") | .name'""", name="list")
@json_option
def list_instances(*, as_json: bool) -> None:
    """List the instances of this node.

    Shows running, crashed and interrupted instances. MEMORY and RESIDENT are in MiB, CPU is in seconds.
    """
    found = open_node().instances()
    if as_json:
        emit_json([one.to_json() for one in found])
    elif not found:
        remark("no instances")
    else:
        show_table(_COLUMNS, [_row(one) for one in found])


def _row(one: hvcore.InstanceInfo) -> list[object]:
    figures = [one.vcpus, one.memory_mib, one.resident_mib, _seconds(one.cpu_seconds), _uptime(one.uptime_s)]
    return [one.name, one.driver, str(one.state), *figures, one.reason]


@command("hv info web1", "hv info web1 --json | jq .state")
@name_argument
@json_option
def info(name: str, *, as_json: bool) -> None:
    """Show the state of one instance, with its figures and details."""
    node = open_node()
    with known(node, name):
        found = node.info(name)
    facts = [(title, value) for title, value in _facts(found) if value is not None]
    width = max(len(title) for title, _ in facts)
    text = "\n".join(f"{title:<{width}}  {value}" for title, value in facts)
    show(found.to_json(), text, as_json=as_json)


def _facts(one: hvcore.InstanceInfo) -> list[tuple[str, Any]]:
    return [
        ("name", one.name),
        ("driver", one.driver),
        ("state", one.state),
        ("reason", one.reason),
        ("pid", one.pid),
        ("uuid", one.uuid),
        ("vcpus", one.vcpus),
        ("memory", None if one.memory_mib is None else f"{one.memory_mib} MiB"),
        ("resident", None if one.resident_mib is None else f"{one.resident_mib} MiB"),
        ("cpu", _seconds(one.cpu_seconds, " s")),
        ("uptime", _uptime(one.uptime_s)),
        *((key.replace("_", " "), value) for key, value in one.details.items()),
    ]


def _seconds(value: float | None, unit: str = "") -> str | None:
    return None if value is None else f"{value:.1f}{unit}"


def _uptime(value: float | None) -> str | None:
    """``3d 4h``, ``2h 5m``, ``7m 1s`` or ``9s``."""
    if value is None:
        return None
    minutes, seconds = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours}h"
    if hours:
        return f"{hours}h {minutes}m"
    return f"{minutes}m {seconds}s" if minutes else f"{seconds}s"
