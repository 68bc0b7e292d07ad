"""``hv doctor``: is everything that is installed well, and what to do about what is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby

import click

import hvcore
from hvcore.cli.exit_status import Signalled
from hvcore.cli.options import command, deadline_option, json_option
from hvcore.cli.output import complain, emit_json, say
from hvcore.cli.progress import patience, progress

__all__ = ["doctor"]

_MARKS = {hvcore.Severity.OK: "ok", hvcore.Severity.NOTE: "note", hvcore.Severity.PROBLEM: "PROBLEM"}


@command("hv doctor", "hv doctor --json > before-the-upgrade.json")
@deadline_option(60.0, "each driver has to be imported and examined within")
@json_option
def doctor(*, deadline_s: float, as_json: bool) -> None:
    """Examine the installation.

    Versions, plugins and why one does not work, what is deprecated and in use, what this node can do for each driver,
    the run directory, and what ended or interrupted instances have left behind. Nothing is changed. Exit code 1 when
    there is a problem.
    """
    given = click.get_current_context().find_root().params
    with (
        progress("examining the installation") as tell,
        patience(deadline_s) as begin,
        _says_where_it_was(tell, begin) as reached,
    ):
        findings = hvcore.examine(given.get("run_dir"), config_dir=given.get("config_dir"), progress=reached)
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
def _says_where_it_was(tell: Callable[[str], None], begin: Callable[[], None]) -> Iterator[Callable[[str], None]]:
    """Pass on what is examined, and complain of it when the examination is ended from outside: it may have hung."""
    last = ""

    def reached(what: str) -> None:
        nonlocal last
        last = what
        begin()
        tell(f"examining {what}")

    try:
        yield reached
    except (KeyboardInterrupt, Signalled):
        if last:
            complain(f"interrupted while examining {last}; HVCORE_DRIVERS leaves one out")
        raise


def _lines(found: hvcore.Finding) -> list[str]:
    first, *rest = f"{found.subject}: {found.what}".splitlines()
    lines = [f"  {_MARKS[found.severity]:<8}{first}", *(f"          {line}" for line in rest)]
    return lines if found.todo is None else [*lines, f"          -> {found.todo}"]


def _count(number: int, word: str) -> str:
    return f"{number or 'no'} {word}{'' if number == 1 else 's'}"
