"""The program that moves an instance: it asks both nodes, by the table, until the migration has ended.

It keeps nothing that matters. If it is killed, another one reads both nodes and goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import field, replace
from typing import Any, Final, Protocol

from hvcore.errors import HvError, OperationError
from hvcore.frozen import dataclass
from hvcore.model.migration.entry import JournalEntry, MigrationMode, Receipt, Request, Side, SourceState, TargetState
from hvcore.model.migration.messages import MigrationAnswer, MigrationRequest, MigrationSettings
from hvcore.model.migration.rules import receipts_of
from hvcore.model.migration.situation import Facts
from hvcore.model.migration.table import Kind, SideView, Step, Wish, next_step
from hvcore.model.migration.transfer import Landing, LandingWish, Transfer, TransferState
from hvcore.state.journal import next_job

__all__ = ["Migration", "MigrationOutcome", "MigrationProgress", "Peer", "begin", "take_over"]

_LEAST_WAIT_S: Final = 0.01
_MOST_WAIT_S: Final = 0.5
_PART_OF_REST: Final = 0.25
_STALLED_S: Final = 120.0
_UNREACHABLE_S: Final = 60.0
_POSTCOPY_AFTER_S: Final = 10.0
_POSTCOPY_REST: Final = 0.1
_MOST_REFUSALS: Final = 20


class Peer(Protocol):
    """One of the two nodes of a migration, as the program that moves an instance reaches it."""

    @property
    def name(self) -> str:
        """The node's name for the other one's journal, such as ``ssh://b``."""

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The JSON of the `MigrationAnswer` to the JSON of a `MigrationRequest`. Raises `HvError`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationProgress:
    """How far a migration is. ``step`` is for people; ``transfer`` is that of the source."""

    name: str
    job: str
    step: str
    seconds: float
    transfer: Transfer

    def to_json(self) -> dict[str, Any]:
        """The progress as plain JSON types."""
        facts = {"name": self.name, "job": self.job, "step": self.step, "seconds": round(self.seconds, 3)}
        return {**facts, "transfer": self.transfer.to_json()}


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationOutcome:
    """How a migration ended: whether the instance moved, or stayed for the reason ``why``.

    ``transfer`` is the last that the source said of it: its ``downtime_ms`` is None if that is not known.
    """

    name: str
    job: str
    moved: bool
    to: str
    why: str = ""
    seconds: float = 0.0
    transfer: Transfer = field(default_factory=Transfer)
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.moved:
            return f"{self.name}: stays here, {self.why or 'the migration was cancelled'}"
        pause = "" if self.transfer.downtime_ms is None else f", paused for {self.transfer.downtime_ms} ms"
        return f"{self.name}: moved to {self.to} ({self.seconds:.2f} s{pause})"

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain JSON types."""
        facts = {"name": self.name, "job": self.job, "moved": self.moved, "to": self.to, "why": self.why}
        more = {"transfer": self.transfer.to_json(), "notes": list(self.notes)}
        return {**facts, "seconds": round(self.seconds, 3), **more}


@dataclass(kw_only=True)
class Migration:
    """One migration in progress. ``wait`` waits that many seconds; True if the caller wants to end the migration."""

    name: str
    source: Peer
    target: Peer
    job: str = ""
    wait: Callable[[float], bool]
    progress: Callable[[MigrationProgress], None] = lambda _: None
    wish: Wish = Wish.GO
    landing_wish: LandingWish | None = None
    launch: str = ""
    wanted: str = "running"
    switch: bool = False
    patience_s: float = _UNREACHABLE_S
    offered: MigrationAnswer | None = None
    why: str = ""
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._began = time.monotonic()
        self._moved_at = self._began
        self._answered_at = self._began
        self._seen: dict[Side, MigrationAnswer] = {}
        self._landing: Landing | None = None
        self._sent = 0
        self._transfer = Transfer()
        self._refused = 0
        self._hurried = False

    def run(self) -> MigrationOutcome:
        """Bring the migration to its end. Raises `OperationError` if only an operator can: the journals then stay open."""
        told = ""
        while True:
            source = self._look(Side.SOURCE)
            self._finish_soon(source)
            target = self._look(Side.TARGET)
            if self.wish is Wish.ABORT and not target.reachable and self._stays_alone(source):
                return self._outcome(moved=False, source=source.entry)
            step = next_step(source, target, wish=self._wish_now(source))
            self.progress(
                MigrationProgress(
                    name=self.name, job=self.job, step=step.why, seconds=self._seconds, transfer=self._transfer
                )
            )
            if step.kind in (Kind.MOVED, Kind.STAYED):
                return self._outcome(moved=step.kind is Kind.MOVED, source=source.entry)
            if step.kind is Kind.TELL:
                if told == step.why:
                    todo = f"see 'hv migrate {self.name} --status' on both nodes, and the page about migration"
                    raise OperationError(f"{self.name}: cannot be decided here ({step.why}); {todo}")
                told = step.why
            elif step.kind is Kind.ASK:
                self._ask_all(step)
                continue
            elif step.kind is Kind.COPY:
                self._ask(Side.TARGET, Request.COPIED, step.receipts)
                continue
            self.wait(self._pause_s())

    # ------------------------------------------------------------------------------------------------ asking

    def _look(self, side: Side) -> SideView:
        """What the node answers now; not reachable without an answer."""
        try:
            answer = self._asked(side, Request.LOOK, ())
        except HvError as error:
            self._unreachable(side, error)
            return SideView(reachable=False)
        self._seen[side] = answer
        self._answered_at = time.monotonic() if len(self._seen) == 2 else self._answered_at
        if side is Side.SOURCE:
            self._note_transfer(answer.transfer)
        facts = Facts(alive=answer.alive, absent=not answer.launch, transfer=answer.transfer, boot=answer.boot)
        return SideView(entry=answer.entry, boot=answer.boot, facts=facts)

    def _ask_all(self, step: Step) -> None:
        for side, request in step.asks:
            try:
                answer = self._ask(side, request, step.receipts)
            except HvError as error:
                self._unreachable(side, error)
                self.wait(_MOST_WAIT_S)
                return
            if answer.refusal and answer.final:
                self._abort(answer.refusal)
                return
            self._refused = self._refused + 1 if answer.refusal else 0
            if self._refused > _MOST_REFUSALS:
                todo = f"see 'hv migrate {self.name} --status' on both nodes"
                raise OperationError(f"{self.name}: {request} is refused by the {side}: {answer.refusal}; {todo}")
            if answer.refusal:
                self.wait(_LEAST_WAIT_S * self._refused)
                return

    def _ask(self, side: Side, request: Request, receipts: tuple[Receipt, ...]) -> MigrationAnswer:
        answer = self._asked(side, request, receipts)
        self.notes += answer.notes
        self._landing = answer.landing or self._landing
        refused = request is Request.FINISH and answer.entry is not None and answer.entry.state == TargetState.DESTROYED
        if refused and answer.notes:
            self.why = self.why or answer.notes[0]
        return answer

    def _asked(self, side: Side, request: Request, receipts: tuple[Receipt, ...]) -> MigrationAnswer:
        peer, other = (self.source, self.target) if side is Side.SOURCE else (self.target, self.source)
        seen = self._seen.get(Side.TARGET if side is Side.SOURCE else Side.SOURCE)
        message = MigrationRequest(request=request, side=side, name=self.name, job=self.job, receipts=receipts)
        if request in (Request.PREPARE, Request.START, Request.CANCEL, Request.ROLL_BACK):
            message = replace(message, peer=other.name, peer_boot=0 if seen is None else seen.boot)
        if request in (Request.PREPARE, Request.START):
            message = replace(
                message,
                launch=self.launch if side is Side.SOURCE else "",
                wanted=self.wanted,
                wish=self.landing_wish,
                offer=self.offered.offer if request is Request.PREPARE and self.offered is not None else None,
                landing=self._landing if request is Request.START else None,
            )
        return MigrationAnswer.from_json(peer.ask(message.to_json()))

    def _unreachable(self, side: Side, error: HvError) -> None:
        """After too long without an answer, end a migration that only sends; raise `OperationError` for any other."""
        if time.monotonic() - self._answered_at > self.patience_s:
            seen = self._seen.get(Side.SOURCE)
            sends = seen is not None and seen.entry is not None and seen.entry.state == SourceState.MIGRATING
            if side is Side.TARGET and sends:
                self._abort(f"the target does not answer: {error}")
                return
            what = f"{self.name}: the {side} does not answer: {error}"
            raise OperationError(f"{what}; 'hv migrate {self.name} --resume' goes on later") from error

    def _finish_soon(self, source: SideView) -> None:
        """Once the source has stopped for good, ask the target to go on before another look: the instance is paused.

        The target refuses it if not everything has arrived.
        """
        seen = self._seen.get(Side.TARGET)
        stopped = source.entry is not None and source.entry.state == SourceState.STOPPED
        waits = seen is not None and seen.entry is not None and seen.entry.state == TargetState.INCOMING
        if stopped and waits and self.wish is not Wish.ABORT and not self._hurried:
            self._hurried = True
            with suppress(HvError):
                self._ask(Side.TARGET, Request.FINISH, receipts_of(source.entry, source.facts))

    def _stays_alone(self, source: SideView) -> bool:
        """Whether the instance stays although the target does not answer: without the source's word it never runs there."""
        state = None if source.entry is None else source.entry.state
        if state == SourceState.MIGRATING:
            answer = self._ask(Side.SOURCE, Request.ROLL_BACK, ())
            state = None if answer.entry is None else answer.entry.state
        if state != SourceState.ROLLED_BACK:
            return False
        todo = f"'hv migrate {self.name} --cancel --to {self.target.name}' ends what waits there"
        self.notes.append(f"the target does not answer; when it does, {todo}")
        return True

    # ------------------------------------------------------------------------------------------------ deciding

    def _wish_now(self, source: SideView) -> Wish:
        if self.wait(0.0):
            self._abort("it was cancelled")
        if self.wish is not Wish.GO:
            return self.wish
        state = self._transfer
        stalled = time.monotonic() - self._moved_at
        sending = source.entry is not None and source.entry.state == SourceState.MIGRATING
        if sending and stalled > _STALLED_S:
            self._abort(f"nothing was sent for {stalled:.0f} s")
        elif self.switch and sending:
            late = self._seconds > _POSTCOPY_AFTER_S
            little = state.remaining_bytes <= _POSTCOPY_REST * state.total_bytes
            if late or (little and state.state is not TransferState.SETUP):
                return Wish.POSTCOPY
        return self.wish

    def _abort(self, why: str) -> None:
        if self.wish is not Wish.ABORT:
            self.wish, self.why = Wish.ABORT, why

    def _note_transfer(self, transfer: Transfer) -> None:
        if transfer.transferred_bytes != self._sent or transfer.state != self._transfer.state:
            self._moved_at, self._sent = time.monotonic(), transfer.transferred_bytes
        if transfer.error:
            self.why = self.why or transfer.error
        if transfer != Transfer():  # of a source that has ended
            self._transfer = transfer

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _pause_s(self) -> float:
        """A part of the time that the rest of the transfer takes: until its end is seen, the instance is paused."""
        found = self._transfer
        rest_s = found.remaining_bytes / found.rate_bps if found.rate_bps else 0.0
        return max(_LEAST_WAIT_S, min(_MOST_WAIT_S, _PART_OF_REST * rest_s))

    def _outcome(self, *, moved: bool, source: JournalEntry | None) -> MigrationOutcome:
        why = "" if moved else self.why or ("" if source is None else source.ended)
        return MigrationOutcome(
            name=self.name,
            job=self.job,
            moved=moved,
            to=self.target.name,
            why=why,
            seconds=self._seconds,
            transfer=self._transfer,
            notes=tuple(dict.fromkeys(self.notes)),
        )


def begin(migration: Migration, settings: MigrationSettings | None = None) -> MigrationOutcome:
    """Move an instance that no open migration moves. Raises the errors of both nodes before anything has begun."""
    here, there = (
        _described(migration.source, Side.SOURCE, migration),
        _described(migration.target, Side.TARGET, migration),
    )
    for answer, where in ((here, "here"), (there, f"on {migration.target.name}")):
        if answer.entry is not None:
            todo = f"'hv migrate {migration.name} --resume' brings it to its end"
            raise OperationError(f"{migration.name}: migration {answer.entry.job} is open {where}; {todo}")
    wanted, offer = settings or MigrationSettings(), here.offer
    if offer is None:
        raise OperationError(f"{migration.name}: the source offers nothing; upgrade hvcore there")
    migration.job = next_job((here.highest, there.highest))
    local = migration.target.name.startswith("local:")
    migration.landing_wish = LandingWish(
        job=migration.job,
        mode=wanted.mode or offer.mode,
        storage=wanted.storage,
        host=wanted.listen or ("127.0.0.1" if local else ""),
        port=wanted.port,
        tls=wanted.tls and not local,
        tuning=wanted.tuning,
    )
    if not wanted.mode and offer.mode == MigrationMode.PAUSED:
        migration.notes += [f"was paused while it was sent: {reason}" for reason in offer.live_blockers]
    migration.switch = migration.landing_wish.mode == MigrationMode.POSTCOPY
    migration.launch, migration.offered = here.launch, here
    migration.wanted = "paused" if here.state == "paused" else "running"
    return migration.run()


def take_over(migration: Migration, *, abort: bool) -> MigrationOutcome | None:
    """Bring the open migration of an instance to its end; None if neither node has one.

    One that has only begun is rolled back, because the values of its start are not known.
    """
    here, there = (
        _described(migration.source, Side.TARGET, migration),
        _described(migration.target, Side.TARGET, migration),
    )
    entry = here.entry or there.entry
    if entry is None:
        return None
    migration.job = entry.job
    if abort:
        migration.wish, migration.why = Wish.ABORT, "it was cancelled"
    elif here.entry is None:
        migration.wish, migration.why = Wish.ABORT, "it had only begun"
    migration.switch = migration.switch or entry.mode is MigrationMode.POSTCOPY
    return migration.run()


def _described(peer: Peer, side: Side, migration: Migration) -> MigrationAnswer:
    request = MigrationRequest(request=Request.LOOK, side=side, name=migration.name, job="")
    return MigrationAnswer.from_json(peer.ask(request.to_json()))
