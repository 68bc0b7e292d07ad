"""The rules of migration in Promela, made from the data of hvcore: one guarded step for each rule, one branch for each row.

``world.pml`` beside it is written by hand: QEMU, the stream, faults and properties.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hvcore.model.migration.entry import (
    ENDED_STATES,
    NEVER_BEGAN,
    Act,
    Receipt,
    Request,
    Side,
    SourceState,
    TargetState,
)
from hvcore.model.migration.rule import Rule
from hvcore.model.migration.rules import FINAL, GIVES, PROVEN_DEAD, RULES
from hvcore.model.migration.situation import Condition
from hvcore.model.migration.table import SOURCE_CLASSES, TABLE, TARGET_CLASSES, Class, Kind, Row, Wish

__all__ = ["WORLD", "Model", "event_of", "rules_text", "words_text"]

WORLD: Final = Path(__file__).with_name("world.pml")

_LETTER: Final = {Side.SOURCE: "S", Side.TARGET: "T"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """All data that a model is made from. The defaults are hvcore's; a test leaves a rule out."""

    rules: tuple[Rule, ...] = RULES
    source_classes: tuple[Class, ...] = SOURCE_CLASSES
    target_classes: tuple[Class, ...] = TARGET_CLASSES
    table: tuple[Row, ...] = TABLE
    gives: Mapping[tuple[Side, str], Receipt] = field(default_factory=lambda: GIVES)
    final: frozenset[Request] = FINAL

    def classes(self, side: Side) -> tuple[Class, ...]:
        """The classes of one side."""
        return self.source_classes if side is Side.SOURCE else self.target_classes


def event_of(rules: Iterable[Rule], rule: Rule) -> str:
    """The name of a rule in a trace, such as ``T.finish.0``: the number counts the rules of this side and request."""
    alike = [one for one in rules if one.side is rule.side and one.request is rule.request]
    return f"{_LETTER[rule.side]}.{rule.request}.{alike.index(rule)}"


def _word(text: str) -> str:
    return text.replace("-", "_")


def words_text(model: Model) -> str:
    """The states, acts, classes and messages as numbers and variables."""
    return "\n".join([*_words(model), ""])


def _words(model: Model) -> Iterator[str]:
    for letter, states in (("S", list(SourceState)), ("T", list(TargetState))):
        yield from (f"#define {letter}_{_word(state)} {number}" for number, state in enumerate(states))
        opened = " || ".join(f"(st) == {letter}_{_word(state)}" for state in states if state not in ENDED_STATES)
        yield f"#define {letter}_OPEN(st) ({opened})"
    yield from (f"#define A_{_word(act)} {number}" for number, act in enumerate(Act))
    yield from (f"#define W_{wish} {number}" for number, wish in enumerate(Wish))
    for side, letter in _LETTER.items():
        names = dict.fromkeys(one.name for one in model.classes(side))
        yield from (f"#define {letter}C_{_word(name)} {number}" for number, name in enumerate(names))
        yield from (f"bool m_{letter}_{_word(request)}[NJOBS];" for request in Request if request not in _NO_MESSAGE)
    yield from (f"bool rc_{_word(receipt)}[NJOBS];" for receipt in Receipt)


_NO_MESSAGE: Final = frozenset({Request.LOOK, Request.AUTOSTART, Request.WORD_PEER_FENCED})


def rules_text(model: Model) -> str:
    """The nodes and the caller."""
    parts = [
        *(_node(model, side, request) for side in Side for request in Request if request is not Request.AUTOSTART),
        *(_look_now(model, side) for side in Side),
        *(_autostart(model, side) for side in Side),
        *(_class(model, side) for side in Side),
        *(_give(model, side) for side in Side),
        *(_refuse(model, side, request) for side in Side for request in Request if request in model.final),
        _ask(model),
    ]
    processes = [part.split("(")[0].removeprefix("proctype ") for part in parts if part.startswith("proctype ")]
    starts = " ".join(f"run {name}(j);" for name in processes)
    return "\n\n".join([*(part for part in parts if part), f"inline start_nodes(j) {{ {starts.rstrip(';')} }}", ""])


def _rules(model: Model, side: Side, request: Request) -> list[Rule]:
    return [one for one in model.rules if one.side is side and one.request is request and one.changes]


def _state_is(letter: str, states: Iterable[str]) -> str:
    variable = f"{letter.lower()}_st[j]"
    return "(" + " || ".join(f"{variable} == {letter}_{_word(state)}" for state in states) + ")"


def _conditions(letter: str, given: Iterable[Condition]) -> list[str]:
    return [f"C_{letter}_{_word(condition)}(j)" for condition in given]


def _guard(rule: Rule) -> str:
    letter = _LETTER[rule.side]
    message = [] if rule.request in _NO_MESSAGE else [f"m_{letter}_{_word(rule.request)}[j]"]
    receipts = [f"rc_{_word(receipt)}[j]" for receipt in rule.receipts]
    return " && ".join([*message, _state_is(letter, rule.states), *_conditions(letter, rule.given), *receipts])


def _effect(rule: Rule) -> str:
    letter = _LETTER[rule.side]
    low = letter.lower()
    if rule.to is None:
        return f"first_{letter}_{_word(rule.act)}(j)"
    steps = [f"{low}_st[j] = {letter}_{_word(rule.to)}", f"{low}_pend[j] = A_{_word(rule.act)}"]
    if "none" in rule.states:
        steps += [f"made_{letter}(j)", *([] if rule.answer == NEVER_BEGAN else [f"{low}_began[j] = true"])]
    return "; ".join(steps)


def _branches(model: Model, side: Side, request: Request) -> Iterator[str]:
    for rule in _rules(model, side, request):
        yield f'{_guard(rule)} -> EV("{event_of(model.rules, rule)}", j); {_effect(rule)}'


def _node(model: Model, side: Side, request: Request) -> str:
    branches = "\n".join(f"  :: atomic {{ {branch} }}" for branch in _branches(model, side, request))
    name = f"{_LETTER[side]}_{_word(request)}"
    return f"proctype {name}(byte j) {{\n  do\n{branches}\n  od\n}}" if branches else ""


def _look_now(model: Model, side: Side) -> str:
    """A look in the same operation as an act, whose answer it sees."""
    branches = "\n".join(f"  :: {branch}" for branch in _branches(model, side, Request.LOOK))
    return f"inline look_{_LETTER[side]}(j) {{\n  if\n{branches}\n  :: else\n  fi\n}}"


def _autostart(model: Model, side: Side) -> str:
    rules = [rule for rule in model.rules if rule.side is side and rule.request is Request.AUTOSTART]
    return f"#define AUTO_{_LETTER[side]}(j) ({' || '.join(f'({_guard(rule)})' for rule in rules)})"


def _class(model: Model, side: Side) -> str:
    letter = _LETTER[side]
    lines = [f"inline class_{letter}(j) {{", "  if"]
    before: list[str] = []
    for one in model.classes(side):
        own = " && ".join([_state_is(letter, one.states), *_conditions(letter, one.given)])
        lines.append(f"  :: {' && '.join([own, *before])} -> v{letter.lower()} = {letter}C_{_word(one.name)}")
        before.append(f"!({own})")
    return "\n".join([*lines, "  fi", "}"])


def _give(model: Model, side: Side) -> str:
    letter = _LETTER[side]
    lines = [f"inline give_{letter}(j) {{", "  if"]
    for (of, state), receipt in model.gives.items():
        if of is side:
            proven = f" && {letter.lower()}_pend[j] == A_none" if receipt in PROVEN_DEAD else ""
            name = _word(receipt)
            ended = "; rc_ended[j] = rc_ended[j] || C_T_dead(j)" if state == TargetState.RAN else ""
            guard = f"{_state_is(letter, (state,))}{proven} && GIVES_{name}(j)"
            lines.append(f"  :: {guard} -> rc_{name}[j] = true{ended}")
    return "\n".join([*lines, "  :: else", "  fi", "}"])


def _refuse(model: Model, side: Side, request: Request) -> str:
    """A refusal that ends the migration."""
    letter = _LETTER[side]
    accepted = [_guard(rule) for rule in _rules(model, side, request)]
    if not accepted:
        return ""
    asked = f"m_{letter}_{_word(request)}[j] && {_state_is(letter, ('none',))} && !refused[j]"
    guard = " && ".join([asked, *(f"!({one})" for one in accepted)])
    step = f'EV("{letter}.{request}.refused", j); refused[j] = true'
    return f"proctype {letter}_{_word(request)}_refused(byte j) {{\n  do\n  :: atomic {{ {guard} -> {step} }}\n  od\n}}"


def _ask(model: Model) -> str:
    lines = ["inline ask(j) {", "  if"]
    for number, row in enumerate(model.table):
        here = " || ".join(f"vs == SC_{_word(name)}" for name in row.source)
        there = " || ".join(f"vt == TC_{_word(name)}" for name in row.target)
        wishes = " || ".join(f"wish == W_{wish}" for wish in row.wishes)
        steps = "; ".join([f'SHOW("C.{number}", j)', *_ROW[row.kind](row)])
        lines.append(f"  :: ({here}) && ({there}) && ({wishes}) -> {steps}")
    return "\n".join([*lines, "  fi", "}"])


def _asks(row: Row) -> list[str]:
    return [f"m_{_LETTER[side]}_{_word(request)}[j] = true" for side, request in row.asks if request not in _NO_MESSAGE]


def _nothing(_row: Row) -> list[str]:
    return []


_ROW: Final[Mapping[Kind, Callable[[Row], list[str]]]] = {
    Kind.ASK: _asks,
    Kind.WAIT: _nothing,
    Kind.TELL: _nothing,
    Kind.COPY: lambda _row: ["m_T_copied[j] = true"],
    Kind.MOVED: lambda _row: ["ended[j] = true"],
    Kind.STAYED: lambda _row: ["ended[j] = true"],
}
