"""``hv doctor``: is everything that is installed well, and what to do about what is not."""

from __future__ import annotations

from itertools import groupby

import click

import hvcore
from hvcore.cli.options import json_option
from hvcore.cli.output import emit_json, say
from hvcore.cli.progress import progress

__all__ = ["doctor"]

_MARKS = {hvcore.Severity.OK: "ok", hvcore.Severity.NOTE: "note", hvcore.Severity.PROBLEM: "PROBLEM"}


@click.command(
    epilog="""\b
Example:
  hv doctor
  hv doctor --json > before-the-upgrade.json"""
)
@json_option
def doctor(*, as_json: bool) -> None:
    """Examine the installation.

    Versions, plugins and why one does not work, what is deprecated and in use, what this node can do for each driver,
    the run directory, and what ended or interrupted instances have left behind. Nothing is changed. Exit code 1 when
    there is a problem.
    """
    given = click.get_current_context().find_root().params
    with progress("examining the installation"):
        findings = hvcore.examine(given.get("run_dir"), config_dir=given.get("config_dir"))
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


def _lines(found: hvcore.Finding) -> list[str]:
    first, *rest = f"{found.subject}: {found.what}".splitlines()
    lines = [f"  {_MARKS[found.severity]:<8}{first}", *(f"          {line}" for line in rest)]
    return lines if found.todo is None else [*lines, f"          -> {found.todo}"]


def _count(number: int, word: str) -> str:
    return f"{number or 'no'} {word}{'' if number == 1 else 's'}"
