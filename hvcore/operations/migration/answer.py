"""A node's answer to one request of a migration.

Under the instance's lock: what an earlier request left undone is done, the rules decide, the journal is written, and only
then the instance is touched. The caller gets what the node knows afterwards.
"""

from __future__ import annotations

from dataclasses import replace

from hvcore.deadline import Deadline
from hvcore.errors import DeadlineError, HvError, OperationError
from hvcore.model.migration.entry import (
    ENDED_STATES,
    Act,
    JournalEntry,
    MigrationMode,
    Receipt,
    Request,
    Side,
    SourceState,
    TargetState,
)
from hvcore.model.migration.messages import MigrationAnswer, MigrationRequest
from hvcore.model.migration.rules import Decision, decide, receipts_of, settle
from hvcore.model.migration.situation import Answer, Facts, PeerFenced, Situation
from hvcore.model.migration.transfer import TransferState
from hvcore.model.record import Record
from hvcore.model.state import State
from hvcore.operations.context import Context
from hvcore.operations.inspection.observe import observed
from hvcore.operations.migration import on_source, on_target
from hvcore.operations.migration.moving import Moving, given, launch_of
from hvcore.operations.recovery.recover import Recovered
from hvcore.operations.recovery.recover import settle as settle_instance

__all__ = ["answer", "forget", "settle_jobs"]

_MOST_LOOKS = 4
"""A look that changes the state is followed by another one. More than two never happen."""


def answer(context: Context, request: MigrationRequest, *, deadline: Deadline) -> MigrationAnswer:
    """Do what the request asks for, if the rules allow it, and say what the node knows then. A refusal raises no error.

    A look without a job describes the instance before a migration: the source also says what the target has to know, and
    raises `NotFoundError`, `StateError` or `UnsupportedError` for an instance that cannot move.

    Raises `BusyError`, `InputError`, `NodeError` for a journal that cannot be used, and the error of a program that does not
    answer. What was journaled by then is done at the next request.
    """
    name = request.name
    with context.store.lock(name, f"migrate ({request.request})", wait_s=deadline.left(at_most=context.busy_s)):
        moving = Moving(context=context, name=name, deadline=deadline)
        settle_instance(context, name, deadline)
        if not request.job:
            offer = moving.offer() if request.side is Side.SOURCE else None
            facts, entry = moving.facts("", only_job=True), context.journals.read(name).open
            return replace(_answer(moving, entry, facts, ()), offer=offer)
        return _of_job(moving, request)


def _of_job(moving: Moving, request: MigrationRequest) -> MigrationAnswer:
    of_job = _OfJob(moving, request)
    of_job.settle()
    decision = of_job.ask()
    of_job.look()
    return replace(
        _answer(moving, of_job.entry, of_job.facts, receipts_of(of_job.entry, of_job.facts)),
        refusal=decision.refusal or "",
        final=decision.final,
        landing=moving.landings[-1] if moving.landings else None,
        notes=tuple(dict.fromkeys(moving.notes)),
    )


def settle_jobs(context: Context, deadline_s: float) -> list[Recovered]:
    """Do what the journals ask for and a crash has left undone. The failure of one is reported and stops no other."""
    found = []
    for name in context.journals.names() if context.has_journals else ():
        try:
            if context.journals.read(name).pending is None:
                continue
            with context.store.lock(name, "recover", wait_s=context.busy_s):
                result = _settled(context, name, Deadline(deadline_s))
        except HvError as error:
            result = Recovered(name=name, what="failed", detail=str(error))
        if result is not None:
            found.append(result)
    return found


def _settled(context: Context, name: str, deadline: Deadline) -> Recovered | None:
    entry = context.journals.read(name).pending
    if entry is None:
        return None
    settle_instance(context, name, deadline)
    request = MigrationRequest(request=Request.LOOK, side=entry.side, name=name, job=entry.job)
    of_job = _OfJob(Moving(context=context, name=name, deadline=deadline), request)
    act = of_job.settle()
    of_job.look()
    if act is Act.NONE:
        return None
    return Recovered(name=name, what="finished", detail=f"migration {entry.job} was interrupted before its act: {act}")


def forget(context: Context, name: str, *, deadline: Deadline) -> str | None:
    """Move the journal of the instance aside; where it is now, or None. Only for an operator who knows where it runs."""
    with context.store.lock(name, "forget", wait_s=deadline.left(at_most=context.busy_s)):
        aside = context.journals.forget(name)
        return None if aside is None else str(aside)


class _OfJob:
    """One request in progress: the entry of its job, and what the instance's program has answered to an act of it."""

    def __init__(self, moving: Moving, request: MigrationRequest) -> None:
        self._moving = moving
        self._request = request
        self._journals = moving.context.journals
        journal = self._journals.read(request.name)
        self.entry = journal.entry(request.job)
        self._boot = self._journals.boot()
        self._only_job = journal.open is None or journal.open.job == request.job
        self._answer = Answer.NONE
        self._seen: Facts | None = None

    @property
    def facts(self) -> Facts:
        """What the node sees now. Read once, and again after each act: the instance may be paused meanwhile."""
        if self._seen is None:
            launch = self._request.launch if self.entry is None else self.entry.launch
            arrives = self._request.side is Side.TARGET
            self._seen = self._moving.facts(launch, only_job=self._only_job, arrives=arrives)
        return replace(self._seen, boot=self._boot, answer=self._answer)

    def settle(self) -> Act:
        """Do the act that is left, if it can still be done."""
        act = settle(self.entry, self.facts) if self.entry is not None else Act.NONE
        if self.entry is not None and act is not Act.NONE:
            self._do(act, self.entry)
        return act

    def ask(self) -> Decision:
        """Carry out what was asked; the decision with the reason of a refusal."""
        request = self._request
        if request.request is Request.LOOK:
            return Decision()
        decision = self._decided(request.request)
        try:
            if request.request is Request.PREPARE and decision.refusal is None and self.entry is None:
                on_target.refuse_landing(self._moving, request)
            if decision.to is not None and self.entry is None:
                self._keep_machine(decision)
            self._carry_out(decision)
            if request.request is Request.PREPARE and decision.act is Act.NONE and decision.refusal is None:
                on_target.land_again(self._moving, request)
        except HvError as error:
            if request.request not in (Request.PREPARE, Request.START):
                raise
            return Decision(
                refusal=": ".join(dict.fromkeys((str(error), *getattr(error, "__notes__", ())))), final=True
            )
        return decision

    def look(self) -> None:
        """Let the state of the program decide, where it does."""
        for _ in range(_MOST_LOOKS):
            decision = self._decided(Request.LOOK)
            if decision.to is None and decision.act is Act.NONE:
                return
            self._carry_out(decision)
            if decision.to is None:
                return

    def _decided(self, asked: Request) -> Decision:
        request = self._request
        word = PeerFenced(request.boot, request.accept_loss) if asked is Request.WORD_PEER_FENCED else None
        here = Situation(side=request.side, entry=self.entry, facts=self.facts, word=word, mode=self._mode)
        return decide(here, asked, request.receipts)

    @property
    def _mode(self) -> MigrationMode:
        wish = self._request.wish
        return MigrationMode.LIVE if wish is None else MigrationMode(wish.mode)

    def _carry_out(self, decision: Decision) -> None:
        """Write the new state with its act pending, do the act, write that it is done."""
        if decision.to is None:
            if decision.act is not Act.NONE and self.entry is not None:
                self._act(decision.act, self.entry)
            return
        ended = decision.answer if decision.to in ENDED_STATES else ""
        entry = replace(self.entry or self._new_entry(), state=decision.to, pending=decision.act, ended=ended)
        self._write(entry)
        if decision.act not in (Act.NONE, Act.COPY):
            self._do(decision.act, entry)

    def _do(self, act: Act, entry: JournalEntry) -> None:
        """Do an act that the journal has as pending. The refusal of a program to run is its answer, and no error."""
        try:
            self._act(act, entry)
        except HvError as error:
            # A start that fails is undone. A program that waits says itself that it did not let the instance run.
            refused = isinstance(error, OperationError) or entry.mode is MigrationMode.COLD
            if act is not Act.RUN or not refused or isinstance(error, DeadlineError):
                raise
            self._answer = Answer.REFUSED
            self._moving.notes.append(str(error))
            self.look()
            return
        self._answer = Answer.DONE
        self._write(replace(entry, pending=Act.NONE))

    def _act(self, act: Act, entry: JournalEntry) -> None:
        moving, request = self._moving, self._request
        self._seen = None
        match act:
            case Act.LAUNCH:
                on_target.launch(moving, entry, request)
            case Act.RUN:
                on_target.run_landed(moving, entry)
            case Act.SEND:
                on_source.send(moving, entry, request)
            case Act.CONTINUE:
                on_source.continue_transfer(moving)
            case Act.SWITCH_POSTCOPY:
                on_source.switch_to_postcopy(moving)
            case Act.CANCEL_TRANSFER:
                on_source.cancel_transfer(moving)
            case Act.CANCEL_AND_RUN:
                on_source.cancel_and_run(moving, entry)
            case Act.START_AFRESH:
                on_source.start_afresh(moving, entry)
            case Act.KILL:
                moving.end()

    def _write(self, entry: JournalEntry) -> None:
        self._journals.write(entry.name, entry)
        self.entry = entry

    def _new_entry(self) -> JournalEntry:
        request, record = self._request, self._moving.record
        driver = request.offer.driver if request.offer is not None else record.driver if record is not None else ""
        return JournalEntry(
            job=request.job,
            name=request.name,
            driver=driver,
            side=request.side,
            state=SourceState.NONE if request.side is Side.SOURCE else TargetState.NONE,
            peer=request.peer,
            launch=request.launch,
            own_boot=self._boot,
            peer_boot=request.peer_boot,
            mode=self._mode,
            wanted=request.wanted,
            storage=request.wish.storage if request.wish is not None else "shared",
        )

    def _keep_machine(self, decision: Decision) -> None:
        """Keep what an end of the migration may have to start: the machine of the source, or of a cold target."""
        if decision.act is Act.SEND:
            record: Record | None = self._moving.record
        elif decision.act is Act.COPY:
            record = on_target.arriving_record(self._moving, self._request)
        else:
            return
        self._journals.keep(given(record, "instance"))


def _answer(moving: Moving, entry: JournalEntry | None, facts: Facts, receipts: tuple[Receipt, ...]) -> MigrationAnswer:
    context, name = moving.context, moving.name
    return MigrationAnswer(
        name=name,
        state=observed(context, name).state if entry is None else _state(context, name, facts),
        boot=context.journals.boot(),
        highest=context.journals.read(name).highest,
        launch=launch_of(moving.record),
        entry=entry,
        alive=facts.alive,
        transfer=facts.transfer,
        receipts=receipts,
    )


def _state(context: Context, name: str, facts: Facts) -> State:
    """The state by what was just seen of a program that runs: an instance on its way must not wait for another look."""
    if facts.transfer.state is TransferState.NONE or not facts.alive:
        return observed(context, name).state
    return State.RUNNING if facts.transfer.cpus_run else State.PAUSED
