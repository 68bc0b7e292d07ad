"""What a rule of migration can depend on: a closed list of conditions, each with one function. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final

from hvcore.frozen import dataclass
from hvcore.model.migration.entry import Act, JournalEntry, MigrationMode, Side
from hvcore.model.migration.transfer import Transfer, TransferState

__all__ = ["CONDITIONS", "Answer", "Condition", "Facts", "PeerFenced", "Situation", "holds"]


class Answer(StrEnum):
    """What the program answered to the act of this operation."""

    NONE = "none"
    DONE = "done"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a node sees of an instance, under its lock.

    ``alive``: its program runs. A program that hangs is alive. ``absent``: the node has no record of it. ``same_launch``: it
    was not started again since the migration was planned. ``only_job``: no other migration of it is open on this node.
    ``boot`` is the number of the node's boot.
    """

    alive: bool = False
    absent: bool = False
    transfer: Transfer = Transfer()
    same_launch: bool = True
    only_job: bool = True
    boot: int = 0
    answer: Answer = Answer.NONE


@dataclass(frozen=True, slots=True)
class PeerFenced:
    """An operator's word that the peer is fenced: since its boot with number ``boot``, no program of that boot runs.

    ``accept_loss``: what the peer wrote to its own copy of the disks may be lost.
    """

    boot: int
    accept_loss: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """All that a node decides by, but for the receipts of the other node.

    ``entry`` is None for a migration that the node does not know; only then ``mode`` counts, which is that of the request.
    ``word`` goes with the request `word-peer-fenced`.
    """

    side: Side
    entry: JournalEntry | None
    facts: Facts = Facts()
    word: PeerFenced | None = None
    mode: MigrationMode = MigrationMode.LIVE

    @property
    def state(self) -> str:
        """The state of the journal."""
        return "none" if self.entry is None else self.entry.state

    @property
    def rebooted(self) -> bool:
        """Whether the node was restarted since the entry was made."""
        return self.entry is not None and self.facts.boot != self.entry.own_boot


class Condition(StrEnum):
    """A word in the tables of rules."""

    ALIVE = "alive"
    DEAD = "dead"
    ABSENT = "absent"
    ONLY_JOB = "only-job"
    SAME_LAUNCH = "same-launch"
    SETTLED = "settled"
    CPUS_RUN = "cpus-run"
    CPUS_STOPPED = "cpus-stopped"
    UNDER_WAY = "under-way"
    AT_SWITCHOVER = "at-switchover"
    COMPLETED = "completed"
    SWITCHED = "switched"
    SENT_ALL = "sent-all"
    BROKEN = "broken"
    HAS_ALL = "has-all"
    MIRRORS_ENDED = "mirrors-ended"
    PRECOPY = "precopy"
    POSTCOPY = "postcopy"
    COLD = "cold"
    NOT_COLD = "not-cold"
    ACT_OVER = "act-over"
    ACT_REFUSED = "act-refused"
    FENCED = "fenced"
    LOSS_KNOWN = "loss-known"


UNDER_WAY: Final = frozenset(
    {
        TransferState.SETUP,
        TransferState.ACTIVE,
        TransferState.PRE_SWITCHOVER,
        TransferState.DEVICE,
        TransferState.CANCELLING,
    }
)
SWITCHED: Final = frozenset(
    {TransferState.POSTCOPY_ACTIVE, TransferState.POSTCOPY_PAUSED, TransferState.POSTCOPY_RECOVER}
)
BROKEN: Final = frozenset({TransferState.FAILED, TransferState.CANCELLED})


def _mode(here: Situation) -> MigrationMode:
    return here.mode if here.entry is None else here.entry.mode


def _has_all(here: Situation) -> bool:
    """On the target: everything that the instance needs to run has arrived."""
    if _mode(here) is MigrationMode.COLD:
        return _settled(here)
    state = here.facts.transfer.state
    arrived = state is TransferState.COMPLETED or (_mode(here) is MigrationMode.POSTCOPY and state in SWITCHED)
    return here.facts.alive and arrived


def _settled(here: Situation) -> bool:
    return here.entry is None or here.entry.pending is Act.NONE


def _act_over(here: Situation) -> bool:
    """The act was done, by this operation or an earlier one, or it cannot be done any more."""
    answer = here.facts.answer
    return answer is Answer.DONE or (answer is Answer.NONE and (_settled(here) or here.rebooted))


def _fenced(here: Situation) -> bool:
    """The word is about the boot in which the peer took part, or about a later one. Without an entry it is about any."""
    return here.word is not None and (here.entry is None or here.word.boot >= here.entry.peer_boot)


def _loss_known(here: Situation) -> bool:
    shared = here.entry is None or here.entry.storage == "shared"
    return shared or (here.word is not None and here.word.accept_loss)


CONDITIONS: Final[Mapping[Condition, tuple[Callable[[Situation], bool], str]]] = {
    Condition.ALIVE: (lambda here: here.facts.alive, "its program does not run"),
    Condition.DEAD: (lambda here: not here.facts.alive, "its program runs"),
    Condition.ABSENT: (lambda here: here.facts.absent, "an instance of that name exists here"),
    Condition.ONLY_JOB: (lambda here: here.facts.only_job, "another migration of it is open here"),
    Condition.SAME_LAUNCH: (
        lambda here: here.facts.same_launch,
        "it was started again since the migration was planned",
    ),
    Condition.SETTLED: (_settled, "what its journal asks for is not done yet"),
    Condition.CPUS_RUN: (lambda here: here.facts.transfer.cpus_run, "it is paused"),
    Condition.CPUS_STOPPED: (lambda here: not here.facts.transfer.cpus_run, "it runs"),
    Condition.UNDER_WAY: (lambda here: here.facts.transfer.state in UNDER_WAY, "no transfer is in progress"),
    Condition.AT_SWITCHOVER: (
        lambda here: here.facts.transfer.state is TransferState.PRE_SWITCHOVER,
        "its transfer does not wait for its disks",
    ),
    Condition.COMPLETED: (
        lambda here: here.facts.transfer.state is TransferState.COMPLETED,
        "its transfer is not completed",
    ),
    Condition.SWITCHED: (lambda here: here.facts.transfer.state in SWITCHED, "it was not switched to postcopy"),
    Condition.SENT_ALL: (
        lambda here: here.facts.transfer.state not in SWITCHED,
        "the target still needs memory from here",
    ),
    Condition.BROKEN: (lambda here: here.facts.transfer.state in BROKEN, "its transfer did not fail"),
    Condition.HAS_ALL: (_has_all, "not all of it has arrived"),
    Condition.MIRRORS_ENDED: (
        lambda here: here.facts.transfer.mirrors_ended and here.facts.transfer.mirror_error is None,
        "its disks are not copied without an error",
    ),
    Condition.PRECOPY: (
        lambda here: _mode(here) in {MigrationMode.LIVE, MigrationMode.PAUSED},
        "its mode is not live or paused",
    ),
    Condition.POSTCOPY: (lambda here: _mode(here) is MigrationMode.POSTCOPY, "its mode is not postcopy"),
    Condition.COLD: (lambda here: _mode(here) is MigrationMode.COLD, "its mode is not cold"),
    Condition.NOT_COLD: (lambda here: _mode(here) is not MigrationMode.COLD, "its mode is cold"),
    Condition.ACT_OVER: (_act_over, "its program has not answered"),
    Condition.ACT_REFUSED: (lambda here: here.facts.answer is Answer.REFUSED, "its program has not refused"),
    Condition.FENCED: (_fenced, "the word is about an older boot of the peer; fence the peer again"),
    Condition.LOSS_KNOWN: (
        _loss_known,
        "the target has its own copy of the disks, and what it wrote there would be lost; say that this is accepted",
    ),
}
"""Each condition with its function, and the words for a request that is refused because it does not hold."""


def holds(condition: Condition, here: Situation) -> bool:
    """Whether the condition holds."""
    return CONDITIONS[condition][0](here)
