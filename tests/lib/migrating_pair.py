"""Two run directories of one node, as the two nodes of a migration, and a peer that notes what it is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hvcore import InstanceInfo, LocalPeer, MigrationOutcome, MigrationSettings, Node
from hvcore.model.migration.entry import JournalEntry

UIDS = range(1_880_000_000, 1_880_000_100)


@dataclass(frozen=True)
class Pair:
    """The source, where web1 runs at first, and the target."""

    source: Node
    target: Node

    @property
    def to(self) -> str:
        return f"local:{self.target.run_dir}"

    def migrate(self, settings: MigrationSettings | None = None, **options: Any) -> MigrationOutcome:
        return self.source.migrations.migrate("web1", self.to, settings, **options)

    def states(self) -> tuple[str, str]:
        """The states of the newest entries of both journals."""
        return state_of(self.source.migrations.of("web1")), state_of(self.target.migrations.of("web1"))

    def where(self) -> dict[str, str]:
        """The instances named web1, by side, with their states."""
        sides = {"source": self.source, "target": self.target}
        return {side: str(info.state) for side, node in sides.items() for info in mine(node)}


def state_of(entries: tuple[JournalEntry, ...]) -> str:
    return str(entries[-1].state) if entries else "none"


def mine(node: Node) -> list[InstanceInfo]:
    return [info for info in node.instances() if info.name == "web1"]


def pair_in(place: Path) -> Pair:
    source = Node(place / "source", state_dir=place / "state", config_dir=place / "config", uid_pool=UIDS)
    return Pair(source, source.beside(place / "target"))


class Recorded:
    """A peer that notes what it is asked, and does ``before`` with each request first."""

    def __init__(self, node: Node, before: Callable[[str], None] = lambda _: None) -> None:
        self._peer = LocalPeer(node)
        self._before = before
        self.asked: list[str] = []

    @property
    def name(self) -> str:
        return self._peer.name

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(request["request"])
        self._before(request["request"])
        return self._peer.ask(request)
