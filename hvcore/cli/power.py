"""``hv start``, ``stop``, ``reboot``, ``pause``, ``resume``, ``cleanup`` and ``recover``: what changes an instance."""

from __future__ import annotations

import click

import hvcore
from hvcore.cli.console import attach
from hvcore.cli.options import command, deadline_option, file_argument, json_option, name_argument
from hvcore.cli.output import emit_json, remark, say, show
from hvcore.cli.session import known, near_names, open_node, read_instance, working

__all__ = ["cleanup", "pause", "reboot", "recover", "resume", "start", "stop"]


def _show_outcome(outcome: hvcore.Outcome, text: str, *, as_json: bool) -> None:
    show(outcome.to_json(), text, as_json=as_json)
    for note in outcome.notes:
        remark(f"{outcome.name}: {note}")


def _show_nothing_done(node: hvcore.Node, outcome: hvcore.Outcome, why: str, *, as_json: bool) -> None:
    hint = near_names(node, outcome.name)
    remark(f"{outcome.name}: {why}" + (f"; {hint}" if hint else ""))
    if as_json:
        emit_json(outcome.to_json())


@command("hv start web1.toml", "hv start web1.toml --console", "generate-instance | hv start -")
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
        held = with_console and not paused and "pause" in driver.capabilities
        if with_console and "console" not in driver.capabilities:
            raise hvcore.UnsupportedError(driver=driver.name, operation="console")
        source = "" if file == "-" else file
        outcome = driver.start(instance, paused=paused or held, deadline_s=deadline_s, source=source)
    text = f"{outcome.name}: {outcome.state} already"
    if outcome.changed:
        state = "ready" if held else outcome.state  # paused only until the console is open
        text = f"{outcome.name}: {state} ({instance.driver}, {outcome.seconds:.2f} s)"
    if not with_console:
        _show_outcome(outcome, text, as_json=as_json)
        return
    for line in (text, *(f"{instance.name}: {note}" for note in outcome.notes)):
        remark(line)
    _attach(instance.name, release=held and outcome.changed)


def _attach(name: str, *, release: bool) -> None:
    node = open_node()
    try:
        attach(node.console(name), attached=lambda: node.resume(name) if release else None)
    except (hvcore.HvError, OSError) as error:
        if release:
            error.add_note(
                f"{name}: was started all the same; hv info {name} shows how it is, hv resume {name} lets it run"
            )
        raise


@command("hv stop web1", "hv stop web1 --deadline 10", "hv stop web1 --force")
@name_argument
@click.option("--force", is_flag=True, help="At once, without asking the guest.")
@deadline_option(60.0, "the guest has to shut down before it is ended the hard way")
@json_option
def stop(name: str, *, force: bool, deadline_s: float, as_json: bool) -> None:
    """Stop an instance, and tell what made it stop.

    Politely first (powerdown), then harder (quit, kill). What does not run is stopped already: that is no error.
    """
    with working(f"stopping {name}") as node:
        outcome = node.stop(name, force=force, deadline_s=deadline_s)
    if outcome.changed:
        stopped_by = f"{outcome.stopped_by}, " if outcome.stopped_by else ""
        _show_outcome(outcome, f"{name}: stopped ({stopped_by}{outcome.seconds:.2f} s)", as_json=as_json)
    else:
        _show_nothing_done(node, outcome, "not running, nothing to stop", as_json=as_json)


@command("hv reboot web1")
@name_argument
@click.option("--force", is_flag=True, help="Do not ask the guest to shut down.")
@deadline_option(60.0, "the guest has to shut down before it is ended the hard way")
@json_option
def reboot(name: str, *, force: bool, deadline_s: float, as_json: bool) -> None:
    """Stop an instance and start the same machine again.

    Takes new values of parameters that take effect at a launch from the instance file and the node. All other changes
    take effect at 'hv stop' and 'hv start'.
    """
    with working(f"rebooting {name}") as node, known(node, name):
        outcome = node.reboot(name, force=force, deadline_s=deadline_s)
    stopped_by = f"{outcome.stopped_by}, " if outcome.stopped_by else ""
    _show_outcome(outcome, f"{name}: {outcome.state} again ({stopped_by}{outcome.seconds:.2f} s)", as_json=as_json)


@command("hv pause web1 && snapshot-disk; hv resume web1")
@name_argument
@json_option
def pause(name: str, *, as_json: bool) -> None:
    """Freeze an instance; 'hv resume' lets it go on."""
    with working(f"pausing {name}") as node, known(node, name):
        outcome = node.pause(name)
    _show_state(outcome, as_json=as_json)


@command("hv resume web1")
@name_argument
@json_option
def resume(name: str, *, as_json: bool) -> None:
    """Let a paused instance go on."""
    with working(f"resuming {name}") as node, known(node, name):
        outcome = node.resume(name)
    _show_state(outcome, as_json=as_json)


def _show_state(outcome: hvcore.Outcome, *, as_json: bool) -> None:
    already = "" if outcome.changed else " already"
    _show_outcome(outcome, f"{outcome.name}: {outcome.state}{already}", as_json=as_json)


@command("hv cleanup web1")
@name_argument
@json_option
def cleanup(name: str, *, as_json: bool) -> None:
    """Release what an instance that ended by itself still holds.

    An instance that runs is refused: 'hv stop' is for that.
    """
    with working(f"cleaning up {name}") as node:
        outcome = node.cleanup(name)
    if outcome.changed:
        _show_outcome(outcome, f"{name}: cleaned up", as_json=as_json)
    else:
        _show_nothing_done(node, outcome, "nothing to clean up", as_json=as_json)


@command("hv recover")
@json_option
def recover(*, as_json: bool) -> None:
    """Finish or undo what interrupted operations left.

    For every instance of the node, after a crash or a power cut. A healthy instance is never stopped. Exit code 1
    when something could not be recovered.
    """
    with working("recovering") as node:
        found = node.recover()
    if as_json:
        emit_json([one.to_json() for one in found])
    elif found:
        say("\n".join(f"{one.name}: {one.what}, {one.detail}" for one in found))
    else:
        remark("nothing to recover")
    if any(one.what == "failed" for one in found):
        click.get_current_context().exit(1)
