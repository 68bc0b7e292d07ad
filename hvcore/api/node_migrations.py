"""Moving the instances of a node to other nodes, and what both nodes of a migration are asked."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from threading import Event
from typing import TYPE_CHECKING, Unpack

from hvcore.deadline import Deadline
from hvcore.operations.context import CallOptions, Context

if TYPE_CHECKING:
    from hvcore.api.peers import PeerNode
    from hvcore.model.migration.entry import JournalEntry
    from hvcore.model.migration.messages import MigrationAnswer, MigrationRequest, MigrationSettings
    from hvcore.model.migration.transfer import Tuning
    from hvcore.operations.migration.coordinate import Migration, MigrationOutcome, MigrationProgress, Peer

__all__ = ["Migrations"]


class Migrations:
    """The migrations of a node's instances: `Node.migrations`."""

    def __init__(self, node: PeerNode, context: Context) -> None:
        self._node = node
        self._context = context

    def migrate(
        self,
        name: str,
        to: str | Peer,
        settings: MigrationSettings | None = None,
        *,
        wait: Callable[[float], bool] | None = None,
        progress: Callable[[MigrationProgress], None] = lambda _: None,
    ) -> MigrationOutcome:
        """Move a running instance to another node, ``ssh://[USER@]HOST[:PORT][/RUN_DIR]``, or to ``local:RUN_DIR``.

        ``wait`` waits that many seconds between two looks; ``threading.Event().wait`` is one. When it returns True, the
        migration is ended: the instance then stays, unless it runs on the target already. No error is raised for an instance
        that stays: see `MigrationOutcome.moved`.

        Raises `NotFoundError`, `StateError`, `BusyError`, `InputError` and `NodeError` before anything has begun, and
        `OperationError` if a node does not answer for a minute: then `resume` goes on later.
        """
        from hvcore.operations.migration.coordinate import begin  # noqa: PLC0415 - 40 ms, as in `answer`

        with ExitStack() as opened:
            return begin(self._migration(name, to, wait, progress, opened), settings)

    def resume(
        self,
        name: str,
        to: str | Peer | None = None,
        *,
        abort: bool = False,
        wait: Callable[[float], bool] | None = None,
        progress: Callable[[MigrationProgress], None] = lambda _: None,
    ) -> MigrationOutcome | None:
        """Bring an open migration of the instance to its end; None without one. This node is its source.

        ``to`` is the target, by default the one in this node's journal. With ``abort`` the instance stays here, unless it runs
        on the target already. Raises as `migrate` does.
        """
        from hvcore.errors import InputError  # noqa: PLC0415 - as below
        from hvcore.operations.migration.coordinate import take_over  # noqa: PLC0415 - 40 ms

        entry = self._context.journals.read(name).open
        if to is None and entry is None:
            return None
        if entry is not None and entry.side == "target":
            what = f"{name}: this node is the target of migration {entry.job}"
            raise InputError(f"{what}; use 'hv migrate {name} --resume' on {entry.peer}")
        with ExitStack() as opened:
            migration = self._migration(name, to or entry.peer, wait, progress, opened)  # type: ignore[union-attr]
            return take_over(migration, abort=abort)

    def _migration(
        self,
        name: str,
        to: str | Peer,
        wait: Callable[[float], bool] | None,
        progress: Callable[[MigrationProgress], None],
        opened: ExitStack,
    ) -> Migration:
        from hvcore.api.peers import LocalPeer, peer_of  # noqa: PLC0415 - 40 ms, as the next
        from hvcore.operations.migration.coordinate import Migration  # noqa: PLC0415 - as below

        target = opened.enter_context(closing(peer_of(to, self._node))) if isinstance(to, str) else to
        source = LocalPeer(self._node)
        return Migration(name=name, source=source, target=target, wait=wait or Event().wait, progress=progress)

    def tune(self, name: str, tuning: Tuning, *, deadline_s: float = 10.0, **options: Unpack[CallOptions]) -> None:
        """Change the speed of a migration in progress, on its source. Raises `NotFoundError` if none is in progress there."""
        from hvcore.operations.migration.tune import tune  # noqa: PLC0415 - 40 ms, as in `answer`

        tune(self._context.for_call(name, "tune", options), name, tuning, deadline=Deadline(deadline_s))

    def of(self, name: str) -> tuple[JournalEntry, ...]:
        """What this node's journal says of the instance's migrations, the oldest first. Raises `NodeError` for a damaged one."""
        return self._context.journals.read(name).entries if self._context.has_journals else ()

    def peer_fenced(
        self,
        name: str,
        boot: int,
        *,
        accept_loss: bool = False,
        deadline_s: float = 60.0,
        **options: Unpack[CallOptions],
    ) -> JournalEntry:
        """End the open migration of the instance by an operator's word that the other node is off.

        No program of that node's boot with number ``boot``, or of an earlier one, runs any more, and none will. The journal
        names the number: `JournalEntry.peer_boot`. A wrong word lets the instance run twice. With ``accept_loss``, what the
        target has written to its own copy of the disks may be lost. Raises `OperationError` if the word is not enough.
        """
        from hvcore.errors import NotFoundError, OperationError  # noqa: PLC0415 - as the next
        from hvcore.model.migration.entry import Request  # noqa: PLC0415 - 40 ms, as in `answer`
        from hvcore.model.migration.messages import MigrationRequest  # noqa: PLC0415 - as above

        entry = self._context.journals.read(name).open
        if entry is None:
            raise NotFoundError(name, hint="no migration of it is open here")
        request = MigrationRequest(
            request=Request.WORD_PEER_FENCED,
            side=entry.side,
            name=name,
            job=entry.job,
            boot=boot,
            accept_loss=accept_loss,
        )
        answer = self.answer(request, deadline_s=deadline_s, **options)
        if answer.refusal or answer.entry is None:
            raise OperationError(f"{name}: {answer.refusal}; see 'hv migrate {name} --status'")
        return answer.entry

    def forget(self, name: str, *, deadline_s: float = 10.0, **options: Unpack[CallOptions]) -> str | None:
        """Move this node's journal of the instance's migrations aside; where it is now, None without one.

        For an operator who has found out that the instance does not run on the other node: nothing else keeps it from running
        twice then. Raises `BusyError` and `NodeError`.
        """
        from hvcore.operations.migration.answer import forget  # noqa: PLC0415 - 40 ms

        return forget(self._context.for_call(name, "forget", options), name, deadline=Deadline(deadline_s))

    def answer(
        self, request: MigrationRequest, *, deadline_s: float = 120.0, **options: Unpack[CallOptions]
    ) -> MigrationAnswer:
        """This node's answer to one request of a migration. `migrate` asks both nodes until the migration has ended.

        Each request can be sent again, by any caller. A refusal is a part of the answer. Raises `BusyError`, `InputError`,
        `NodeError`, and the error of a program that does not answer.
        """
        from hvcore.operations.migration.answer import answer  # noqa: PLC0415 - 40 ms

        context = self._context.for_call(request.name, "migrate", options)
        return answer(context, request, deadline=Deadline(deadline_s))
