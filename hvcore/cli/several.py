"""One operation on each of several instances. A failure is reported, and the next instances still get the operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import click

import hvcore
from hvcore.cli.exit_status import reported
from hvcore.cli.output import emit_json, remark, say, show

__all__ = ["Result", "for_each"]


class Result(NamedTuple):
    """What was done with one instance: the JSON document, the text for people, and notes for stderr."""

    facts: Any
    text: str
    notes: tuple[str, ...] = ()


def for_each(targets: Sequence[str], act: Callable[[str], Result], *, as_json: bool) -> None:
    """Call ``act`` for each target in turn, and print each result at once.

    JSON of one target is its document, JSON of several is a list. Ends with the exit code of the first failure.
    """
    distinct = list(dict.fromkeys(targets))
    if len(distinct) == 1:
        done = act(distinct[0])
        show(done.facts, done.text, as_json=as_json)
        _show_notes(done)
        return
    documents: list[Any] = []
    code = 0
    for target in distinct:
        try:
            done = act(target)
        except hvcore.HvError as error:
            facts = reported(error)
            documents.append(facts)
            code = code or int(facts["exit_code"])
        else:
            documents.append(done.facts)
            if not as_json:
                say(done.text)
            _show_notes(done)
    if as_json:
        emit_json(documents)
    if code:
        click.get_current_context().exit(code)


def _show_notes(done: Result) -> None:
    for note in done.notes:
        remark(note)
