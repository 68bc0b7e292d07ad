"""What nodes accept and refuse: each rule is reached, at most one fits, and the refusals say why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, combinations, product

import pytest

from hvcore.model.codec import decode, encode
from hvcore.model.migration.entry import (
    Act,
    JournalEntry,
    MigrationMode,
    Receipt,
    Request,
    Side,
    SourceState,
    TargetState,
)
from hvcore.model.migration.rule import Rule
from hvcore.model.migration.rules import RULES, Decision, decide, receipts_of, settle
from hvcore.model.migration.situation import Answer, Facts, PeerFenced, Situation, holds
from hvcore.model.migration.transfer import Transfer, TransferState

STATES: dict[Side, list[str]] = {Side.SOURCE: list(SourceState), Side.TARGET: list(TargetState)}
ONE_OF_EACH = ("none", "active", "pre-switchover", "postcopy-active", "completed", "failed")


def entry(side: Side, state: str, mode: MigrationMode = MigrationMode.LIVE, **rest: object) -> JournalEntry | None:
    if state == "none":
        return None
    fixed = {"job": "1-0000000a", "name": "web1", "driver": "fake", "peer": "n2", "peer_boot": 3}
    return JournalEntry(side=side, state=state, mode=mode, **fixed | rest)  # type: ignore[arg-type]


def facts() -> Iterator[Facts]:
    transfers = [Transfer(state=TransferState(state), cpus_run=run) for state in ONE_OF_EACH for run in (False, True)]
    yield from (
        Facts(alive=alive, absent=absent, transfer=transfer, answer=answer)
        for alive, absent, transfer, answer in product((False, True), (False, True), transfers, Answer)
        if not (alive and absent) and (alive or (transfer.state is TransferState.NONE and not transfer.cpus_run))
    )


def situations(side: Side, state: str) -> Iterator[Situation]:
    for mode, fact, pending, word in product(MigrationMode, facts(), (Act.NONE, Act.RUN), (None, PeerFenced(3))):
        if state == "none" and pending is not Act.NONE:
            continue
        kept = entry(side, state, mode, pending=pending)
        yield Situation(side=side, entry=kept, facts=fact, word=word, mode=mode)
        if fact.answer is Answer.NONE and not fact.alive:
            yield Situation(side=side, entry=kept, facts=replace(fact, boot=2), word=word, mode=mode)


def fits(rule: Rule, here: Situation) -> bool:
    return here.side is rule.side and here.state in rule.states and all(holds(one, here) for one in rule.given)


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("request_", Request)
def test_at_most_one_rule_fits(side: Side, request_: Request) -> None:
    rules = [rule for rule in RULES if rule.side is side and rule.request is request_]
    reached = set[int]()
    for state in STATES[side]:
        for here in situations(side, state):
            fitting = [number for number, rule in enumerate(rules) if fits(rule, here)]
            assert len(fitting) <= 1, (here, [rules[number] for number in fitting])
            reached |= set(fitting)
    assert len(reached) == len(rules)


@pytest.mark.parametrize("side", Side)
def test_a_node_refuses_with_the_reason(side: Side) -> None:
    sets = list(chain.from_iterable(combinations(Receipt, size) for size in (0, 1, len(Receipt))))
    for state, request in product(STATES[side], Request):
        for mode, receipts in product(MigrationMode, sets):
            here = Situation(side=side, entry=entry(side, state, mode), facts=Facts(absent=True), mode=mode)
            found = decide(here, request, receipts)
            assert found.refusal is None or found.refusal.strip()
            assert found.refusal is None or (found.to, found.act) == (None, Act.NONE)


def on(
    side: Side, state: str, request: Request, *receipts: Receipt, word: int | None = None, **rest: object
) -> Decision:
    transfer = Transfer(state=TransferState(rest.pop("transfer", "none")), cpus_run=bool(rest.pop("run", False)))  # type: ignore[arg-type]
    mode = MigrationMode(rest.pop("mode", "live"))  # type: ignore[arg-type]
    kept = {key: rest.pop(key) for key in ("pending", "storage", "ended") if key in rest}
    seen = Facts(transfer=transfer, **{"alive": True} | rest)  # type: ignore[arg-type]
    fenced = None if word is None else PeerFenced(word)
    return decide(
        Situation(side=side, entry=entry(side, state, mode, **kept), facts=seen, word=fenced, mode=mode),
        request,
        receipts,
    )


SOURCE, TARGET = Side.SOURCE, Side.TARGET


def test_a_fenced_target_does_not_let_the_source_continue() -> None:
    refusal = str(on(SOURCE, "stopped", Request.ROLL_BACK).refusal)
    assert refusal.endswith("; the other node has not said that the instance is destroyed there")
    found = on(SOURCE, "stopped", Request.WORD_PEER_FENCED, word=3)
    assert (found.to, found.act) == ("rolled-back", Act.START_AFRESH)


def test_a_word_about_an_older_boot_is_refused() -> None:
    for state in ("migrating", "stopped"):
        assert "older boot" in str(on(SOURCE, state, Request.WORD_PEER_FENCED, word=2).refusal)
    assert "older boot" in str(on(TARGET, "promised", Request.WORD_PEER_FENCED, word=2).refusal)


def test_writes_to_a_mirror_are_lost_only_if_that_is_accepted() -> None:
    refused = on(SOURCE, "stopped", Request.WORD_PEER_FENCED, word=3, storage="mirror")
    assert "say that this is accepted" in str(refused.refusal)
    kept = entry(SOURCE, "stopped", storage="mirror")
    accepted = Situation(side=SOURCE, entry=kept, word=PeerFenced(3, accept_loss=True))
    assert decide(accepted, Request.WORD_PEER_FENCED).act is Act.START_AFRESH


@pytest.mark.parametrize("transfer", ["none", "active", "device", "failed", "cancelled"])
def test_a_source_is_stopped_only_when_all_was_sent(transfer: str) -> None:
    assert on(SOURCE, "migrating", Request.LOOK, transfer=transfer).to is None
    assert on(SOURCE, "migrating", Request.LOOK, transfer="completed").to == "stopped"


def test_a_source_that_ended_or_runs_is_not_stopped() -> None:
    assert on(SOURCE, "migrating", Request.LOOK, alive=False).to is None
    assert on(SOURCE, "migrating", Request.LOOK, transfer="completed", run=True).to is None


def test_the_transfer_of_an_earlier_migration_does_not_count() -> None:
    assert on(SOURCE, "migrating", Request.LOOK, transfer="completed", pending=Act.SEND).to is None


def test_a_disk_that_was_not_copied_keeps_the_source() -> None:
    done = Transfer(state=TransferState.COMPLETED, mirrors_ended=False)
    here = Situation(side=SOURCE, entry=entry(SOURCE, "migrating"), facts=Facts(alive=True, transfer=done))
    assert decide(here, Request.LOOK) == Decision()
    failed = replace(done, mirrors_ended=True, mirror_error="No space left on device")
    assert decide(replace(here, facts=Facts(alive=True, transfer=failed)), Request.LOOK) == Decision()


def test_a_target_that_may_have_run_is_never_destroyed() -> None:
    assert on(TARGET, "going", Request.LOOK, alive=False).to == "ran"
    assert "too late" in str(on(TARGET, "going", Request.CANCEL, alive=False).refusal)
    assert "too late" in str(
        on(TARGET, "ran", Request.CANCEL, Receipt.ROLLED_BACK).refusal or "its program runs: too late"
    )


def test_a_refused_run_destroys_the_target_but_not_after_postcopy() -> None:
    assert on(TARGET, "going", Request.LOOK, answer=Answer.REFUSED).to == "destroyed"
    assert on(TARGET, "going", Request.LOOK, answer=Answer.REFUSED, mode="postcopy").to is None


def test_a_promise_ends_only_with_the_source() -> None:
    assert on(TARGET, "promised", Request.CANCEL, mode="postcopy").refusal
    assert on(TARGET, "promised", Request.CANCEL, Receipt.ROLLED_BACK, mode="postcopy").to == "destroyed"


def test_a_source_that_allowed_postcopy_cancels_before_its_journal_says_so() -> None:
    found = on(SOURCE, "postcopy-allowed", Request.ROLL_BACK, mode="postcopy", transfer="active")
    assert (found.to, found.act) == (None, Act.CANCEL_TRANSFER)
    assert on(SOURCE, "postcopy-allowed", Request.ROLL_BACK, mode="postcopy", transfer="postcopy-active").refusal


def test_the_refusal_of_a_start_is_final() -> None:
    assert on(SOURCE, "none", Request.START, same_launch=False).final
    assert on(SOURCE, "rolled-back", Request.START).final
    assert not on(TARGET, "incoming", Request.FINISH).final


def test_an_instance_starts_only_where_no_migration_is_open() -> None:
    allowed = {
        (side, state) for side in Side for state in STATES[side] if not on(side, state, Request.AUTOSTART).refusal
    }
    ended = {(SOURCE, "none"), (SOURCE, "rolled-back"), (TARGET, "none"), (TARGET, "closed")}
    assert allowed == ended
    assert on(TARGET, "destroyed", Request.AUTOSTART, ended="fenced").refusal  # an operator starts it, not the node
    assert on(SOURCE, "rolled-back", Request.AUTOSTART, pending=Act.START_AFRESH).refusal


def test_dead_means_that_the_act_was_done() -> None:
    assert receipts_of(entry(TARGET, "destroyed", pending=Act.KILL), Facts()) == ()
    assert receipts_of(entry(TARGET, "destroyed"), Facts()) == (Receipt.DESTROYED,)
    assert receipts_of(entry(TARGET, "going"), Facts()) == ()
    assert receipts_of(entry(TARGET, "ran"), Facts()) == (Receipt.RUNNING, Receipt.ENDED)
    assert receipts_of(entry(TARGET, "ran"), Facts(alive=True)) == (Receipt.RUNNING,)


def test_an_act_that_was_cut_off_is_done_later() -> None:
    assert settle(entry(TARGET, "going", pending=Act.RUN), Facts(alive=True)) is Act.RUN
    assert settle(entry(TARGET, "going", pending=Act.RUN), Facts()) is Act.NONE
    assert settle(entry(TARGET, "going", MigrationMode.COLD, pending=Act.RUN), Facts()) is Act.RUN
    assert settle(entry(TARGET, "incoming", pending=Act.LAUNCH), Facts()) is Act.NONE
    assert settle(None, Facts()) is Act.NONE


def test_a_cold_migration_does_not_start_its_instance_after_a_restart_of_the_node() -> None:
    kept = entry(TARGET, "going", MigrationMode.COLD, pending=Act.RUN, own_boot=1)
    assert settle(kept, Facts(boot=2)) is Act.NONE
    here = Situation(side=TARGET, entry=kept, facts=Facts(boot=2))
    assert decide(here, Request.LOOK).to == "ran"


def test_an_entry_survives_its_json() -> None:
    kept = entry(TARGET, "going", pending=Act.RUN, created=("/srv/a.img",))
    assert decode(JournalEntry, encode(kept)) == kept
