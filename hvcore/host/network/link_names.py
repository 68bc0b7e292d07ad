"""The names of the links that hvcore makes on the node, and the mark that names their owner."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from hvcore.model.names import sha256_hex

__all__ = ["COMMUNICATION", "is_ours", "link_mark", "link_name", "owner_of_mark"]

COMMUNICATION: Final = "gnt.com."
"""The beginning of the names of links for a guest's communication with its node, which firewalls know from Ganeti."""

_PREFIX: Final = "hv"
_OUR_NAMES: Final = re.compile(rf"{_PREFIX}[0-9a-f]{{12}}|{re.escape(COMMUNICATION)}[0-9a-f]{{7}}")
_MARK_BYTES: Final = 255  # of an alias in Linux


def link_name(run_dir: Path, instance: str, key: str, *, prefix: str = _PREFIX) -> str:
    """A name that follows from run directory, instance and resource, of at most the 15 bytes that a link can have."""
    digest = sha256_hex(f"{os.path.realpath(run_dir)}\0{instance}\0{key}".encode())
    return f"{prefix}{digest[: min(12, 15 - len(prefix))]}"


def link_mark(run_dir: Path, instance: str, key: str) -> str:
    """The alias of the link: ``hvcore RUN_DIR INSTANCE KEY``, or its end if it is too long for the kernel."""
    whole = f"hvcore {os.path.realpath(run_dir)} {instance} {key}".encode()
    return whole[-_MARK_BYTES:].decode("utf-8", "ignore")


def owner_of_mark(run_dir: Path, mark: str) -> tuple[str, str] | None:
    """Instance and key of a mark of that run directory; None if it is of another, or was too long."""
    before = f"hvcore {os.path.realpath(run_dir)} "
    instance, _, key = mark.removeprefix(before).partition(" ")
    return (instance, key) if mark.startswith(before) else None


def is_ours(name: str, mark: str) -> bool:
    """Whether a link of that name and mark is of hvcore, of any run directory. The kernel has the end of a long mark."""
    return mark.startswith("hvcore ") or _OUR_NAMES.fullmatch(name) is not None
