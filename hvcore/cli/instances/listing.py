"""``hv list`` and ``hv info``: the state of the instances on this node."""

from __future__ import annotations

import re
import select
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import click

import hvcore
from hvcore.cli.guesses import near_word
from hvcore.cli.options import any_names_argument, command, driver_completion, json_option
from hvcore.cli.output import (
    Column,
    clear_screen,
    emit_json,
    is_terminal,
    on_one_line,
    remark,
    results,
    say,
    show_table,
)
from hvcore.cli.session import known, open_node, warn_of_run_dir
from hvcore.cli.several import Result, for_each

__all__ = ["info", "list_instances"]

_STATES: Final = {
    "running": "green",
    "paused": "yellow",
    "starting": "yellow",
    "stopping": "yellow",
    "crashed": "bold red",
    "unknown": "bold red",
}
_COLUMNS: Final = (
    Column("NAME", wraps=False),
    Column("DRIVER", wraps=False, dropped=6),
    Column("STATE", styles=_STATES, wraps=False),
    Column("VCPUS", right=True, wraps=False, dropped=4),
    Column("MEMORY", right=True, wraps=False, dropped=5),
    Column("RESIDENT", right=True, wraps=False, dropped=2),
    Column("CPU", right=True, wraps=False, dropped=1),
    Column("UPTIME", right=True, wraps=False, dropped=3),
    Column("REASON"),
)
_AUTOSTART: Final = Column("AUTOSTART", wraps=False, dropped=7)
_WATCH_S: Final = 2.0


@command(
    "hv list",
    "hv list --all",
    "hv list --state crashed --state unknown",
    "hv stop $(hv list -q --driver kvm)",
    """hv list --json | jq -r '.[] | select(.state == "running") | .name'""",
    name="list",
)
@click.option("-a", "--all", "everything", is_flag=True, help="List defined instances that are stopped too.")
@click.option("-q", "--quiet", is_flag=True, help="Print only the names, one on each line.")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([str(state) for state in hvcore.State]),
    help="List only instances in this state. Can be given several times. State stopped includes --all.",
)
@click.option(
    "--driver",
    "drivers",
    metavar="DRIVER",
    multiple=True,
    shell_complete=driver_completion,
    help="List only instances of this driver. Can be given several times.",
)
@click.option("--watch", is_flag=True, help="Print the list every 2 seconds. End with ^C or Enter.")
@json_option
def list_instances(
    *, everything: bool, quiet: bool, states: tuple[str, ...], drivers: tuple[str, ...], watch: bool, as_json: bool
) -> None:
    """List the instances of this node.

    Shows running, crashed and interrupted instances; with --all also those that are defined and stopped. MEMORY and RESIDENT
    are in MiB, CPU is in seconds. A narrow terminal shows fewer columns.
    """
    if as_json and (watch or quiet):
        other = "--watch" if watch else "--quiet"
        raise click.UsageError(
            f"--json cannot be used with {other}; leave one of them out", click.get_current_context()
        )
    node = open_node()
    warn_of_run_dir(node)
    _refuse_unknown(node, drivers)
    defined = everything or str(hvcore.State.STOPPED) in states

    def chosen() -> list[hvcore.InstanceInfo]:
        found = node.instances(defined=defined)
        return [one for one in found if (not states or one.state in states) and (not drivers or one.driver in drivers)]

    if as_json:
        emit_json([one.to_json() for one in chosen()])
    elif watch:
        _watch(chosen, quiet=quiet, everything=defined)
    else:
        _show_list(chosen(), quiet=quiet, everything=defined)


def _refuse_unknown(node: hvcore.Node, drivers: tuple[str, ...]) -> None:
    """Refuse a driver that is neither installed nor that of an instance: an empty list would look like an answer."""
    known = {entry.name for entry in hvcore.catalogue()} if drivers else set()
    if known.issuperset(drivers):
        return
    known |= {one.driver for one in node.instances(defined=True)}
    for driver in drivers:
        if driver not in known:
            hint = near_word(driver, known) or "see 'hv drivers'"
            raise click.UsageError(f"--driver: no driver {driver!r:.80}; {hint}", click.get_current_context())


def _show_list(found: list[hvcore.InstanceInfo], *, quiet: bool, everything: bool) -> None:
    if quiet:
        if found:
            say("\n".join(one.name for one in found))
    elif not found:
        remark("no instances")
    else:
        columns = [*_COLUMNS[:-1], _AUTOSTART, _COLUMNS[-1]] if everything else _COLUMNS
        show_table(columns, [_row(one, everything=everything) for one in found])


def _watch(chosen: Callable[[], list[hvcore.InstanceInfo]], *, quiet: bool, everything: bool) -> None:
    """Print the list again and again, until Enter on a terminal."""
    keyboard = [sys.stdin] if is_terminal(sys.stdin) else []
    while True:
        found = chosen()  # before the screen is cleared
        if is_terminal(results()):
            clear_screen()
        _show_list(found, quiet=quiet, everything=everything)
        if select.select(keyboard, [], [], _WATCH_S)[0]:
            return


def _row(one: hvcore.InstanceInfo, *, everything: bool) -> list[object]:
    figures = [one.vcpus, one.memory_mib, one.resident_mib, _seconds(one.cpu_seconds), _uptime(one.uptime_s)]
    autostart = [_yes(one.autostart)] if everything else []
    return [one.name, one.driver, str(one.state), *figures, *autostart, one.reason]


def _yes(value: bool | None) -> str | None:  # noqa: FBT001 - the value is what is shown
    return None if value is None else "yes" if value else "no"


@command("hv info web1", "hv info web1 --json | jq .state")
@any_names_argument
@json_option
def info(names: tuple[str, ...], *, as_json: bool) -> None:
    """Show everything about instances.

    The state and its reason, use of CPU and memory, files, disks and network interfaces.
    """
    node = open_node()
    warn_of_run_dir(node)

    def found(name: str) -> Result:
        with known(node, name):
            one = node.info(name)
        facts = [(title, value) for title, value in _facts(one, _params(node, one)) if value is not None]
        width = max(len(title) for title, _ in facts)
        end = "\n" if len(set(names)) > 1 else ""  # an empty line between two
        return Result(
            one.to_json(), "\n".join(f"{title:<{width}}  {on_one_line(value)}" for title, value in facts) + end
        )

    for_each(names, found, as_json=as_json)


def _params(node: hvcore.Node, one: hvcore.InstanceInfo) -> Mapping[str, Any]:
    """The parameters that the instance was started with, if it has devices that follow from them."""
    if any(field.startswith("params.") for field in one.devices.values()):
        with suppress(hvcore.HvError):
            return node.instance(one.name).params
    return {}


def _facts(one: hvcore.InstanceInfo, params: Mapping[str, Any]) -> list[tuple[str, Any]]:
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
        ("started", _time(one.started_at)),
        ("ended", _time(one.ended_at)),
        ("file", one.source),
        ("autostart", _yes(one.autostart)),
        *((_named(one, "disk", index), _disk(disk)) for index, disk in enumerate(one.disks)),
        *((_named(one, "nic", index), _nic(nic, one.interfaces, index)) for index, nic in enumerate(one.nics)),
        *((name, _of_param(field, params)) for name, field in one.devices.items() if field.startswith("params.")),
        *((key.replace("_", " "), _detail(value)) for key, value in one.details.items()),
    ]


def _named(one: hvcore.InstanceInfo, kind: str, index: int) -> str:
    """The name for 'hv detach' of the disk or NIC at that position; without a name, its position."""
    field = f"{kind}s[{index}]"
    return next((name for name, found in one.devices.items() if found == field), f"{kind} {index}")


def _of_param(field: str, params: Mapping[str, Any]) -> str:
    """What the device is: the image in a drive, or one item of a list. A value of the node is not among the parameters."""
    key, _, at = field.removeprefix("params.").rstrip("]").partition("[")
    if key not in params:
        return f"the device of {field}"
    value = params[key]
    if at:
        items = [item for item in re.split("[, ]+", str(value or "")) if item]
        value = items[int(at)] if int(at) < len(items) else None
    return f"{value or 'empty'} ({key})"


def _detail(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else value


def _disk(disk: hvcore.Disk) -> str:
    words = [disk.format, "read-only" if disk.read_only else None, "temporary" if disk.temporary else None]
    words += [f"on {base}" for base in disk.base]
    return f"{disk.path} ({', '.join(filter(None, words))})"


def _nic(nic: hvcore.Nic, interfaces: tuple[hvcore.Interface, ...], index: int) -> str:
    words = [nic.mac, nic.mode, nic.link and f"to {nic.link}"]
    for one in interfaces:
        if one.nic == index:
            lost = nic.mode == "bridged" and one.port_of != nic.link
            words.append(f"by {one.name}")
            words.append(f"(a port of {one.port_of or 'no bridge'} now)" if lost else None)
            words.append(f"seen at {', '.join(one.seen)}" if one.seen else None)
    return " ".join(filter(None, words))


def _time(value: float | None) -> str | None:
    """The time of this node, with its offset from UTC: ``2026-11-30 03:10:42 +0100``."""
    return None if value is None else time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(value))


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
