"""``hv start``, ``stop``, ``reboot``, ``pause``, ``resume``, ``cleanup`` and ``recover``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import click

import hvcore
from hvcore.cli.access.console import attach
from hvcore.cli.access.first_output import run_and_print
from hvcore.cli.access.ssh_place import wait_for_ssh
from hvcore.cli.options import (
    command,
    deadline_option,
    json_option,
    name_argument,
    names_argument,
    optional_files_argument,
    optional_names_argument,
    seconds_option,
)
from hvcore.cli.output import emit_json, remark, say
from hvcore.cli.session import (
    file_of,
    known,
    no_instance,
    open_node,
    read_instance,
    report_states,
    warn_of_run_dir,
    working,
)
from hvcore.cli.several import Result, collected, for_each, operated, result_of, show_result

__all__ = ["cleanup", "pause", "reboot", "recover", "resume", "start", "stop"]

_CUT_OFF: Final = {"quit": "powered off", "kill": "killed"}
_SHUTDOWN_DEADLINE: Final = "Seconds to wait for the guest to shut down before it is powered off."


def _how(outcome: hvcore.Outcome) -> str:
    """What stopped the instance, and how long that took."""
    return ", ".join(filter(None, [outcome.stopped_by, f"{outcome.seconds:.2f} s"]))


def _if_cut_off(outcome: hvcore.Outcome) -> str:
    """The end of a line about a guest that was stopped without a shutdown, else empty."""
    if outcome.clean is not False:
        return ""
    how = f"was {_CUT_OFF[outcome.stopped_by]}" if outcome.stopped_by in _CUT_OFF else "had ended"
    return f"; it {how} without a shutdown, and its file systems may need a check"


@command(
    "hv start web1",
    "hv start web1.toml --console",
    "hv start web1.toml web2",
    "generate-instance | hv start -",
    "hv start --autostart",
)
@optional_files_argument
@click.option(
    "--autostart",
    "at_boot",
    is_flag=True,
    help="Start every defined instance that has autostart = true, as the node's boot does.",
)
@click.option(
    "--paused", is_flag=True, help="Leave the instance paused before its first instruction; 'hv resume' lets it run."
)
@click.option(
    "--console",
    "with_console",
    is_flag=True,
    help="Open the console before the guest starts, so that you see all of its output. Of a chroot, print what its start "
    "script and its processes print, until they have ended or you press ^C.",
)
@seconds_option("--wait", "wait_s", "After the start, wait until ssh of the guest answers, at most S seconds.")
@deadline_option(30.0, "Give up if the instance is not ready after S seconds.")
@json_option
def start(files: tuple[str, ...], *, at_boot: bool, with_console: bool, as_json: bool, **how: Any) -> None:
    """Start instances, and return when they are ready.

    Give an instance file, or the name of an instance that 'hv define' has defined. Does nothing if the instance is already
    running. Refuses a file if another instance runs under its name. If a start fails, everything it set up is removed
    again. Use '-' to read standard input.
    """
    if at_boot is bool(files):
        what = "--autostart takes no FILE or NAME" if at_boot else "give a FILE or a NAME, or --autostart"
        raise click.UsageError(what, click.get_current_context())
    wait_s = how.pop("wait_s")
    if wait_s is not None and (at_boot or with_console or how["paused"]):
        option = "--autostart" if at_boot else "--console" if with_console else "--paused"
        what = f"--wait cannot be used with {option}; leave one of them out"
        raise click.UsageError(what, click.get_current_context())
    if at_boot:
        _start_at_boot(as_json=as_json, **how)
        return
    if with_console and (as_json or len(files) > 1):
        option, why = ("--json", "which needs standard output") if as_json else ("several files", "which shows one")
        raise click.UsageError(
            f"{option} cannot be used with --console, {why}; leave one of them out", click.get_current_context()
        )
    if with_console:
        _start_with_console(files[0], **how)
    else:
        for_each(files, lambda file: result_of(*_ready(file, wait_s, **how)), as_json=as_json)


def _ready(file: str, wait_s: float | None, *, paused: bool, deadline_s: float) -> tuple[hvcore.Outcome, str]:
    outcome, text = _started(file, paused=paused, deadline_s=deadline_s)
    if wait_s is None:
        return outcome, text
    with working(f"waiting for ssh of {outcome.name}") as node:
        took_s = wait_for_ssh(node, outcome.name, wait_s)
    return outcome, f"{text}; ssh answers after {took_s:.1f} s"


def _start_at_boot(*, paused: bool, deadline_s: float, as_json: bool) -> None:
    # None: the file cannot be read, so it is not known whether the instance should have been started. That is an error.
    found = [entry.name for entry in open_node().definitions.entries() if entry.autostart is not False]
    if not found and not as_json:
        remark("no defined instance has autostart = true; 'hv autostart NAME' sets it")
    with collected(as_json=as_json) as add:
        for name in found:
            add(lambda name=name: result_of(*_started(name, paused=paused, deadline_s=deadline_s)))  # type: ignore[misc]


def _started(file: str, *, paused: bool, deadline_s: float) -> tuple[hvcore.Outcome, str]:
    with report_states() as about, working(f"starting {file}") as node:
        instance = read_instance(node, file)
        about.append(instance.name)
        source = "" if file == "-" else file_of(node, file)
        outcome = node.driver(instance.driver).start(instance, paused=paused, deadline_s=deadline_s, source=source)
    return outcome, _start_text(outcome, instance.driver, str(outcome.state))


def _start_text(outcome: hvcore.Outcome, driver: str, state: str) -> str:
    if not outcome.changed:
        return f"{outcome.name}: already {outcome.state}"
    return f"{outcome.name}: {state} ({driver}, {outcome.seconds:.2f} s)"


def _start_with_console(file: str, *, paused: bool, deadline_s: float) -> None:
    with report_states() as about, working(f"starting {file}") as node:
        instance = read_instance(node, file)
        about.append(instance.name)
        driver = node.driver(instance.driver)
        held = not paused and "pause" in driver.capabilities
        if "console" not in driver.capabilities:
            raise hvcore.UnsupportedError(driver=driver.name, operation="console")
        source = "" if file == "-" else file_of(node, file)
        outcome = driver.start(instance, paused=paused or held, deadline_s=deadline_s, source=source)
    state = "ready" if held else str(outcome.state)  # paused only until the console is open
    for line in (_start_text(outcome, driver.name, state), *result_of(outcome, "").notes):
        remark(line)
    if held and outcome.changed and _waits_for_its_first_run(instance.name) and "log" in driver.capabilities:
        run_and_print(open_node(), instance.name)
    else:
        _attach(instance.name, release=held and outcome.changed)


def _waits_for_its_first_run(name: str) -> bool:
    """Whether the instance has a console only when it runs, because that is a program inside it."""
    try:
        open_node().console(name)
    except hvcore.OperationError:
        return True
    return False


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


@command("hv stop web1", "hv stop web1 web2 --deadline 10", "hv stop web1 --force", "hv stop --all --deadline 90")
@optional_names_argument
@click.option("--all", "everything", is_flag=True, help="Stop all instances of this node at the same time.")
@click.option("--force", is_flag=True, help="Stop at once, without asking the guest to shut down.")
@deadline_option(60.0, f"{_SHUTDOWN_DEADLINE} With --all, for all guests together.")
@json_option
def stop(names: tuple[str, ...], *, everything: bool, force: bool, deadline_s: float, as_json: bool) -> None:
    """Stop instances, and show what stopped them.

    Asks the guest to shut down, then powers it off after --deadline. A guest that was started paused and has never run
    is powered off at once. Exits with 4 if there is no such instance.
    """
    if everything is bool(names):
        what = "--all takes no NAME" if everything else "give a NAME, or --all"
        raise click.UsageError(what, click.get_current_context())
    if everything:
        _stop_all(force=force, deadline_s=deadline_s, as_json=as_json)
    else:
        for_each(names, lambda name: _stopped(name, force=force, deadline_s=deadline_s), as_json=as_json)


def _stop_all(*, force: bool, deadline_s: float, as_json: bool) -> None:
    hint = "" if force else "to end all now: ^C, then 'hv stop --all --force'"
    with working("stopping all instances", hint) as node, collected(as_json=as_json) as add:

        def done(_name: str, outcome: hvcore.Outcome | hvcore.HvError) -> None:
            add(lambda: _in_words(outcome, force=force, deadline_s=deadline_s))

        warn_of_run_dir(node)
        if not node.stop_all(force=force, deadline_s=deadline_s, done=done) and not as_json:
            remark("no instances")


def _in_words(outcome: hvcore.Outcome | hvcore.HvError, *, force: bool, deadline_s: float) -> Result:
    if isinstance(outcome, hvcore.HvError):
        raise outcome
    if not outcome.changed:  # it ended meanwhile
        return result_of(outcome, f"{outcome.name}: already stopped")
    return _stop_result(outcome, force=force, deadline_s=deadline_s)


def _stopped(name: str, *, force: bool, deadline_s: float) -> Result:
    hint = "" if force else f"to end it now: ^C, then 'hv stop {name} --force'"
    with report_states(name), working(f"stopping {name}", hint) as node, known(node, name):
        outcome = node.stop(name, force=force, deadline_s=deadline_s)
    if not outcome.changed and name in node.definitions:
        return result_of(outcome, f"{name}: already stopped")
    if not outcome.changed:
        raise no_instance(node, name)
    return _stop_result(outcome, force=force, deadline_s=deadline_s)


def _stop_result(outcome: hvcore.Outcome, *, force: bool, deadline_s: float) -> Result:
    name = outcome.name
    if not force and outcome.seconds >= deadline_s and outcome.stopped_by in _CUT_OFF:
        text = f"{name}: did not shut down within {deadline_s:g} s and was {_CUT_OFF[outcome.stopped_by]}"
        return result_of(outcome, f"{text}; its file systems may need a check")
    return result_of(outcome, f"{name}: stopped ({_how(outcome)}){_if_cut_off(outcome)}")


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
    done = operated(
        name,
        f"rebooting {name}",
        lambda node: node.reboot(name, force=force, deadline_s=deadline_s),
        lambda outcome: f"{outcome.state} again ({_how(outcome)}){_if_cut_off(outcome)}",
        hint="" if force else f"to end it now: ^C, then 'hv reboot {name} --force'",
    )
    show_result(done, as_json=as_json)


@command("hv pause web1 && snapshot-disk; hv resume web1")
@names_argument
@json_option
def pause(names: tuple[str, ...], *, as_json: bool) -> None:
    """Pause instances; 'hv resume' continues them."""
    for_each(names, lambda name: _moved("pausing", hvcore.Node.pause, name), as_json=as_json)


@command("hv resume web1")
@names_argument
@json_option
def resume(names: tuple[str, ...], *, as_json: bool) -> None:
    """Continue paused instances."""
    for_each(names, lambda name: _moved("resuming", hvcore.Node.resume, name), as_json=as_json)


def _moved(doing: str, act: Callable[[hvcore.Node, str], hvcore.Outcome], name: str) -> Result:
    return operated(
        name,
        f"{doing} {name}",
        lambda node: act(node, name),
        lambda outcome: f"{'' if outcome.changed else 'already '}{outcome.state}",
    )


@command("hv cleanup web1", "hv cleanup web1 web2")
@names_argument
@json_option
def cleanup(names: tuple[str, ...], *, as_json: bool) -> None:
    """Free the resources of instances that have crashed or shut down.

    Afterwards the instance is no longer in 'hv list'. Refuses a running instance: use 'hv stop' first.
    """
    for_each(names, _cleaned_up, as_json=as_json)


def _cleaned_up(name: str) -> Result:
    with working(f"cleaning up {name}") as node, known(node, name):
        outcome = node.cleanup(name)
    if not outcome.changed:
        raise no_instance(node, name)
    return result_of(outcome, f"{name}: cleaned up")


@command("hv recover")
@json_option
def recover(*, as_json: bool) -> None:
    """Finish or undo interrupted operations.

    Checks every instance of this node, for example after a crash of hv. Never stops a healthy instance. Exits with 1 if
    an instance could not be recovered.
    """
    with working("recovering") as node:
        warn_of_run_dir(node)
        found = node.recover()
    if as_json:
        emit_json([one.to_json() for one in found])
    elif found:
        say("\n".join(f"{one.name}: {one.what}, {one.detail}" for one in found))
    else:
        remark("nothing to recover")
    if any(one.what == "failed" for one in found):
        click.get_current_context().exit(1)
