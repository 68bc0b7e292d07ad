"""The rules and the table, searched by spin: what must never happen does not, and each rule is needed for that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from migration_model.check import Configuration, available, check
from migration_model.configurations import LARGE, SMALL
from migration_model.generate import Model

from hvcore.model.migration.entry import Act, Request, SourceState
from hvcore.model.migration.rule import Rule
from hvcore.model.migration.rules import RULES
from hvcore.model.migration.situation import Condition

pytestmark = pytest.mark.skipif(not available(), reason="no spin and gcc: ./dev setup")

_S = SourceState


@pytest.mark.parametrize(
    "configuration", [one for one in SMALL if one.mode in {"live", "postcopy"}], ids=lambda one: one.mode
)
def test_no_instance_runs_twice_or_goes_back_or_is_lost(configuration: Configuration) -> None:
    """Every order of messages, crashes of the caller and two faults. Each migration comes to an end, too."""
    found = check(replace(configuration, faults=1))
    assert found.failed is None
    assert found.states > 2000


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("configuration", [*SMALL, *LARGE], ids=lambda one: " ".join(one.switches))
def test_the_same_with_more_faults_and_two_migrations(configuration: Configuration) -> None:
    assert check(configuration, optimize=True).failed is None


def without(wrong: Callable[[Rule], Rule]) -> Model:
    """The model with rules that are changed."""
    changed = tuple(map(wrong, RULES))
    assert changed != RULES
    return Model(rules=changed)


def _is(rule: Rule, request: Request, state: str) -> bool:
    return rule.request is request and state in rule.states


def no_receipt_to_roll_back(rule: Rule) -> Rule:
    """A source that has stopped goes on by the word of the caller alone."""
    return replace(rule, receipts=()) if _is(rule, Request.ROLL_BACK, _S.STOPPED) else rule


def fenced_goes_on(rule: Rule) -> Rule:
    """A source that has stopped goes on with its memory when the target is fenced, although the target may have run."""
    return replace(rule, act=Act.CANCEL_AND_RUN) if _is(rule, Request.WORD_PEER_FENCED, _S.STOPPED) else rule


def dead_has_stopped(rule: Rule) -> Rule:
    """A source whose program has ended counts as stopped, although it may have gone on before."""
    both = rule.request is Request.LOOK and _S.MIGRATING in rule.states and rule.to == _S.STOPPED
    return replace(rule, given=(Condition.SETTLED,)) if both and Condition.COLD not in rule.given else rule


def mirrors_do_not_count(rule: Rule) -> Rule:
    """A source counts as stopped although its disks were not copied."""
    given = tuple(one for one in rule.given if one is not Condition.MIRRORS_ENDED)
    return replace(rule, given=given)


@pytest.mark.parametrize(
    ("model", "defines"),
    [
        pytest.param(without(no_receipt_to_roll_back), (), id="no receipt to roll back"),
        pytest.param(without(fenced_goes_on), ("FENCES",), id="fenced goes on", marks=pytest.mark.slow),
        pytest.param(Model(), ("FENCES", "ANY_WORD"), id="a word names no boot", marks=pytest.mark.slow),
        pytest.param(without(dead_has_stopped), (), id="dead has stopped", marks=pytest.mark.slow),
        pytest.param(Model(), ("REBOOTS", "RECKLESS_AUTOSTART"), id="autostart", marks=pytest.mark.slow),
        pytest.param(Model(), ("REBOOTS", "NO_FSYNC"), id="no fsync", marks=pytest.mark.slow),
        pytest.param(
            without(mirrors_do_not_count),
            ("MIRROR", "MIRROR_SILENT"),
            id="mirrors do not count",
            marks=pytest.mark.slow,
        ),
        pytest.param(Model(), ("RUNNING_IS_ALIVE",), id="running needs a program", marks=pytest.mark.slow),
    ],
)
def test_without_a_rule_something_goes_wrong(model: Model, defines: tuple[str, ...]) -> None:
    faults = 3 if {"FENCES", "REBOOTS"} & set(defines) else 2
    found = check(Configuration(faults=faults, defines=defines, model=model), trace=True)
    assert found.failed is not None
    assert found.trace
