"""``hv balloon``, ``memory``, ``vcpus`` and ``pin``: what a running instance may use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import click

import hvcore
from hvcore.cli.options import command, deadline_option, in_mib, json_option, name_argument
from hvcore.cli.output import remark, show
from hvcore.cli.session import known, working

__all__ = ["balloon", "memory", "pin", "vcpus"]

_DEADLINE: Final = "Seconds that the guest has to reach the size."

Resize = Callable[..., hvcore.Resized]


_size_argument: Final = click.argument("memory_mib", metavar="SIZE", callback=in_mib("512 (MiB) or 2G"))


def _resized(doing: str, act: Resize, name: str, size: int, *, deadline_s: float, as_json: bool) -> None:
    """Do it and print the outcome. Ends with exit code 1 if the guest has not reached the size."""
    with working(f"{doing} {name}") as node, known(node, name):
        outcome = act(node, name, size, deadline_s=deadline_s)
    show(outcome.to_json(), str(outcome), as_json=as_json)
    for note in outcome.notes:
        remark(f"{name}: {note}")
    if not outcome.reached:
        click.get_current_context().exit(1)


@command("hv balloon web1 512", "hv balloon web1 2G --deadline 2m")
@name_argument
@_size_argument
@deadline_option(30.0, _DEADLINE)
@json_option
def balloon(name: str, memory_mib: int, *, deadline_s: float, as_json: bool) -> None:
    """Take memory from a running instance, or give it back.

    SIZE is the memory that the guest keeps, in MiB or with a unit such as 2G, at most the memory of the instance. The node
    gets the rest. A reboot keeps the size. Exits with 1 if the guest does not reach it within --deadline.
    """
    _resized("resizing", hvcore.Node.balloon, name, memory_mib, deadline_s=deadline_s, as_json=as_json)


@command("hv memory web1 4G")
@name_argument
@_size_argument
@deadline_option(30.0, _DEADLINE)
@json_option
def memory(name: str, memory_mib: int, *, deadline_s: float, as_json: bool) -> None:
    """Change the memory of a running instance.

    SIZE is in MiB or has a unit such as 4G. It is at most the maximum of the start, and at least the memory of the start.
    A reboot keeps the size. Exits with 1 if the guest does not reach it within --deadline.
    """
    _resized("resizing", hvcore.Node.resize_memory, name, memory_mib, deadline_s=deadline_s, as_json=as_json)


@command("hv vcpus web1 4")
@name_argument
@click.argument("count", type=click.IntRange(min=1))
@deadline_option(30.0, "Seconds that the guest has to release vCPUs.")
@json_option
def vcpus(name: str, count: int, *, deadline_s: float, as_json: bool) -> None:
    """Change the number of vCPUs of a running instance.

    COUNT is at most the maximum of the start. A reboot keeps it. Exits with 1 if the guest does not release the vCPUs
    within --deadline.
    """
    _resized("resizing", hvcore.Node.resize_vcpus, name, count, deadline_s=deadline_s, as_json=as_json)


@command(
    "hv pin web1 0-3",
    "hv pin web1 0:1:2-3:2-3",
    "hv pin web1 --vcpu 0 4 --vcpu 1 5 --emulator 0-1",
    "hv pin web1 all",
)
@name_argument
@click.argument("cpus", required=False)
@click.option(
    "--vcpu",
    "single",
    metavar="N CPUS",
    type=(click.IntRange(min=0), str),
    multiple=True,
    help="CPUs for vCPU number N, from 0. Can be given several times.",
)
@click.option("--emulator", metavar="CPUS", help="CPUs for the threads that are neither vCPUs nor I/O threads.")
@click.option("--iothread", "iothreads", metavar="CPUS", help="CPUs for the I/O threads.")
@json_option
def pin(
    name: str,
    cpus: str | None,
    *,
    single: tuple[tuple[int, str], ...],
    emulator: str | None,
    iothreads: str | None,
    as_json: bool,
) -> None:
    """Pin the threads of a running instance to CPUs of this node.

    CPUS is a list such as 0-3,5 for all threads, or one list for each vCPU, separated by ':'. 'all' removes the pin. A
    reboot keeps the pins; 'hv info' shows them.
    """
    if cpus is None and not single and emulator is None and iothreads is None:
        raise click.UsageError("no CPUs; give a list such as 0-3", click.get_current_context())
    with working(f"pinning {name}") as node, known(node, name):
        outcome = node.pin(name, cpus, vcpus=dict(single), emulator=emulator, iothreads=iothreads)
        pins = node.info(name).details.get("pins") or "not pinned"
    already = "" if outcome.changed else "already "
    show(outcome.to_json(), f"{name}: {already}{pins}", as_json=as_json)
    for note in outcome.notes:
        remark(f"{name}: {note}")
