"""Things that a guest needs of the node and does not hold: each is checked before a start, and some are steps of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hv_kvm.machine.resource import (
    BlockModule,
    BuiltInNetwork,
    DataFile,
    HostNetwork,
    KvmOnly,
    NotYet,
    NumaNodes,
    OnlineCpus,
    Outside,
    SecurityModel,
)
from hv_kvm.qemu.accelerator import accel_for
from hv_kvm.qemu.probe import ProbeError, missing_module, probe
from hvcore.plugin import Held, Level, Problem, Requirement, ResourceKind, Site, Step, Turn, cpu_sets, why_not_passt

__all__ = [
    "BlockModuleKind",
    "BuiltInNetworkKind",
    "DataFileKind",
    "HostNetworkKind",
    "KvmOnlyKind",
    "NotYetKind",
    "NumaNodesKind",
    "OnlineCpusKind",
    "OutsideKind",
    "SecurityModelKind",
]

_SHOWN: Final = 8  # of the CPUs that are missing


class SecurityModelKind(Requirement[SecurityModel], name="security-model", turn=Turn.WHO):
    """Only root can give the guest its own uid."""

    def verify(self, resource: SecurityModel, site: Site) -> Iterator[Problem]:
        """Only root can start a guest as another user."""
        if site.level is not Level.STRICT or site.host.privileged:
            return
        what = "needs root, to run the guest with its own uid"
        if resource.model in ("user", "pool"):
            todo = "run as root, or set security_model = 'none'"
            yield Problem(path=resource.where, what=what, got=repr(resource.model), todo=todo)
        else:
            todo = 'run as root, or set confinement = "user"'
            yield Problem(path="params.confinement", what=what, got="'strict'", todo=todo)


class NotYetKind(Requirement[NotYet], name="not-yet", turn=Turn.WHO):
    """A feature that no node has yet."""

    def verify(self, resource: NotYet, site: Site) -> Iterator[Problem]:
        """Always a problem: no node can provide the feature with this release."""
        yield Problem(path=resource.where, what=resource.what, got=resource.got, todo=resource.todo)


class OutsideKind(Requirement[Outside], name="outside", turn=Turn.FILE):
    """Something outside the sandbox."""

    def verify(self, resource: Outside, site: Site) -> Iterator[Problem]:
        """Works only without confinement."""
        if site.level is not Level.OFF:
            todo = 'remove it, or set confinement = "off"'
            yield Problem(path=resource.where, what=resource.reason, todo=todo)


class HostNetworkKind(Requirement[HostNetwork], name="network", turn=Turn.NETWORK):
    """Every node has one; the sandbox shares it with the guest's QEMU."""


class BuiltInNetworkKind(ResourceKind[BuiltInNetwork, None], name="built-in-network", turn=Turn.NETWORK):
    """Every QEMU has it. If it replaces passt, the plan and the outcome say why."""

    def describe(self, resource: BuiltInNetwork, site: Site) -> Iterator[Step]:
        """Why it replaces passt."""
        if resource.instead_of:
            yield Step(kind="network", what=self._why(resource))

    def acquire(self, resource: BuiltInNetwork, held: Held) -> None:
        """Nothing, but a note for the outcome."""
        if resource.instead_of:
            held.owner.remarks.append(self._why(resource))

    @staticmethod
    def _why(resource: BuiltInNetwork) -> str:
        nic = resource.key.partition(".")[0]
        why = why_not_passt(resource.instead_of) or "could not be used"
        return f"{nic} has QEMU's own user network (slirp), which is slower: passt {why}"


class DataFileKind(Requirement[DataFile], name="data-file", turn=Turn.FILE):
    """A file that is installed with QEMU."""

    def verify(self, resource: DataFile, site: Site) -> Iterator[Problem]:
        """The file must exist, if the data of this QEMU is in a usual place."""
        prefix = os.path.dirname(os.path.dirname(os.path.realpath(resource.qemu)))
        places = [place for place in (f"{prefix}/share/qemu", "/usr/share/qemu") if os.path.isdir(place)]
        files = [os.path.join(place, resource.path) for place in places]
        if not any(map(os.path.exists, files)) and any(os.path.isdir(os.path.dirname(file)) for file in files):
            got = repr(os.path.basename(resource.path))
            yield Problem(path=resource.where, what="is not part of this QEMU", got=got, todo="choose another")


class BlockModuleKind(Requirement[BlockModule], name="block-module", turn=Turn.FILE):
    """QEMU's drivers of network disks are often in separate packages."""

    def verify(self, resource: BlockModule, site: Site) -> Iterator[Problem]:
        """A QEMU that was built with the driver must be able to load it."""
        try:
            facts = probe(resource.qemu, cache_dir=str(site.host.cache_dir))
        except ProbeError:
            return  # the check of the binary reports it
        message = missing_module(resource.qemu, resource.driver) if resource.driver in facts.block_drivers else None
        if message is not None:
            what = f"this QEMU ({facts.version}) cannot load {resource.driver}: {message}"
            todo = "install its module (Debian: qemu-block-extra)"
            yield Problem(path=resource.where, what=what, todo=todo)


class KvmOnlyKind(Requirement[KvmOnly], name="kvm", turn=Turn.WHO):
    """A feature that software emulation lacks."""

    def verify(self, resource: KvmOnly, site: Site) -> Iterator[Problem]:
        """The guest must get KVM. If kvm_flag is ``enabled``, the driver reports a KVM that does not work."""
        if resource.kvm == "enabled":
            return
        accel = accel_for(resource.qemu, resource.kvm, site.host)
        if accel.name == "tcg":
            what = f"needs KVM, but this guest is emulated ({accel.why})"
            yield Problem(path=resource.where, what=what, todo="use another")


class OnlineCpusKind(Requirement[OnlineCpus], name="cpus", turn=Turn.PROGRAM):
    """CPUs of the node that the guest's vCPUs are pinned to."""

    def __init__(self, online: str = "/sys/devices/system/cpu/online") -> None:
        self._online = online

    def verify(self, resource: OnlineCpus, site: Site) -> Iterator[Problem]:
        """The node must have all of them online."""
        text = Path(self._online).read_text(encoding="ascii").strip()
        (online,) = cpu_sets(text)
        missing = frozenset[int]().union(*filter(None, cpu_sets(resource.mask))) - (online or frozenset())
        if missing:
            shown = ", ".join(map(str, sorted(missing)[:_SHOWN]))
            more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
            what = f"names CPUs that this node does not have online: {shown}{more}"
            yield Problem(path=resource.where, what=what, got=repr(resource.mask)[:80], todo=f"online are {text}")

    def describe(self, resource: OnlineCpus, site: Site) -> Iterator[Step]:
        """Where the vCPUs are pinned."""
        what = "each vCPU to its own set of CPUs" if ":" in resource.mask else "the whole process to CPUs"
        if resource.threads:
            what = f"the {resource.threads} threads to CPUs"
        yield Step(kind="pin", what=f"{what} {resource.mask}, before the guest runs")


class NumaNodesKind(Requirement[NumaNodes], name="numa-nodes", turn=Turn.PROGRAM):
    """NUMA nodes of the node, for the guest's memory."""

    def __init__(self, with_memory: str = "/sys/devices/system/node/has_memory") -> None:
        self._with_memory = with_memory

    def verify(self, resource: NumaNodes, site: Site) -> Iterator[Problem]:
        """The node must have memory in all of them."""
        try:
            text = Path(self._with_memory).read_text(encoding="ascii").strip()
        except FileNotFoundError:  # a kernel without NUMA
            text = "0"
        (wanted,), (found,) = cpu_sets(resource.nodes), cpu_sets(text)
        missing = sorted((wanted or frozenset()) - (found or frozenset()))
        if missing:
            what = f"names NUMA nodes without memory: {', '.join(map(str, missing[:_SHOWN]))}"
            yield Problem(path=resource.where, what=what, got=repr(resource.nodes)[:80], todo=f"with memory are {text}")

    def describe(self, resource: NumaNodes, site: Site) -> Iterator[Step]:
        """Where the memory comes from."""
        yield Step(kind="memory", what=f"from NUMA nodes {resource.nodes}")
