"""Buttons and keys: those that the driver claims leave a legal state, the others are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hvcore.errors import InputError, NotFoundError, UnsupportedError
from hvcore.model.answers import Outcome
from hvcore.model.state import ACTIVE, ENDED, State
from hvcore.plugins.button_protocols import PowersDown, Resets, SendsKeys, SendsNmi
from hvcore.plugins.protocols import Pausable
from hvcore.testing.check import Bench, Level, Tier, check, require
from hvcore.testing.claims import claimed, claims, refused

__all__: tuple[str, ...] = ()

_NO_KEY: Final = "no_such_key"


@check(Level.CAPABILITY, Tier.LIVE)
def capability_reset(bench: Bench) -> None:
    """Claimed: a reset leaves a running instance running and a paused one paused. Otherwise: UnsupportedError.

    Why: A reset is the last means for a guest that hangs. One that also resumes a paused guest writes to its disks.
    """
    name = bench.name()
    if not claims(bench, Resets, "reset", lambda: bench.node.reset(name)):
        return
    with claimed("reset"):
        outcome = bench.node.reset(name)
    require(outcome.changed and outcome.state is State.RUNNING, f"a reset of a running instance ends with {outcome}")
    require(bench.info().state is State.RUNNING, f"is {bench.info().state} after a reset")
    if isinstance(bench.loaded.driver, Pausable):
        bench.node.pause(name)
        with claimed("reset"):
            bench.node.reset(name)
        require(bench.info().state is State.PAUSED, f"is {bench.info().state} after a reset while it was paused")


@check(Level.CAPABILITY, Tier.LIVE)
def capability_powerdown(bench: Bench) -> None:
    """Claimed: the power button returns at once, and the guest runs or shuts down. Otherwise: UnsupportedError.

    Why: A caller that presses the button of a hundred guests cannot wait for each. What the guest does is its own matter.
    """
    _press(bench, "powerdown", PowersDown, bench.node.powerdown)


@check(Level.CAPABILITY, Tier.LIVE)
def capability_send_key(bench: Bench) -> None:
    """Claimed: keys are pressed, and an unknown key is refused with InputError. Otherwise: UnsupportedError.

    Why: A key that is silently dropped leaves half of a password at a login prompt.
    """
    _press(bench, "send-key", SendsKeys, lambda name: bench.node.send_keys(name, "ctrl-alt-delete", "a"))
    if isinstance(bench.loaded.driver, SendsKeys) and bench.info().state is State.RUNNING:
        try:
            bench.node.send_keys(bench.name(), "a", _NO_KEY)
        except InputError:
            return
        require(False, f"presses a key {_NO_KEY!r}, which does not exist")


@check(Level.CAPABILITY, Tier.LIVE)
def capability_nmi(bench: Bench) -> None:
    """Claimed: an interrupt is sent, or refused for this machine. Otherwise: UnsupportedError.

    Why: A crash dump of a guest that hangs begins with this interrupt.
    """
    _press(bench, "nmi", SendsNmi, bench.node.nmi)


def _press(bench: Bench, what: str, protocol: type, act: Callable[[str], Outcome]) -> None:
    name = bench.name()
    bench.start()
    bench.subject.ready(bench.node, name)
    if not isinstance(bench.loaded.driver, protocol):
        refused(bench, what, lambda: act(name))
        return
    try:
        with claimed(what):
            outcome = act(name)
    except Exception as error:
        if isinstance(error.__cause__, UnsupportedError):  # of this machine
            return
        raise
    require(outcome.changed, f"{what} of a running instance says that it changed nothing")
    try:
        state = bench.info().state
    except NotFoundError:
        state = State.STOPPED
    require(state in (*ACTIVE, *ENDED), f"is {state} after {what}")
