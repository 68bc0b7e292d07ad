"""What a guest sees of its machine: of one that is to start, and of one that runs, by its saved spec."""

from __future__ import annotations

import hvcore.plugin as hv
from hv_kvm.machine.abi import abi_of
from hv_kvm.machine.render import rendered
from hv_kvm.machine.spec import KvmSpec
from hv_kvm.qemu.cpu_words import cpu_words
from hv_kvm.resources.image_contents import disk_sizes
from hv_kvm.run.startup.describe import symbols
from hv_kvm.run.startup.start import pin

__all__ = ["guest_abi"]


def guest_abi(hooks: hv.Hooks, spec: KvmSpec, host: hv.Host) -> hv.Abi:
    """The facts about the machine on this node, with its disks and its QEMU. Raises `ProbeError`."""
    pinned = pin(spec, host)
    spec = pinned.spec
    bindings = symbols(hooks, spec, pinned.site, pinned.accel)
    found = rendered(hooks, spec, pinned.facts, bindings)
    cpu = next((option.argv for _, option in found if option.name == "-cpu"), ())
    words = cpu_words(spec.qemu, f"{spec.machine},accel={pinned.accel.name}", cpu, host=host)
    return abi_of(found, sizes=disk_sizes(spec), words=words)
