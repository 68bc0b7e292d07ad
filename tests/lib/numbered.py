"""A number to take, and the kinds of the core with the locks of such numbers in a directory of the test."""

from __future__ import annotations

from pathlib import Path

from hvcore.plugin import UniqueValue
from hvcore.resources.core_kinds import CORE_KINDS
from hvcore.resources.kinds import Kinds
from hvcore.resources.unique_value import UniqueValueKind

VALUE = UniqueValue(key="vsock.cid", given_by="params.vsock_cid", space="vsock-cid", value=None, first=3, last=9)


def kinds_with_locks(locks: Path) -> Kinds:
    """``locks`` is made when the first number is taken."""
    found = [kind for name in CORE_KINDS.names if (kind := CORE_KINDS.named(name)) is not None]
    own = [UniqueValueKind(locks) if isinstance(kind, UniqueValueKind) else kind for kind in found]
    return Kinds([("hvcore", kind) for kind in own])
