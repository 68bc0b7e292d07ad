"""What is known of the node's table of egress rules, in a file of the cache: how nft lists it, and when it was right.

The kernel counts the changes of all tables. While that number is the one at which the table was compared, or grew only by
a change of ours, the table needs no other look: each costs a process of nft.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from hvcore.errors import NodeError
from hvcore.frozen import dataclass
from hvcore.host.environment import Host
from hvcore.host.files import private_dir, read_regular, write_atomic
from hvcore.host.network.nft import generation, nft_key
from hvcore.host.processes.process import boot_id
from hvcore.model.network.egress_rules import rules_digest

__all__ = ["Before", "before", "digest_of_reference", "is_right", "remember"]

_FILE: Final = "egress-table.json"
_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Before:
    """The state before a change: the number and the digest of the reference, None if unknown; and whether the table was right."""

    number: int | None
    digest: str | None
    right: bool

    def changed(self, host: Host) -> None:
        """Keep that the table is still right after our change, if the kernel counts no other."""
        if self.right and self.number is not None and generation() == self.number + 1:
            remember(host, str(self.digest), self.number + 1)


def before(host: Host) -> Before:
    """The state now, before a change of ours."""
    number, kept = generation(), _read(host)
    return Before(number, _digest(kept), number is not None and number == _right_at(kept))


def is_right(host: Host) -> bool:
    """Whether the table is known to be as it has to be, with the elements of all guests of this run directory."""
    return before(host).right


def digest_of_reference(host: Host) -> str | None:
    """The digest of the table as this nft listed it when this release of hvcore had written it; None if unknown."""
    return _digest(_read(host))


def remember(host: Host, digest: str, number: int | None) -> None:
    """Keep the digest, and the number at which the table was right; None if it was not. Failing only costs time."""
    document = {"key": _key(), "digest": digest, "place": _place(), "right_at": number}
    with suppress(OSError, NodeError):
        write_atomic(private_dir(host.cache_dir) / _FILE, json.dumps(document).encode())


def _digest(kept: Mapping[str, Any]) -> str | None:
    found = kept.get("digest")
    return None if found is None else str(found)


def _right_at(kept: Mapping[str, Any]) -> int | None:
    number = kept.get("right_at") if kept.get("place") == _place() else None
    return number if isinstance(number, int) else None


def _read(host: Host) -> dict[str, Any]:
    with suppress(OSError, ValueError, RecursionError, NodeError):
        kept = json.loads(read_regular(Path(host.cache_dir, _FILE), limit=_BYTES))
        if isinstance(kept, dict) and kept.get("key") == _key():
            return kept
    return {}


def _key() -> list[object]:
    return [rules_digest(), *nft_key()]


def _place() -> list[object]:
    """The network namespace of this thread, to which the number belongs."""
    found = os.stat("/proc/thread-self/ns/net")
    return [boot_id(), found.st_dev, found.st_ino]
