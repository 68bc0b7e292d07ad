"""The table of the program that moves an instance: complete, unambiguous, and made of rules that exist."""

from __future__ import annotations

from itertools import product

import pytest

from hvcore.model.migration.entry import Side, SourceState, TargetState
from hvcore.model.migration.rules import RULES
from hvcore.model.migration.table import SOURCE_CLASSES, TABLE, TARGET_CLASSES, Kind, Row, Wish

SOURCES = list(dict.fromkeys(one.name for one in SOURCE_CLASSES))
TARGETS = list(dict.fromkeys(one.name for one in TARGET_CLASSES))


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("target", TARGETS)
def test_each_pair_of_classes_has_exactly_one_row(source: str, target: str) -> None:
    for wish in Wish:
        rows = [row for row in TABLE if source in row.source and target in row.target and wish in row.wishes]
        assert len(rows) == 1, (source, target, wish)


@pytest.mark.parametrize("row", TABLE, ids=[f"{' '.join(row.source)} x {' '.join(row.target)}" for row in TABLE])
def test_each_row_names_classes_and_requests_that_exist(row: Row) -> None:
    assert set(row.source) <= set(SOURCES)
    assert set(row.target) <= set(TARGETS)
    assert bool(row.asks) is (row.kind is Kind.ASK)
    for side, request in row.asks:
        assert any(rule.side is side and rule.request is request and rule.changes for rule in RULES)


@pytest.mark.parametrize("side", Side)
def test_each_state_has_a_class_without_conditions(side: Side) -> None:
    states = SourceState if side is Side.SOURCE else TargetState
    certain = {
        state
        for one in (SOURCE_CLASSES if side is Side.SOURCE else TARGET_CLASSES)
        for state in one.states
        if not one.given
    }
    assert certain == set(states)


def test_the_target_is_asked_to_cancel_before_the_source_rolls_back() -> None:
    for row in TABLE:
        sides = [side for side, _ in row.asks]
        assert sides in ([], [Side.SOURCE], [Side.TARGET], [Side.TARGET, Side.SOURCE])


def test_a_migration_ends_only_in_two_pairs() -> None:
    ends = {
        (s, t, row.kind)
        for row in TABLE
        for s, t in product(row.source, row.target)
        if row.kind in (Kind.MOVED, Kind.STAYED)
    }
    assert ends == {("gone", "closed", Kind.MOVED), ("rolled-back", "destroyed", Kind.STAYED)}
