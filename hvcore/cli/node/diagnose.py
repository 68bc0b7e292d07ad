"""``hv doctor``: check the installation, and say how to fix each problem."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby

import click

import hvcore
from hvcore.cli.exit_status import Signalled
from hvcore.cli.options import command, deadline_option, json_option
from hvcore.cli.output import complain, emit_json, say
from hvcore.cli.progress import progress, time_limit

__all__ = ["doctor"]

# An import that hangs is named with its file and line by its own limit, which has to be over first.
_AFTER_LOADING_S = 1.0

_MARKS = {hvcore.Severity.OK: "ok", hvcore.Severity.NOTE: "note", hvcore.Severity.PROBLEM: "PROBLEM"}


@command("hv doctor", "hv doctor --json > before-the-upgrade.json")
@deadline_option(60.0, "Give up importing and examining a driver after S seconds.")
@json_option
def doctor(*, deadline_s: float, as_json: bool) -> None:
    """Check the installation and this node.

    Checks versions, plugins, deprecated parameters that are in use, what each driver needs of this node, the run
    directory, and what crashed or interrupted instances left behind. Changes nothing. Exits with 1 if there is a
    problem.
    """
    given = click.get_current_context().find_root().params
    with (
        progress("examining the installation") as show,
        time_limit(deadline_s + _AFTER_LOADING_S) as begin,
        _names_the_last_step(show, begin) as show_step,
    ):
        findings = hvcore.examine(
            given.get("run_dir"), config_dir=given.get("config_dir"), load_s=deadline_s, progress=show_step
        )
    problems = sum(found.severity is hvcore.Severity.PROBLEM for found in findings)
    if as_json:
        emit_json({"well": not problems, "findings": [found.to_json() for found in findings]})
    else:
        for area, inside in groupby(findings, key=lambda found: found.area):
            say("\n".join([area, *(line for found in inside for line in _lines(found))]))
        notes = sum(found.severity is hvcore.Severity.NOTE for found in findings)
        say(f"\n{_count(problems, 'problem')}, {_count(notes, 'note')}")
    if problems:
        click.get_current_context().exit(1)


@contextmanager
def _names_the_last_step(show: Callable[[str], None], begin: Callable[[], None]) -> Iterator[Callable[[str], None]]:
    """Yields a function that shows what is examined next. After ^C or a signal, the last one is named: it may hang."""
    last = ""

    def show_step(what: str) -> None:
        nonlocal last
        last = what
        begin()
        show(f"examining {what}")

    try:
        yield show_step
    except (KeyboardInterrupt, Signalled):
        if last:
            complain(f"interrupted while examining {last}; to leave a driver out, list the others in HVCORE_DRIVERS")
        raise


def _lines(found: hvcore.Finding) -> list[str]:
    first, *rest = f"{found.subject}: {found.what}".splitlines()
    lines = [f"  {_MARKS[found.severity]:<8}{first}", *(f"          {line}" for line in rest)]
    return lines if found.todo is None else [*lines, f"          -> {found.todo}"]


def _count(number: int, word: str) -> str:
    return f"{number or 'no'} {word}{'' if number == 1 else 's'}"
