"""The page of states and legal operations."""

from __future__ import annotations

import inspect

import hvcore
from generator.words import TEXT, table, wrapped
from hvcore.model.state import TRANSITIONS, Move

__all__ = ["state_table_page"]


def state_table_page() -> str:
    """The operations that are legal in each state, from the table of the core."""
    ops = list(hvcore.Op)
    rows = [[f"`{state}`", *(_move(state, op) for op in ops)] for state in hvcore.State]
    words = (inspect.getdoc(hvcore.State) or "").split("\n\n")[1]
    return "\n\n".join(
        [
            "# States and legal operations",
            wrapped(f"States: {', '.join(f'`{state}`' for state in hvcore.State)}. {words}"),
            TEXT["moves"],
            table(("state", *(f"`{op}`" for op in ops)), rows),
            TEXT["state_table"],
        ]
    )


def _move(state: hvcore.State, op: hvcore.Op) -> str:
    found = TRANSITIONS.get((state, op))
    if found is None:
        return "-"
    return f"→ {found.to}" if isinstance(found, Move) else f"= {found.state}"
