"""What this node has for guests of QEMU: the binary, and whether KVM really runs one. Tried, and cached like any probe."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from hv_kvm.qemu.accelerator import kvm_works
from hv_kvm.qemu.probe import ProbeError, probe
from hvcore.plugin import Finding, Host, Severity, how_to_install

__all__ = ["examine"]

_KVM: Final = "/dev/kvm"


def examine(binary: str, host: Host) -> Iterator[Finding]:
    """The findings about the QEMU at ``binary``, the one that instances get which name no other."""
    if not os.path.exists(binary):
        todo = f"{how_to_install('qemu-system-x86')}, or set kvm_path for this node"
        yield Finding(subject=binary, severity=Severity.PROBLEM, what="is not installed on this node", todo=todo)
        return
    cache_dir = str(host.cache_dir) if host.run_dir.is_dir() else None
    try:
        facts = probe(binary, cache_dir=cache_dir)
    except ProbeError as error:
        yield Finding(subject=binary, severity=Severity.PROBLEM, what=str(error))
        return
    machines = len(facts.machines)
    yield Finding(subject=binary, severity=Severity.OK, what=f"QEMU {facts.version}, {machines} machine types")
    verdict = kvm_works(binary, cache_dir=cache_dir)
    if verdict.usable:
        yield Finding(subject=_KVM, severity=Severity.OK, what=verdict.reason)
    else:
        what = f"guests are emulated, which is slow: {verdict.reason}"
        todo = "enable virtualisation in the firmware, or nested on the host of this one, and load kvm_intel or kvm_amd"
        if os.path.exists(_KVM) and not os.access(_KVM, os.R_OK | os.W_OK):
            todo = "let this user open it: usermod -aG kvm USER, most often"
        yield Finding(subject=_KVM, severity=Severity.NOTE, what=what, todo=todo)
