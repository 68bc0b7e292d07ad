"""What a guest needs of the node and does not hold: each is checked before a start, and shown where it is a step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hv_kvm.machine.resource import (
    BlockModule,
    DataFile,
    HostNetwork,
    KvmOnly,
    NotYet,
    OnlineCpus,
    Outside,
    SecurityModel,
    Tap,
    TapFds,
)
from hv_kvm.qemu.accelerator import accel_for
from hv_kvm.qemu.probe import ProbeError, missing_module, probe
from hvcore.plugin import Held, Level, OperationError, Problem, Requirement, ResourceKind, Site, Step, Turn, cpu_sets

__all__ = [
    "BlockModuleKind",
    "DataFileKind",
    "HostNetworkKind",
    "KvmOnlyKind",
    "NotYetKind",
    "OnlineCpusKind",
    "OutsideKind",
    "SecurityModelKind",
    "TapKind",
]


class SecurityModelKind(Requirement[SecurityModel], name="security-model", turn=Turn.WHO):
    """A uid of the guest's takes root to give."""

    def verify(self, resource: SecurityModel, site: Site) -> Iterator[Problem]:
        """Only root can start a guest as another user."""
        if site.level is not Level.STRICT or site.host.privileged:
            return
        what = "needs root for a uid of its own"
        if resource.model in ("user", "pool"):
            todo = "run as root, or set security_model = 'none'"
            yield Problem(path=resource.where, what=what, got=repr(resource.model), todo=todo)
        else:
            todo = 'run as root, or set confinement = "user"'
            yield Problem(path="params.confinement", what=what, got="'strict'", todo=todo)


class NotYetKind(Requirement[NotYet], name="not-yet", turn=Turn.WHO):
    """No node has it."""

    def verify(self, resource: NotYet, site: Site) -> Iterator[Problem]:
        """It is always refused."""
        yield Problem(path=resource.where, what=resource.what, got=resource.got, todo=resource.todo)


class OutsideKind(Requirement[Outside], name="outside", turn=Turn.FILE):
    """The sandbox keeps QEMU from it."""

    def verify(self, resource: Outside, site: Site) -> Iterator[Problem]:
        """It works only without confinement."""
        if site.level is not Level.OFF:
            todo = 'leave it out, or set confinement = "off"'
            yield Problem(path=resource.where, what=resource.reason, todo=todo)


class HostNetworkKind(Requirement[HostNetwork], name="network", turn=Turn.NETWORK):
    """Every node has it: the sandbox is told to share it."""


class DataFileKind(Requirement[DataFile], name="data-file", turn=Turn.FILE):
    """The binary should have brought it."""

    def verify(self, resource: DataFile, site: Site) -> Iterator[Problem]:
        """It has to be there, as far as the data of this QEMU is in a usual place."""
        prefix = os.path.dirname(os.path.dirname(os.path.realpath(resource.qemu)))
        places = [place for place in (f"{prefix}/share/qemu", "/usr/share/qemu") if os.path.isdir(place)]
        files = [os.path.join(place, resource.path) for place in places]
        if not any(map(os.path.exists, files)) and any(os.path.isdir(os.path.dirname(file)) for file in files):
            got = repr(os.path.basename(resource.path))
            yield Problem(path=resource.where, what="is nothing that this QEMU brings", got=got, todo="choose another")


class BlockModuleKind(Requirement[BlockModule], name="block-module", turn=Turn.FILE):
    """What reads a disk over the network is often in a package of its own."""

    def verify(self, resource: BlockModule, site: Site) -> Iterator[Problem]:
        """A QEMU that was built with the driver has to be able to load it."""
        try:
            facts = probe(resource.qemu, cache_dir=str(site.host.cache_dir))
        except ProbeError:
            return  # the check of the binary says so
        said = missing_module(resource.qemu, resource.driver) if resource.driver in facts.block_drivers else None
        if said is not None:
            what = f"this QEMU ({facts.version}) cannot load {resource.driver}: {said}"
            todo = "install its module (Debian: qemu-block-extra)"
            yield Problem(path=resource.where, what=what, todo=todo)


class KvmOnlyKind(Requirement[KvmOnly], name="kvm", turn=Turn.WHO):
    """Software emulation cannot do it."""

    def verify(self, resource: KvmOnly, site: Site) -> Iterator[Problem]:
        """The guest has to get KVM. One that insists on it is told elsewhere when it does not work."""
        if resource.kvm == "enabled":
            return
        accel = accel_for(resource.qemu, resource.kvm, site.host)
        if accel.name == "tcg":
            what = f"needs KVM, and this guest gets none ({accel.why})"
            yield Problem(path=resource.where, what=what, todo="use another")


class OnlineCpusKind(Requirement[OnlineCpus], name="cpus", turn=Turn.PROGRAM):
    """The guest's processors are pinned to some of the node's."""

    def __init__(self, online: str = "/sys/devices/system/cpu/online") -> None:
        self._online = online

    def verify(self, resource: OnlineCpus, site: Site) -> Iterator[Problem]:
        """The node has to have all of them, switched on."""
        text = Path(self._online).read_text(encoding="ascii").strip()
        (there,) = cpu_sets(text)
        missing = frozenset[int]().union(*filter(None, cpu_sets(resource.mask))) - (there or frozenset())
        if missing:
            what = f"names CPUs that this node does not have online: {', '.join(map(str, sorted(missing)[:8]))}"
            yield Problem(path=resource.where, what=what, got=repr(resource.mask)[:80], todo=f"it has {text}")

    def describe(self, resource: OnlineCpus, site: Site) -> Iterator[Step]:
        """Which processors they are pinned to."""
        whom = "each processor to its own of CPUs" if ":" in resource.mask else "the whole process to CPUs"
        yield Step(kind="pin", what=f"{whom} {resource.mask}, before the guest runs")


class TapKind(ResourceKind[Tap, TapFds], name="tap", turn=Turn.NETWORK):
    """A tap device of the node. This release checks and renders it, and cannot make it."""

    _WHAT: Final = "needs a tap, which this release of hv-kvm does not make"

    def verify(self, resource: Tap, site: Site) -> Iterator[Problem]:
        """Always refused."""
        yield Problem(path=resource.where, what=self._WHAT, got=repr(resource.mode), todo="use mode 'user'")

    def placeholder(self, resource: Tap, site: Site) -> TapFds:
        """Symbols for the descriptors. Only the node knows whether it has vhost; a plan assumes that it does."""
        nic = resource.key.removesuffix(".tap")
        names = [nic + (f".{queue}" if resource.queues > 1 else "") for queue in range(resource.queues)]
        vhost = tuple(f"{{fd:vhost-{name}}}" for name in names) if resource.vhost is not False else ()
        return TapFds(fds=tuple(f"{{fd:tap-{name}}}" for name in names), vhost_fds=vhost)

    def acquire(self, resource: Tap, held: Held) -> TapFds:
        """Raises `OperationError`."""
        raise OperationError(f"{held.owner.name}: {resource.where} {self._WHAT}; use mode 'user'")
