"""The states of an instance, and the table of the operations that are legal in each.

Drivers supply actions, never checks: the core calls `transition` before every operation.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from hvcore.errors import StateError
from hvcore.frozen import dataclass

__all__ = ["ACTIVE", "ENDED", "TRANSITIONS", "Already", "EndedBy", "Move", "Op", "State", "transition"]


class State(StrEnum):
    """The state of an instance as the node sees it.

    ``stopped``: it holds nothing on this node. ``starting`` and ``stopping``: an operation is in progress, or was
    interrupted. ``shutdown``: the guest shut down. ``crashed``: it ended in any other way. ``unknown``: the node cannot
    find out, and gives a reason.
    """

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    SHUTDOWN = "shutdown"
    CRASHED = "crashed"
    UNKNOWN = "unknown"


class EndedBy(StrEnum):
    """Who or what ended an instance.

    ``guest``: the guest shut down on its own. ``powerdown``: it shut down after its power button was pressed. ``panic``: its
    operating system crashed. ``crash``: the program that runs it failed. ``killed``: that program was killed by a signal.
    ``outside``: that program was asked to exit, by a signal or over its monitor. ``node``: the node was restarted.
    ``reboot``: a reboot stopped it and could not start it again. ``stop``: hvcore stopped it, which only an event says.
    """

    GUEST = "guest"
    POWERDOWN = "powerdown"
    PANIC = "panic"
    CRASH = "crash"
    KILLED = "killed"
    OUTSIDE = "outside"
    NODE = "node"
    REBOOT = "reboot"
    STOP = "stop"
    UNKNOWN = "unknown"


class Op(StrEnum):
    """An operation on an instance. ``kill`` is stop with force."""

    START = "start"
    STOP = "stop"
    KILL = "stop --force"
    PAUSE = "pause"
    RESUME = "resume"
    REBOOT = "reboot"
    CONSOLE = "console"
    EXEC = "exec"
    LOG = "log"
    CONSOLE_LOG = "console --log"
    CLEANUP = "cleanup"
    RESET = "reset"
    POWERDOWN = "powerdown"
    SEND_KEY = "send-key"
    NMI = "nmi"
    ATTACH = "attach"
    DETACH = "detach"
    BALLOON = "balloon"
    MEMORY = "memory"
    VCPUS = "vcpus"
    PIN = "pin"
    ABI = "abi"
    UPGRADE_CHECK = "upgrade-check"
    INSERT = "insert"
    EJECT = "eject"
    RESIZE = "resize"
    MODIFY = "modify"
    SCREENSHOT = "screenshot"
    MIGRATE = "migrate"
    VNC_PASSWORD = "vnc-password"  # noqa: S105 - the name of an operation


@dataclass(frozen=True, slots=True)
class Move:
    """The operation is carried out and leads to ``to``."""

    to: State


@dataclass(frozen=True, slots=True)
class Already:
    """The instance is already in the state that the operation leads to: the outcome has ``changed=False``."""

    state: State


ACTIVE: Final = (State.RUNNING, State.PAUSED)
ENDED: Final = (State.SHUTDOWN, State.CRASHED)
"""It has ended, and still holds what it held."""
_HALF: Final = (State.STARTING, State.STOPPING)

_ON_DEVICES: Final = (Op.ATTACH, Op.DETACH, Op.INSERT, Op.EJECT, Op.RESIZE, Op.MODIFY)

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
    **{(state, op): Move(state) for state in ACTIVE for op in _ON_DEVICES},
    **{(state, op): Move(state) for state in ACTIVE for op in (Op.SCREENSHOT, Op.VNC_PASSWORD)},
    # The rest of an ended instance is released on the way.
    **{(state, Op.START): Move(State.RUNNING) for state in ENDED},
    **{(state, op): Move(State.STOPPED) for state in ENDED for op in (Op.STOP, Op.KILL, Op.CLEANUP)},
    # Interrupted, and still so after recovery: something could not be released. Only releasing is legal.
    **{(state, op): Move(State.STOPPED) for state in _HALF for op in (Op.STOP, Op.KILL, Op.CLEANUP)},
    # An instance that has a record has a log, and a machine.
    **{(state, op): Move(state) for state in (*_HALF, *ENDED, *ACTIVE) for op in (Op.LOG, Op.CONSOLE_LOG, Op.ABI)},
    # The guest has to take part in a change of its size, so it has to run.
    **{(State.RUNNING, op): Move(State.RUNNING) for op in (Op.BALLOON, Op.MEMORY, Op.VCPUS)},
    **{(state, op): Move(state) for state in ACTIVE for op in (Op.PIN, Op.UPGRADE_CHECK)},
    **{(state, op): Move(state) for state in ACTIVE for op in (Op.RESET, Op.MIGRATE)},
    # A paused guest cannot react to a button or a key.
    **{(State.RUNNING, op): Move(State.RUNNING) for op in (Op.POWERDOWN, Op.SEND_KEY, Op.NMI)},
    (State.SHUTDOWN, Op.POWERDOWN): Already(State.SHUTDOWN),
    (State.UNKNOWN, Op.KILL): Move(State.STOPPED),
}


def transition(name: str, state: State, op: Op) -> Move | Already:
    """What ``op`` does to an instance in ``state``. Raises `StateError` naming the legal operations."""
    verdict = TRANSITIONS.get((state, op))
    if verdict is None:
        allowed = [str(other) for other in Op if (state, other) in TRANSITIONS]
        raise StateError(name=name, state=str(state), operation=str(op), allowed=allowed)
    return verdict
