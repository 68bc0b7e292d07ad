"""How an operation by force gets the lock of an instance from another one that waits for the guest: a stop, a detach."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Final

from hvcore.deadline import Deadline
from hvcore.errors import HvError
from hvcore.host.hurry import hurry
from hvcore.model.answers import Outcome
from hvcore.model.record import Record
from hvcore.operations.context import Context
from hvcore.operations.recovery.release import end_found

__all__ = ["TakingOver"]

_ENDS_S: Final = 30.0
"""Seconds that the polite stop has, once its guest was killed, to release what the guest held: more on a busy node."""


class TakingOver:
    """Called while another operation holds the lock: one that waits for the guest is hurried, and then its guest is killed.

    A driver that does not listen, or waits for something else than its guest, gets the second half of the time. Without
    ``force``, it only waits.
    """

    def __init__(self, context: Context, name: str, *, force: bool, patience_s: float) -> None:
        self._context, self._name, self._force = context, name, force
        self._patience = Deadline(patience_s)
        self._hurried = self._killed = False
        self._record: Record | None = None

    def __call__(self) -> float:
        """One try of the lock has found another holder: how many seconds longer to wait for it."""
        if self._force:
            self._end_the_other()
        return _ENDS_S if self._killed else 0.0

    def _end_the_other(self) -> None:
        directory = self._context.store.dir(self._name)
        if not self._hurried:
            with suppress(HvError):
                self._record = self._context.store.load(self._name) or self._record
            self._hurried = hurry(directory)
        elif not self._killed and self._patience.left() == 0.0:
            self._killed = hurry(directory, killed=True)
            if self._killed:
                with suppress(HvError):  # the stop that holds the lock reports what is left
                    end_found(self._context, self._name)

    @property
    def record(self) -> Record | None:
        """The record of the instance from before the polite stop ended; None if none was hurried."""
        return self._record if self._hurried else None

    def noted(self, outcome: Outcome) -> Outcome:
        """The outcome of the stop by force, which found everything done if the other one obeyed."""
        if not self._hurried:
            return outcome
        notes = (*outcome.notes, "another operation was waiting for the guest; this one ended that wait")
        clean = False if outcome.clean is None else outcome.clean
        return replace(outcome, changed=True, stopped_by=outcome.stopped_by or "kill", clean=clean, notes=notes)
