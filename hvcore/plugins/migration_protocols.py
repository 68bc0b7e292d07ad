"""The methods of a driver whose instances can move to another node while they run. `hvcore.plugins.protocols` has the others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

from hvcore.errors import Problem
from hvcore.host.environment import Host, Live
from hvcore.model.migration.transfer import Landing, LandingWish, Offer, Transfer, Tuning
from hvcore.state.job import Job

__all__ = ["Migrates"]


@runtime_checkable
class Migrates(Protocol):
    """The driver can move a running instance to another node.

    The core decides, by the journals of both nodes, which of these methods is called, and may call each again after a crash:
    each does only what is not done yet. A job of the core holds the instance's lock.
    """

    def offer(self, live: Live) -> Offer:
        """What the target has to know of the instance. Changes nothing that the instance sees."""

    def refusals(self, spec: Any, host: Host, offer: Offer, wish: LandingWish) -> Iterable[Problem]:
        """Why this node cannot take the instance. `Driver.verify` has been asked before. Changes nothing."""

    def land(self, spec: Any, job: Job, offer: Offer, wish: LandingWish) -> Landing:
        """Start the instance as `Driver.start` does, but without its CPUs: it waits for its state.

        Called again, for the same job, it answers where the instance waits. Raise if it fails: the core undoes the ledger.
        """

    def send(self, live: Live, job: Job, landing: Landing, mode: str, tuning: Tuning) -> None:
        """Begin to send the state to where the instance waits; returns before it is there. Mode ``paused`` pauses it first."""

    def transfer(self, live: Live) -> Transfer:
        """How far the transfer is, on either side. Fast, without the lock, without changes. An ended instance has none."""

    def tune_transfer(self, live: Live, job: Job, tuning: Tuning) -> None:
        """Change the speed of a transfer that runs; its ``caps`` have to be None."""

    def continue_transfer(self, live: Live, job: Job) -> None:
        """On the source, in ``pre-switchover``: end the copies of disks, then let the switchover go on.

        A copy that failed cancels the transfer. Raises `OperationError` with the reason.
        """

    def cancel_transfer(self, live: Live, job: Job) -> None:
        """On the source: end the transfer, so that the instance can go on here. Does not let a paused instance run.

        A completed one ends too: the core calls this then only if the instance never runs on the target. From here on
        `transfer` does not say ``completed``. Raises `OperationError` after the switch to postcopy.
        """

    def switch_to_postcopy(self, live: Live, job: Job) -> None:
        """On the source: let the instance run on the target from now on, and send the rest of its memory on demand."""

    def run_landed(self, live: Live, job: Job) -> None:
        """On the target, when everything has arrived: let the instance run, or leave it paused if its record says so.

        Raises a plain `OperationError` only if the program refuses, which proves that it has never run here: the core then
        lets it go on at the source. If that is not certain, raise another error, such as `NodeError` or `DeadlineError`.
        """
