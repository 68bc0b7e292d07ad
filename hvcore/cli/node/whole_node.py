"""``hv node``, ``top`` and ``metrics``: the node as a whole, and what its instances use."""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

import hvcore
from hvcore.cli.node.exposition import exposition
from hvcore.cli.node.rates import Rates, rates_between
from hvcore.cli.options import command, deadline_option, json_option
from hvcore.cli.output import Column, clear_screen, emit_json, is_terminal, remark, results, say, show_table
from hvcore.cli.session import open_node, warn_of_run_dir

__all__ = ["metrics", "node", "top"]

_COLUMNS: Final = (
    Column("NAME", wraps=False),
    Column("STATE", styles={"running": "green", "paused": "yellow"}, wraps=False, dropped=5),
    Column("CPU%", right=True, wraps=False),
    Column("VCPUS", right=True, wraps=False, dropped=6),
    Column("MEMORY", right=True, wraps=False),
    Column("RESIDENT", right=True, wraps=False, dropped=4),
    Column("READ/s", right=True, wraps=False, dropped=3),
    Column("WRITE/s", right=True, wraps=False, dropped=3),
    Column("IN/s", right=True, wraps=False, dropped=2),
    Column("OUT/s", right=True, wraps=False, dropped=2),
    Column("PROBLEM"),
)
_ONCE_S: Final = 1.0
_MEASURE_S: Final = 2.0
_NO_SUCH: Final = "the node restarts at once; add --yes-really if you mean it"


@command("hv node", "hv node --json", "hv node powercycle --yes-really")
@click.argument("action", required=False, type=click.Choice(["powercycle"]))
@click.option("--yes-really", is_flag=True, help="With powercycle: restart the node now.")
@click.option("--trigger", hidden=True, help="With powercycle: the file to write to, in place of the kernel's.")
@json_option
def node(action: str | None, *, yes_really: bool, trigger: str | None, as_json: bool) -> None:
    """Show this node: memory, processors, NUMA nodes, drivers.

    MEMORY free is what programs can still get. FILES are those that should be the same on all nodes. 'powercycle' restarts
    the node at once: it stops no instance, and data that is not on disk is lost.
    """
    if action == "powercycle":
        _powercycle(yes_really=yes_really, trigger=trigger)
        return
    if yes_really or trigger is not None:
        raise click.UsageError("--yes-really needs 'powercycle'; leave it out", click.get_current_context())
    node = open_node()
    warn_of_run_dir(node)
    facts = node.facts()
    if as_json:
        emit_json(facts.to_json())
        return
    rows = [(title, value) for title, value in _facts(facts) if value]
    width = max(len(title) for title, _ in rows)
    say("\n".join(f"{title:<{width}}  {value}" for title, value in rows))


def _powercycle(*, yes_really: bool, trigger: str | None) -> None:
    if not yes_really:
        running = len([one for one in open_node().instances() if one.state in ("running", "paused")])
        count = f"{running} running instance{'' if running == 1 else 's'} of this run directory would be cut off; "
        raise click.UsageError(count + _NO_SUCH, click.get_current_context())
    remark("restarting the node")
    if trigger is None:
        hvcore.powercycle()
    else:
        hvcore.powercycle(trigger, fallback=())


def _facts(facts: hvcore.NodeFacts) -> list[tuple[str, str]]:
    memory = f"{facts.memory_total_mib} MiB, {facts.memory_free_mib} MiB free"
    swap = f"{facts.swap_total_mib} MiB, {facts.swap_free_mib} MiB free" if facts.swap_total_mib else ""
    cores = f"{facts.cpus} in {facts.cores} cores, {facts.sockets} socket{'' if facts.sockets == 1 else 's'}"
    vcpus = f"{facts.instances_vcpus} vcpus, {facts.instances_memory_mib} MiB"
    rows = [
        ("node", f"{facts.name}, Linux {facts.kernel}, hvcore {facts.hvcore}"),
        ("processors", f"{cores} ({facts.cpu_model})" if facts.cpu_model else cores),
        ("load", " ".join(f"{load:.2f}" for load in facts.load)),
        ("memory", memory),
        ("swap", swap),
        ("instances", f"{facts.instances} run: {vcpus}, {facts.instances_resident_mib} MiB of it in use"),
    ]
    rows += [
        (f"numa {each.number}", f"cpus {each.cpus}, {each.memory_total_mib} MiB, {each.memory_free_mib} MiB free")
        for each in facts.numa
    ]
    rows += [
        ("huge pages", f"{each.size_kib} KiB: {each.total}, {each.free} free")
        for each in facts.huge_pages
        if each.total
    ]
    for driver in facts.drivers:
        what = [driver.problem] if driver.problem else [driver.hypervisor, f"can {', '.join(driver.capabilities)}"]
        version = f"{driver.distribution} {driver.version}"
        rows.append((f"driver {driver.name}", "; ".join(filter(None, [version, *what]))))
        rows += [("file", path) for path in driver.files]
    return [*rows, *(("file", path) for path in facts.files)]


@command("hv top", "hv top --once", "hv top --json | jq '.[] | {name, cpu_seconds}'")
@click.option("--once", is_flag=True, help="Print the table once, with the rates of one second.")
@click.option("--interval", "interval_s", type=click.FloatRange(0.1, 3600.0), default=2.0, help="Seconds. Default: 2.")
@deadline_option(_MEASURE_S, "Give up on an instance that does not answer within S seconds.")
@json_option
def top(*, once: bool, interval_s: float, deadline_s: float, as_json: bool) -> None:
    """Show what the running instances use, until you press Enter or ^C.

    CPU% is in percent of one CPU, MEMORY and RESIDENT are in MiB. READ, WRITE, IN and OUT are bytes in a second. With
    --json, the counters are printed once.
    """
    node = open_node()
    warn_of_run_dir(node)
    if as_json:
        emit_json([one.to_json() for one in node.usage(deadline_s=deadline_s)])
        return
    keyboard = [] if once or not is_terminal(sys.stdin) else [sys.stdin]
    before: Mapping[str, hvcore.InstanceUsage] = {}
    measured = time.monotonic()
    while True:
        usages = node.usage(deadline_s=deadline_s)
        now = time.monotonic()
        if before or not once:
            if not once and is_terminal(results()):
                clear_screen()
            _show(usages, [rates_between(before.get(one.name), one, now - measured) for one in usages])
        if once and (before or not usages):
            if not usages and not before:
                remark("no running instances")
            return
        before, measured = {one.name: one for one in usages}, now
        if select.select(keyboard, [], [], _ONCE_S if once else interval_s)[0]:
            return


def _show(usages: Sequence[hvcore.InstanceUsage], rates: Sequence[Rates]) -> None:
    if not usages:
        remark("no running instances")
        return
    show_table(_COLUMNS, [_row(one, rate) for one, rate in zip(usages, rates, strict=True)])


def _row(one: hvcore.InstanceUsage, rate: Rates) -> list[Any]:
    cpu = None if rate.cpu_percent is None else f"{rate.cpu_percent:.1f}"
    disks = (_bytes(rate.read_bytes), _bytes(rate.written_bytes))
    nics = (_bytes(rate.received_bytes), _bytes(rate.sent_bytes))
    return [one.name, str(one.state), cpu, one.vcpus, one.memory_mib, one.resident_mib, *disks, *nics, one.problem]


def _bytes(value: float | None) -> str | None:
    """``512``, ``3.4K`` or ``1.0M``, in steps of 1024."""
    if value is None:
        return None
    for unit in ("", "K", "M", "G"):
        if value < 1024.0:
            return f"{value:.0f}{unit}" if not unit else f"{value:.1f}{unit}"
        value /= 1024.0
    return f"{value:.1f}T"


@command(
    "hv metrics",
    "hv metrics > /var/lib/prometheus/node-exporter/hvcore.prom.tmp",
)
@deadline_option(_MEASURE_S, "Give up on an instance that does not answer within S seconds.")
def metrics(*, deadline_s: float) -> None:
    """Print metrics of this node and its instances for Prometheus.

    Use it with the textfile collector of the node exporter, from a timer. A figure that is not known has no line.
    """
    node = open_node()
    warn_of_run_dir(node)
    say(exposition(node.facts(drivers=False), node.instances(), node.usage(deadline_s=deadline_s)).rstrip("\n"))
