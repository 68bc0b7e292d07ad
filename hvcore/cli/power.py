"""``hv start``, ``stop``, ``reboot``, ``pause``, ``resume``, ``cleanup`` and ``recover``."""

from __future__ import annotations

import click

import hvcore
from hvcore.cli.console import attach
from hvcore.cli.options import command, deadline_option, file_argument, json_option, name_argument
from hvcore.cli.output import emit_json, remark, say, show
from hvcore.cli.session import known, near_names, open_node, read_instance, working

__all__ = ["cleanup", "pause", "reboot", "recover", "resume", "start", "stop"]

_OUT_OF_TIME = {"quit": "powered off", "kill": "killed"}
_SHUTDOWN_DEADLINE = "Seconds to wait for the guest to shut down before it is powered off."


def _show_outcome(outcome: hvcore.Outcome, text: str, *, as_json: bool) -> None:
    show(outcome.to_json(), text, as_json=as_json)
    for note in outcome.notes:
        remark(f"{outcome.name}: {note}")


def _how(outcome: hvcore.Outcome) -> str:
    """What stopped the instance, and how long that took."""
    return ", ".join(filter(None, [outcome.stopped_by, f"{outcome.seconds:.2f} s"]))


def _show_nothing_done(node: hvcore.Node, outcome: hvcore.Outcome, why: str, *, as_json: bool) -> None:
    hint = near_names(node, outcome.name)
    remark(f"{why}; {hint}" if hint else why)
    if as_json:
        emit_json(outcome.to_json())


@command("hv start web1.toml", "hv start web1.toml --console", "generate-instance | hv start -")
@file_argument
@click.option(
    "--paused", is_flag=True, help="Leave the instance paused before its first instruction; 'hv resume' lets it run."
)
@click.option(
    "--console",
    "with_console",
    is_flag=True,
    help="Open the console before the guest starts, so that you see all of its output.",
)
@deadline_option(30.0, "Give up if the instance is not ready after S seconds.")
@json_option
def start(file: str, *, paused: bool, with_console: bool, deadline_s: float, as_json: bool) -> None:
    """Start an instance, and return when it is ready.

    Does nothing if the instance is already running. If the start fails, everything it set up is removed again. Use '-'
    to read standard input.
    """
    if with_console and as_json:
        raise click.UsageError(
            "--json cannot be used with --console, which needs standard output; leave one of them out",
            click.get_current_context(),
        )
    with working(f"starting {file}") as node:
        instance = read_instance(node, file)
        driver = node.driver(instance.driver)
        held = with_console and not paused and "pause" in driver.capabilities
        if with_console and "console" not in driver.capabilities:
            raise hvcore.UnsupportedError(driver=driver.name, operation="console")
        source = "" if file == "-" else file
        outcome = driver.start(instance, paused=paused or held, deadline_s=deadline_s, source=source)
    text = f"{outcome.name}: already {outcome.state}"
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
                f"{name}: the instance was started and is paused; 'hv resume {name}' lets it run, see 'hv info {name}'"
            )
        raise


@command("hv stop web1", "hv stop web1 --deadline 10", "hv stop web1 --force")
@name_argument
@click.option("--force", is_flag=True, help="Stop at once, without asking the guest to shut down.")
@deadline_option(60.0, _SHUTDOWN_DEADLINE)
@json_option
def stop(name: str, *, force: bool, deadline_s: float, as_json: bool) -> None:
    """Stop an instance, and show what stopped it.

    Asks the guest to shut down, then powers it off after --deadline. Not an error if the instance is not running.
    """
    with working(f"stopping {name}") as node:
        outcome = node.stop(name, force=force, deadline_s=deadline_s)
    ended = _OUT_OF_TIME.get(outcome.stopped_by or "") if not force and outcome.seconds >= deadline_s else None
    if not outcome.changed:
        _show_nothing_done(node, outcome, f"{name} is not running", as_json=as_json)
    elif ended:
        text = f"{name}: did not shut down within {deadline_s:g} s and was {ended}"
        _show_outcome(outcome, f"{text}; its file systems may need a check", as_json=as_json)
    else:
        _show_outcome(outcome, f"{name}: stopped ({_how(outcome)})", as_json=as_json)


@command("hv reboot web1")
@name_argument
@click.option("--force", is_flag=True, help="Stop at once, without asking the guest to shut down.")
@deadline_option(60.0, _SHUTDOWN_DEADLINE)
@json_option
def reboot(name: str, *, force: bool, deadline_s: float, as_json: bool) -> None:
    """Restart an instance with the settings of its last start.

    Parameters that apply at a launch get new values from the instance file and from this node ('hv params DRIVER' shows
    which). For all other changes, use 'hv stop' and 'hv start'.
    """
    with working(f"rebooting {name}") as node, known(node, name):
        outcome = node.reboot(name, force=force, deadline_s=deadline_s)
    _show_outcome(outcome, f"{name}: {outcome.state} again ({_how(outcome)})", as_json=as_json)


@command("hv pause web1 && snapshot-disk; hv resume web1")
@name_argument
@json_option
def pause(name: str, *, as_json: bool) -> None:
    """Pause an instance; 'hv resume' continues it."""
    with working(f"pausing {name}") as node, known(node, name):
        outcome = node.pause(name)
    _show_state(outcome, as_json=as_json)


@command("hv resume web1")
@name_argument
@json_option
def resume(name: str, *, as_json: bool) -> None:
    """Continue a paused instance."""
    with working(f"resuming {name}") as node, known(node, name):
        outcome = node.resume(name)
    _show_state(outcome, as_json=as_json)


def _show_state(outcome: hvcore.Outcome, *, as_json: bool) -> None:
    already = "" if outcome.changed else "already "
    _show_outcome(outcome, f"{outcome.name}: {already}{outcome.state}", as_json=as_json)


@command("hv cleanup web1")
@name_argument
@json_option
def cleanup(name: str, *, as_json: bool) -> None:
    """Free the resources of an instance that has crashed or shut down.

    Afterwards the instance is no longer in 'hv list'. Refuses a running instance: use 'hv stop' first.
    """
    with working(f"cleaning up {name}") as node:
        outcome = node.cleanup(name)
    if outcome.changed:
        _show_outcome(outcome, f"{name}: cleaned up", as_json=as_json)
    else:
        _show_nothing_done(node, outcome, f"{name}: nothing to clean up", as_json=as_json)


@command("hv recover")
@json_option
def recover(*, as_json: bool) -> None:
    """Finish or undo interrupted operations.

    Checks every instance of this node, for example after a crash of hv. Never stops a healthy instance. Exits with 1 if
    an instance could not be recovered.
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
