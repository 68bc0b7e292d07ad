"""What CPUID tells a guest: asked of a QEMU that never runs, and kept with the other answers about the binary.

The same CPU model can be another CPU in another QEMU: ``max`` of 7.2 and of 10.0 differ in seven registers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from hv_kvm.qemu import facts_cache
from hv_kvm.qemu.probe import asked
from hv_kvm.qmp.introspect import query_feature_words
from hvcore.plugin import Host

__all__ = ["cpu_words"]

_FORMAT: Final = 1
_DEADLINE_S: Final = 10.0


def cpu_words(binary: str, machine: str, cpu: tuple[str, ...], *, host: Host) -> Mapping[str, int]:
    """The CPU's feature words by register: with that ``-machine`` and those arguments for its CPU. Raises `ProbeError`.

    Under KVM they depend on the node's CPU too, whose flags are part of the key.
    """
    argv = ("-machine", machine, *cpu, "-m", "16")
    kind = f"words-{hashlib.sha256(' '.join(argv).encode()).hexdigest()[:16]}"
    key = [*facts_cache.binary_key(binary), _FORMAT, list(argv), _flags()]
    known = facts_cache.load(str(host.cache_dir), kind, key)
    if _is_words(known):
        return dict(known)
    found = asked(binary, argv, lambda client: query_feature_words(client, deadline_s=_DEADLINE_S))
    facts_cache.store(str(host.cache_dir), kind, key, found)
    return found


def _is_words(value: Any) -> bool:
    return isinstance(value, dict) and all(type(word) is int for word in value.values())


def _flags() -> str:
    """A digest of the flags of the node's first CPU."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            flags = next((line for line in file if line.startswith("flags")), "")
    except OSError:
        flags = ""
    return hashlib.sha256(flags.encode()).hexdigest()[:16]
