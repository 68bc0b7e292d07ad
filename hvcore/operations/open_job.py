"""What a migration that has not ended refuses to other operations, and how it is shown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from hvcore.errors import BusyError, HvError
from hvcore.model.migration.entry import ENDED_STATES, JournalEntry, Request, Side, TargetState
from hvcore.model.migration.rules import STATES, decide
from hvcore.model.migration.situation import Situation
from hvcore.model.state import Op
from hvcore.operations.context import Context

__all__ = ["arrives", "in_words", "open_jobs", "refuse_open"]

_HARMLESS: Final = frozenset(
    {Op.KILL, Op.CONSOLE, Op.EXEC, Op.LOG, Op.CONSOLE_LOG, Op.SCREENSHOT, Op.VNC_PASSWORD, Op.ABI, Op.UPGRADE_CHECK}
)
_STARTS: Final = frozenset({Op.START, Op.REBOOT})


def refuse_open(context: Context, name: str, op: Op) -> None:
    """Raise `BusyError` if an open migration of the instance forbids the operation, or a start of one that is elsewhere.

    Raises `NodeError` for a journal that cannot be read. A stop by force is never refused, and reads no journal.
    """
    if op in _HARMLESS or not context.has_journals:
        return
    journal = context.journals.read(name)
    entry = journal.open
    if entry is not None and (entry.state != TargetState.RAN or op in _STARTS):
        raise BusyError(f"{name}: {in_words(entry)}", subject=name)
    entry = entry or journal.last
    if op not in _STARTS or entry is None:
        return
    if decide(Situation(side=entry.side, entry=entry), Request.AUTOSTART).refusal is not None:
        todo = f"start it there, or use 'hv migrate {name} --forget' if it is to run here again"
        why = STATES[entry.side, entry.state]
        raise BusyError(f"{name}: migration {entry.job} {_way(entry)}: {why}; {todo}", subject=name)


def in_words(entry: JournalEntry) -> str:
    """That the migration is open, as ``migration 3-5f1e0a77 to ssh://b is open (stopped); ...`` with what to do."""
    where = "" if entry.side is Side.SOURCE else f" on {entry.peer}"
    todo = f"'hv migrate {entry.name} --resume'{where} brings it to its end"
    return f"migration {entry.job} {_way(entry)} is open ({entry.state}); {todo}"


def _way(entry: JournalEntry) -> str:
    return f"{'to' if entry.side is Side.SOURCE else 'from'} {entry.peer or 'an unknown node'}"


def open_jobs(context: Context, names: Iterable[str] | None = None) -> dict[str, str]:
    """The open migration of each of the instances that has one, in words, or the error of a journal that cannot be read.

    Without ``names``, of all instances. Raises `NodeError` if the journals cannot be listed.
    """
    if not context.has_journals:
        return {}
    journals, found = context.journals, {}
    for name in sorted({*journals.names()}.intersection(names) if names is not None else journals.names()):
        try:
            entry = journals.read(name).open
        except HvError as error:
            found[name] = str(error)
        else:
            if entry is not None:
                found[name] = in_words(entry)
    return found


def arrives(context: Context, name: str) -> bool:
    """Whether an open migration brings the instance to this node. Raises `NodeError` for a journal that cannot be read."""
    entry = context.journals.read(name).open if context.has_journals else None
    return entry is not None and entry.side is Side.TARGET and entry.state not in ENDED_STATES
