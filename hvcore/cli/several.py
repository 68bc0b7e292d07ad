"""Operations on one instance, or on each of several: a failure is reported, and the next ones still get the operation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import click

import hvcore
from hvcore.cli.exit_status import reported
from hvcore.cli.output import emit_json, remark, say, show
from hvcore.cli.session import known, report_states, working

__all__ = ["Result", "collected", "for_each", "operated", "result_of", "show_result"]


class Result(NamedTuple):
    """What was done with one instance: the JSON document, the text for people, and notes for stderr."""

    facts: Any
    text: str
    notes: tuple[str, ...] = ()


def result_of(outcome: hvcore.Outcome | hvcore.DefinitionOutcome, text: str) -> Result:
    """What was done, in these words, with the notes of the outcome."""
    return Result(outcome.to_json(), text, tuple(f"{outcome.name}: {note}" for note in outcome.notes))


def operated(
    name: str,
    doing: str,
    act: Callable[[hvcore.Node], hvcore.Outcome],
    text: Callable[[hvcore.Outcome], str],
    *,
    hint: str = "",
) -> Result:
    """One operation on the instance. ``doing`` is shown meanwhile, later ``hint`` too; after ^C the state is printed."""
    with report_states(name), working(doing, hint) as node, known(node, name):
        outcome = act(node)
    return result_of(outcome, f"{name}: {text(outcome)}")


def show_result(done: Result, *, as_json: bool) -> None:
    """Print what was done with one instance."""
    show(done.facts, done.text, as_json=as_json)
    _show_notes(done)


def for_each(targets: Sequence[str], act: Callable[[str], Result], *, as_json: bool) -> None:
    """Call ``act`` for each target in turn, and print each result at once.

    JSON of one target is its document, JSON of several is a list. Ends with the exit code of the first failure.
    """
    distinct = list(dict.fromkeys(targets))
    if len(distinct) == 1:
        show_result(act(distinct[0]), as_json=as_json)
        return
    with collected(as_json=as_json) as add:
        for target in distinct:
            add(lambda target=target: act(target))  # type: ignore[misc]


@contextmanager
def collected(*, as_json: bool) -> Iterator[Callable[[Callable[[], Result]], None]]:
    """A function that prints the result of a call or its error, at once. Ends with the exit code of the first failure.

    JSON is a list, printed at the end.
    """
    documents: list[Any] = []
    codes: list[int] = []

    def add(call: Callable[[], Result]) -> None:
        try:
            done = call()
        except hvcore.HvError as error:
            facts = reported(error)
            documents.append(facts)
            codes.append(int(facts["exit_code"]))
        else:
            documents.append(done.facts)
            if not as_json:
                say(done.text)
            _show_notes(done)

    yield add
    if as_json:
        emit_json(documents)
    if codes:
        click.get_current_context().exit(codes[0])


def _show_notes(done: Result) -> None:
    for note in done.notes:
        remark(note)
