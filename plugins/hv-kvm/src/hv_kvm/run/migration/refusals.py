"""Why a node does not take a guest from another node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import hvcore.plugin as hv
from hv_kvm.confinement import level_of
from hv_kvm.devices.disk import Disk
from hv_kvm.devices.usb import UsbDevice
from hv_kvm.machine.facts import resolve_machine
from hv_kvm.machine.spec import KvmSpec
from hv_kvm.qemu import probe
from hv_kvm.qmp import migration_commands
from hv_kvm.run.migration import capabilities

__all__ = ["left_behind", "refusals_of"]

_TRIAL: Final = ("-machine", "none", "-nodefaults", "-no-user-config", "-display", "none", "-S")
_TRIAL_S: Final = 20.0
_FAULTS_OF_USERS: Final = Path("/proc/sys/vm/unprivileged_userfaultfd")


def refusals_of(
    spec: KvmSpec, host: hv.Host, offer: hv.Offer, wish: hv.LandingWish, here: hv.Abi
) -> Iterator[hv.Problem]:
    """What the guest would see otherwise, what QEMU here lacks, and what keeps the guest from leaving. Raises `ProbeError`.

    ``here`` is what a guest of that spec sees on this node.
    """
    facts = probe.facts_of(spec, host)
    if resolve_machine(facts, spec.machine) is None:
        what, todo = f"is not known to QEMU {facts.version}", "install the QEMU of the source, or a newer one"
        yield hv.Problem(path="params.machine_version", what=what, got=repr(spec.machine), todo=todo)
    yield from _differences(offer, here)
    yield from _lacking(spec, host, offer, wish)
    yield from left_behind(spec, wish)
    for reason in offer.blockers:
        todo = "detach that device, or stop the instance and start it there"
        yield hv.Problem(path="instance", what=f"cannot move while it runs ({reason})", todo=todo)


def _differences(offer: hv.Offer, here: hv.Abi) -> Iterator[hv.Problem]:
    """QEMU refuses only some of them, and with others the guest goes on with another machine."""
    for change in hv.abi_changes(hv.Abi.from_json(offer.abi), here) if offer.abi else ():
        if change.kind in {hv.AbiClass.WIRE, hv.AbiClass.SEEN}:
            what = f"would differ for the guest: {change.what}: {change.key} is {change.before!r} at the source"
            todo = "give both nodes the same files, values and QEMU"
            yield hv.Problem(path=", ".join(change.params) or "machine", what=what, got=repr(change.after), todo=todo)


def left_behind(spec: KvmSpec, wish: hv.LandingWish) -> Iterator[hv.Problem]:
    """What the guest would leave on the node of the source. Pure.

    The modes of disk_cache are no reason: QEMU drops what the page cache of the target has of a disk when the guest arrives.
    """
    mirror = wish.storage == capabilities.MIRROR
    if mirror and wish.mode == hv.MigrationMode.POSTCOPY:
        what = "cannot be used while disks are copied: the guest would run before its disks are complete"
        yield hv.Problem(path="mode", what=what, got="'postcopy'", todo="migrate without postcopy")
    for disk in spec.of(Disk):
        if disk.temporary is not None and not mirror:
            what = "is temporary: what the guest wrote to it is on the source only"
            yield hv.Problem(path=f"disks[{disk.index}]", what=what, todo="copy the disks to the target")
    for device in spec.of(UsbDevice):
        if device.model == "usb-host":
            what, todo = "is a device of the source", "detach it first"
            yield hv.Problem(path="params.usb_devices", what=what, got=repr(device.what), todo=todo)


def _lacking(spec: KvmSpec, host: hv.Host, offer: hv.Offer, wish: hv.LandingWish) -> Iterator[hv.Problem]:
    """Capabilities of migrations that are wanted, and do not work here."""
    asked, postcopy = wish.tuning.caps or offer.tuning.caps or (), wish.mode == hv.MigrationMode.POSTCOPY
    if not asked and not postcopy:
        return
    has = probe.asked(
        spec.qemu,
        _TRIAL,
        lambda client: migration_commands.query_migrate_capabilities(client, deadline_s=_TRIAL_S),
        deadline_s=_TRIAL_S,
    )
    for reason in capabilities.unusable(has, asked, postcopy=postcopy):
        yield hv.Problem(path="params.migration_caps", what=reason, todo="leave it out")
    if postcopy and not _sees_faults(spec, host):
        what = "needs userfaultfd, which only root has on this node, and QEMU does not run as root"
        todo = "migrate without postcopy, set sysctl vm.unprivileged_userfaultfd = 1 here, or set confinement = 'off'"
        yield hv.Problem(path="mode", what=what, got="'postcopy'", todo=todo)


def _sees_faults(spec: KvmSpec, host: hv.Host) -> bool:
    """Whether QEMU can take the faults of its pages, as its user (userfaultfd(2))."""
    if host.privileged and level_of(spec, host) is hv.Level.OFF:
        return True
    try:
        return _FAULTS_OF_USERS.read_text(encoding="ascii").strip() == "1"
    except OSError:
        return False
