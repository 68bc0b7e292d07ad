"""``hv reset``, ``powerdown``, ``send-key`` and ``nmi``: what a person does at a machine."""

from __future__ import annotations

from collections.abc import Callable

import click

import hvcore
from hvcore.cli.options import command, deadline_option, json_option, name_argument, names_argument
from hvcore.cli.several import Result, for_each, operated, show_result

__all__ = ["nmi", "powerdown", "reset", "send_key"]


def _pressed(doing: str, done: str, act: Callable[[hvcore.Node, str], hvcore.Outcome], name: str) -> Result:
    return operated(
        name,
        f"{doing} {name}",
        lambda node: act(node, name),
        lambda outcome: done if outcome.changed else f"already {outcome.state}",
    )


@command("hv reset web1")
@names_argument
@json_option
def reset(names: tuple[str, ...], *, as_json: bool) -> None:
    """Press the reset button of instances: for guests that hang.

    A guest loses what it has not written to its disks. To let it shut down first, use 'hv reboot'.
    """
    for_each(names, lambda name: _pressed("resetting", "reset", hvcore.Node.reset, name), as_json=as_json)


@command("hv powerdown web1", "hv powerdown web1 --wait --deadline 2m && hv cleanup web1")
@names_argument
@click.option("--wait", is_flag=True, help="Return when the guest has shut down.")
@deadline_option(60.0, "With --wait: give up after S seconds; the guest may still shut down later.")
@json_option
def powerdown(names: tuple[str, ...], *, wait: bool, deadline_s: float, as_json: bool) -> None:
    """Press the power button of instances, and do nothing else.

    A guest may ignore it. 'hv stop' also waits, powers off a guest that does not obey, and frees its resources.
    """

    def act(node: hvcore.Node, name: str) -> hvcore.Outcome:
        return node.powerdown(name, wait=wait, deadline_s=deadline_s)

    done = "shut down" if wait else "power button pressed"

    for_each(names, lambda name: _pressed("pressing the power button of", done, act, name), as_json=as_json)


@command("hv send-key web1 ctrl-alt-delete", "hv send-key web1 ctrl-alt-f2 r o o t ret", name="send-key")
@name_argument
@click.argument("keys", nargs=-1, required=True)
@json_option
def send_key(name: str, keys: tuple[str, ...], *, as_json: bool) -> None:
    """Press keys on the keyboard of an instance, each of KEYS after the other.

    A combination has '-' between its keys. The names are those of QEMU: letters, digits, ret, esc, spc, tab, minus, f1,
    delete, ctrl, alt, shift, meta_l and others.
    """

    def act(node: hvcore.Node, name: str) -> hvcore.Outcome:
        return node.send_keys(name, *keys)

    show_result(_pressed("pressing keys of", "pressed", act, name), as_json=as_json)


@command("hv nmi web1 && hv console --log web1")
@names_argument
@json_option
def nmi(names: tuple[str, ...], *, as_json: bool) -> None:
    """Send a non-maskable interrupt to instances.

    Many operating systems then write a crash dump or stop in their debugger.
    """
    for_each(names, lambda name: _pressed("interrupting", "NMI sent", hvcore.Node.nmi, name), as_json=as_json)
