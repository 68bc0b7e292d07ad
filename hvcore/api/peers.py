"""The nodes of a migration, as the program that moves an instance reaches them: this one, or another one by ssh."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any, Final, Protocol, Self

from hvcore.deadline import Deadline
from hvcore.errors import InputError, NodeError, OperationError
from hvcore.host.remote_command import RemoteCommand
from hvcore.model.migration.messages import MigrationAnswer, MigrationRequest

__all__ = ["LocalPeer", "PeerNode", "SshPeer", "peer_of"]

_ANSWER_S: Final = 120.0
_LOCAL: Final = "local:"
_SSH: Final = re.compile(
    r"ssh://(?P<host>(?:[\w.-]+@)?(?:[\w.-]+|\[[0-9a-fA-F:.]+\]))(?::(?P<port>\d{1,5}))?(?P<run_dir>/.*)?"
)
_OPTIONS: Final = ("-T", "-oBatchMode=yes", "-oServerAliveInterval=5", "-oServerAliveCountMax=3")


class _Migrations(Protocol):
    """The part of `hvcore.Migrations` that answers."""

    def answer(self, request: MigrationRequest, *, deadline_s: float) -> MigrationAnswer:
        """The node's answer."""


class PeerNode(Protocol):
    """The part of `hvcore.Node` that is needed."""

    run_dir: Path

    @property
    def migrations(self) -> _Migrations:
        """What answers."""

    def beside(self, run_dir: str) -> Self:
        """Another run directory."""


class LocalPeer:
    """A run directory of this node."""

    def __init__(self, node: PeerNode, *, answer_s: float = _ANSWER_S) -> None:
        self._node = node
        self._answer_s = answer_s

    @property
    def name(self) -> str:
        """``local:`` and the run directory."""
        return f"{_LOCAL}{self._node.run_dir}"

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer of `hvcore.Migrations.answer`."""
        return self._node.migrations.answer(MigrationRequest.from_json(request), deadline_s=self._answer_s).to_json()

    def close(self) -> None:
        """Nothing is open."""


class SshPeer:
    """Another node: one ssh connection runs ``hv migrate-node`` there, as long as the migration is in progress.

    Nothing listens there. ssh has to work without a question: with a key, or an agent.
    """

    def __init__(self, url: str, *, answer_s: float = _ANSWER_S) -> None:
        found = _SSH.fullmatch(url)
        if found is None:
            raise InputError(
                f"{url!r:.200}: is not a node; give ssh://HOST, ssh://USER@HOST:PORT/RUN_DIR or local:RUN_DIR"
            )
        run_dir = ("--run-dir", found["run_dir"]) if found["run_dir"] else ()
        port = ("-p", found["port"]) if found["port"] else ()
        remote = shlex.join(("hv", *run_dir, "migrate-node"))
        host = found["host"].replace("[", "").replace("]", "")
        self.name = url
        self._answer_s = answer_s
        self._command = RemoteCommand(("ssh", *_OPTIONS, *port, "--", host, remote), subject=url)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer of hv there. Raises `NodeError` without a connection, and `OperationError` for an error of hv there."""
        line = self._command.ask(json.dumps(request), Deadline(self._answer_s))
        try:
            answer = json.loads(line)
        except ValueError as error:
            raise NodeError(f"{self.name}: does not answer as hv, got {line!r:.80}; check hv there") from error
        if isinstance(answer, dict) and "error" in answer:
            raise OperationError(f"{self.name}: {answer.get('message')}")
        if not isinstance(answer, dict):
            raise NodeError(f"{self.name}: does not answer as hv, got {line!r:.80}; check hv there")
        return answer

    def close(self) -> None:
        """End the connection."""
        self._command.close()


def peer_of(url: str, node: PeerNode) -> LocalPeer | SshPeer:
    """The node that is meant by ``ssh://HOST`` or ``local:RUN_DIR``. Raises `InputError`."""
    if not url.startswith(_LOCAL):
        return SshPeer(url)
    run_dir = url.removeprefix(_LOCAL)
    if not os.path.isabs(run_dir):
        raise InputError(f"{url!r:.200}: its run directory is not an absolute path; give local:/run/other")
    other = node.beside(run_dir)
    if other.run_dir == node.run_dir:
        raise InputError(f"{url!r:.200}: is the run directory of the instance; give another one")
    return LocalPeer(other)
