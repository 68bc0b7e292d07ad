"""``hv start``: run the instance that a file describes."""

from __future__ import annotations

import click

import hvcore
from hvcore.cli.instancefile import read_instance
from hvcore.cli.lifecycle import show_outcome
from hvcore.cli.options import deadline_option, file_argument, json_option
from hvcore.cli.output import remark
from hvcore.cli.session import open_node, working

__all__ = ["start"]


@click.command(
    epilog="""\b
Example:
  hv start web1.toml
  hv start web1.toml --console
  generate-instance | hv start -"""
)
@file_argument
@click.option("--paused", is_flag=True, help="Leave it paused before its first instruction; 'hv resume' lets it go.")
@click.option("--console", "with_console", is_flag=True, help="Open its console before it runs: not a byte is missed.")
@deadline_option(30.0, "it has to be ready within")
@json_option
def start(file: str, *, paused: bool, with_console: bool, deadline_s: float, as_json: bool) -> None:
    """Start an instance, and return when it is ready.

    What runs already is left as it is. When it does not come up, nothing of it is left on the node. FILE - is stdin.
    """
    if with_console and as_json:
        raise click.UsageError(
            "--json cannot be used with --console: stdout is the guest's", click.get_current_context()
        )
    with working(f"starting {file}") as node:
        instance = read_instance(node, file)
        driver = node.driver(instance.driver)
        held = with_console and not paused and _can(driver, "pause")
        if with_console and not _can(driver, "console"):
            raise hvcore.UnsupportedError(driver=driver.name, operation="console")
        outcome = driver.start(instance, paused=paused or held, deadline_s=deadline_s)
    text = _told(outcome, instance.driver, held=held)
    if not with_console:
        show_outcome(outcome, text, as_json=as_json)
        return
    for line in (text, *(f"{instance.name}: {note}" for note in outcome.notes)):
        remark(line)
    _attach(instance.name, release=held and outcome.changed)


def _can(driver: hvcore.DriverHandle, what: str) -> bool:
    return what in driver.capabilities


def _told(outcome: hvcore.Outcome, driver: str, *, held: bool) -> str:
    if not outcome.changed:
        return f"{outcome.name}: {outcome.state} already"
    state = "ready" if held else outcome.state  # paused only until the console is open
    return f"{outcome.name}: {state} ({driver}, {outcome.seconds:.2f} s)"


def _attach(name: str, *, release: bool) -> None:
    from hvcore.cli.console import attach

    node = open_node()

    def let_go() -> None:
        if release:
            node.resume(name)

    try:
        attach(node.console(name), attached=let_go)
    except (hvcore.HvError, OSError) as error:
        if release:
            error.add_note(
                f"{name}: was started all the same; hv info {name} shows how it is, hv resume {name} lets it run"
            )
        raise
