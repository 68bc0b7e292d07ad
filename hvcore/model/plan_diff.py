"""The differences of two plans, argument by argument, with reasons: of two instances, or of one with two QEMUs. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final, Literal

from hvcore.frozen import dataclass
from hvcore.model.plan import Argument, Plan, Value, on_one_line

__all__ = ["Change", "differences"]

_ID: Final = re.compile(r"(?:^|,)(?:id|node-name|guest)=((?:[^,]|,,)+)")
_UNSET: Final = Value(value=None, layer="not a parameter here")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One argument that only the second plan has (``added``), only the first (``removed``), or that differs.

    A ``moved`` one is the same in another place. ``why`` are the reasons, the most specific first.
    """

    kind: Literal["added", "removed", "changed", "moved"]
    before: Argument | None
    after: Argument | None
    why: tuple[str, ...]

    def parts(self) -> tuple[str, str]:
        """The two arguments as text on one line, without the properties that are the same."""
        if self.before is None or self.after is None or self.kind == "moved":
            return on_one_line(_text(self.before)), on_one_line(_text(self.after))
        old, new = _pieces(self.before), _pieces(self.after)
        shared = {piece for piece in old if piece in new and not _ID.match(piece)}
        return on_one_line(_without(old, shared)), on_one_line(_without(new, shared))

    def to_json(self) -> dict[str, Any]:
        """The change as plain JSON types."""
        before = None if self.before is None else self.before.to_json()
        after = None if self.after is None else self.after.to_json()
        return {"change": self.kind, "before": before, "after": after, "why": list(self.why)}


def _text(argument: Argument | None) -> str:
    return "" if argument is None else " ".join(argument.tokens)


def _without(pieces: Sequence[str], shared: AbstractSet[str]) -> str:
    return f"{pieces[0]} {','.join(piece for piece in pieces[1:] if piece not in shared)}".rstrip()


def _pieces(argument: Argument) -> list[str]:
    """The option's name, then its value cut at its commas, but not at the doubled ones."""
    rest = [piece for token in argument.tokens[1:] for piece in re.split(r"(?<!,),(?!,)", token)]
    return [argument.tokens[0], *rest]


def differences(first: Plan, second: Plan) -> tuple[Change, ...]:
    """The changes from the first plan's command to the second's, in the order of the command."""
    old, new = _by_identity(first.arguments), _by_identity(second.arguments)
    changes = []
    for key, moved in _in_order(list(old), list(new)):
        before, after = old.get(key), new.get(key)
        kind: Literal["added", "removed", "changed", "moved"]
        if before is None or after is None:
            kind = "added" if before is None else "removed"
        elif before.tokens != after.tokens:
            kind = "changed"
        elif moved:
            kind = "moved"
        else:
            continue
        changes.append(Change(kind=kind, before=before, after=after, why=_why(before, after, first, second)))
    return tuple(changes)


def _in_order(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Every key once, and whether its place differs in the second."""
    for what, i1, i2, j1, j2 in difflib.SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes():
        if what == "equal":
            yield from ((key, False) for key in old[i1:i2])
        else:
            yield from ((key, False) for key in old[i1:i2] if key not in new)
            yield from ((key, key in old) for key in new[j1:j2])


def _by_identity(arguments: Sequence[Argument]) -> dict[str, Argument]:
    """The arguments by option and id, else by their number among those of their plugin."""
    found: dict[str, Argument] = {}
    for position, argument in enumerate(arguments):
        option = argument.tokens[0] if position else "the program"
        named = _ID.search(argument.tokens[1]) if len(argument.tokens) > 1 else None
        key = f"{option} {argument.origin.plugin}" + (f" {named[1]}" if named else "")
        number = 0
        while (unique := f"{key} {number}") in found:
            number += 1
        found[unique] = argument
    return found


def _why(before: Argument | None, after: Argument | None, first: Plan, second: Plan) -> tuple[str, ...]:
    sides = [argument.origin for argument in (before, after) if argument is not None]
    keys = dict.fromkeys(key for origin in sides for key in origin.params)
    reasons = [
        f"{key}: {_value(first.params, key)} -> {_value(second.params, key)}"
        for key in keys
        if _value(first.params, key) != _value(second.params, key)
    ]
    able = [origin.capability for origin in sides]
    if len(set(able)) > 1 or (len(able) == 1 and able[0]):
        reasons.append(" -> ".join(text or "otherwise" for text in able))
    if not reasons and before and after and _program(first) != _program(second):
        # No parameter differs: a machine type that is an alias, for example, means another one there.
        reasons.append("no parameter differs: the two programs do")
    said = list(dict.fromkeys(origin.why for origin in sides if origin.why))
    return (*reasons, *(said if not reasons or len(said) > 1 else ()))


def _program(plan: Plan) -> tuple[str, ...]:
    return plan.arguments[0].tokens if plan.arguments else ()


def _value(params: Mapping[str, Value], key: str) -> Value:
    return params.get(key, _UNSET)
