"""In which states an instance can be, and the one table of legal moves.

Drivers supply actions, never checks: `judge` is called by the core before every operation.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from hvcore.errors import StateError

__all__ = ["TRANSITIONS", "Already", "Move", "Op", "State", "judge"]


class State(StrEnum):
    """The state of an instance as the node sees it.

    ``stopped``: nothing of it is on this node. ``starting`` and ``stopping``: an operation is at work, or died in the
    middle. ``shutdown``: the guest ended by itself. ``crashed``: it ended without being told to. ``unknown``: the node
    cannot tell, and says why.
    """

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    SHUTDOWN = "shutdown"
    CRASHED = "crashed"
    UNKNOWN = "unknown"


class Op(StrEnum):
    """What can be asked of an instance. ``kill`` is stop with force."""

    START = "start"
    STOP = "stop"
    KILL = "stop --force"
    PAUSE = "pause"
    RESUME = "resume"
    REBOOT = "reboot"
    CONSOLE = "console"
    EXEC = "exec"
    LOG = "log"
    CLEANUP = "cleanup"


@dataclass(frozen=True, slots=True)
class Move:
    """The operation is to be carried out and leads to ``to``."""

    to: State


@dataclass(frozen=True, slots=True)
class Already:
    """Nothing is to be done: the instance is where the operation leads. It ends with ``changed=False``."""

    state: State


_ENDED: Final = (State.SHUTDOWN, State.CRASHED)
_HALF: Final = (State.STARTING, State.STOPPING)

# (state, operation) -> what happens. A pair that is not here is refused with the operations that are.
TRANSITIONS: Final[dict[tuple[State, Op], Move | Already]] = {
    (State.STOPPED, Op.START): Move(State.RUNNING),
    (State.STOPPED, Op.STOP): Already(State.STOPPED),
    (State.STOPPED, Op.KILL): Already(State.STOPPED),
    (State.STOPPED, Op.CLEANUP): Already(State.STOPPED),
    (State.RUNNING, Op.START): Already(State.RUNNING),
    (State.RUNNING, Op.STOP): Move(State.STOPPED),
    (State.RUNNING, Op.KILL): Move(State.STOPPED),
    (State.RUNNING, Op.PAUSE): Move(State.PAUSED),
    (State.RUNNING, Op.RESUME): Already(State.RUNNING),
    (State.RUNNING, Op.REBOOT): Move(State.RUNNING),
    (State.RUNNING, Op.CONSOLE): Move(State.RUNNING),
    (State.RUNNING, Op.EXEC): Move(State.RUNNING),
    (State.PAUSED, Op.STOP): Move(State.STOPPED),
    (State.PAUSED, Op.KILL): Move(State.STOPPED),
    (State.PAUSED, Op.PAUSE): Already(State.PAUSED),
    (State.PAUSED, Op.RESUME): Move(State.RUNNING),
    (State.PAUSED, Op.REBOOT): Move(State.RUNNING),
    (State.PAUSED, Op.CONSOLE): Move(State.PAUSED),
    # What ended by itself is cleaned up on the way.
    **{(state, Op.START): Move(State.RUNNING) for state in _ENDED},
    **{(state, op): Move(State.STOPPED) for state in _ENDED for op in (Op.STOP, Op.KILL, Op.CLEANUP)},
    # Half-done and still half-done after recovery: something could not be released. Only letting go is legal.
    **{(state, op): Move(State.STOPPED) for state in _HALF for op in (Op.STOP, Op.KILL, Op.CLEANUP)},
    # Once there is something of it on this node, there is something to read.
    **{(state, Op.LOG): Move(state) for state in (*_HALF, *_ENDED, State.RUNNING, State.PAUSED)},
    (State.UNKNOWN, Op.KILL): Move(State.STOPPED),
}


def judge(name: str, state: State, op: Op) -> Move | Already:
    """What ``op`` means for an instance in ``state``. Raises `StateError` naming the legal operations."""
    verdict = TRANSITIONS.get((state, op))
    if verdict is None:
        allowed = [str(other) for other in Op if (state, other) in TRANSITIONS]
        raise StateError(name=name, state=str(state), operation=str(op), allowed=allowed)
    return verdict
