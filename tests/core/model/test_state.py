"""The table of legal moves, walked through completely."""

from __future__ import annotations

from itertools import product

import pytest

from hvcore import Op, State, StateError
from hvcore.model.state import TRANSITIONS, Already, Move, transition

PAIRS = list(product(State, Op))


@pytest.mark.parametrize(("state", "op"), PAIRS, ids=[f"{op} while {state}" for state, op in PAIRS])
def test_every_pair_is_a_move_or_already_so_or_refused_with_what_is_allowed(state: State, op: Op) -> None:
    known = TRANSITIONS.get((state, op))
    if known is not None:
        assert transition("web1", state, op) is known
        return
    with pytest.raises(StateError) as caught:
        transition("web1", state, op)
    allowed = [str(other) for other in Op if (state, other) in TRANSITIONS]
    assert caught.value.allowed == tuple(allowed)
    if op is Op.CLEANUP and str(Op.STOP) in allowed:
        assert str(caught.value) == f"web1: is {state}; use 'hv stop' first"
    else:
        assert str(caught.value) == f"web1: cannot {op} while {state}; allowed now: {', '.join(allowed)}"


def test_from_every_state_there_is_a_way_to_stopped() -> None:
    for state in State:
        assert transition("w", state, Op.KILL) in (Move(State.STOPPED), Already(State.STOPPED))


def test_what_is_already_so_changes_no_state() -> None:
    assert all(verdict.state is state for (state, _), verdict in TRANSITIONS.items() if isinstance(verdict, Already))


def test_a_running_instance_is_never_cleaned_up() -> None:
    for state in (State.RUNNING, State.PAUSED):
        with pytest.raises(StateError, match="use 'hv stop' first"):
            transition("web1", state, Op.CLEANUP)


def test_while_unknown_only_force_is_allowed() -> None:
    assert [op for op in Op if (State.UNKNOWN, op) in TRANSITIONS] == [Op.KILL]


@pytest.mark.parametrize("op", [Op.PAUSE, Op.RESUME, Op.REBOOT, Op.CONSOLE])
def test_nothing_but_start_and_letting_go_makes_sense_of_what_has_ended(op: Op) -> None:
    for state in (State.STOPPED, State.SHUTDOWN, State.CRASHED, State.STARTING, State.STOPPING):
        assert (state, op) not in TRANSITIONS
