"""Abilities: devices that are attached to a running instance and detached from it, also when that is interrupted."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from hvcore.errors import DeadlineError
from hvcore.model.codec import encode
from hvcore.model.devices import Disk, ListedDevice, Nic
from hvcore.model.record import Change, Phase, Record
from hvcore.model.state import State
from hvcore.operations.devices.attach import changed_params, with_device
from hvcore.plugins.device_protocols import Attaches
from hvcore.testing.check import PATIENCE_S, Bench, Failed, Level, Skipped, Tier, check, require
from hvcore.testing.claims import claimed, refused

__all__: tuple[str, ...] = ()


def _device(bench: Bench) -> Disk | Nic | ListedDevice:
    return bench.subject.device(Path(bench.directory))


def _held(record: Record) -> list[str]:
    return [entry.key for entry in record.ledger]


def _detached(bench: Bench, device: str) -> None:
    """Detach it. A guest that does not let it go in time is no fault of the driver."""
    with claimed("detach"):
        try:
            changed = bench.node.detach(bench.name(), device, deadline_s=PATIENCE_S).changed
            silent = None
        except DeadlineError as error:
            changed, silent = False, error
    if silent is not None:
        raise Skipped(f"its guest does not let a device go: {silent}")
    require(changed, "detach says that it changed nothing")


@check(Level.CAPABILITY, Tier.LIVE)
def capability_attach(bench: Bench) -> None:
    """Claimed: a device comes and goes. It has a name meanwhile, a reboot keeps it, nothing of it is left. Otherwise: refused.

    Why: A device that is half attached is the usual leak of hot-plug: a block node without a device, a tap without a NIC,
    a disk that stays locked until the guest stops.
    """
    name = bench.name()
    bench.start()
    if not isinstance(bench.loaded.driver, Attaches):
        refused(bench, "attach", lambda: bench.node.attach(name, _device(bench)))
        refused(bench, "detach", lambda: bench.node.detach(name, "disk1"))
        return
    before, names = bench.record(), bench.info().devices
    with claimed("attach"):
        outcome = bench.node.attach(name, _device(bench), deadline_s=PATIENCE_S)
        again = bench.node.attach(name, _device(bench), deadline_s=PATIENCE_S)
    device = outcome.device or ""
    require(outcome.changed and device not in names, f"attach names the device {device!r}, or changed nothing")
    require(not again.changed and again.device == device, "a second attach of the same device changes something")
    require(device in bench.info().devices, f"{device} is not among its devices after the attach")
    bench.node.reboot(name, force=True, deadline_s=PATIENCE_S)
    require(device in bench.info().devices, f"{device} is not among its devices after a reboot")
    bench.subject.ready(bench.node, name)
    _detached(bench, device)
    after = bench.record()
    require(_held(after) == _held(before), f"holds {_held(after)} after attach and detach, before {_held(before)}")
    require(after.spec == before.spec, "has another spec after attach and detach")
    require(bench.info().devices == names, f"has the devices {bench.info().devices} after attach and detach")
    bench.stop()
    bench.nothing_left("attach and detach")


@check(Level.CAPABILITY, Tier.LIVE)
def capability_attach_interrupted(bench: Bench) -> None:
    """Claimed: an attach that was interrupted before and after the driver's work is undone and finished by recovery.

    Why: A caller can be killed at any moment. The record has both sides of the change, and the driver has to find out
    which of them the guest is on.
    """
    name, driver = bench.name(), bench.loaded.driver
    if not isinstance(driver, Attaches):
        raise Skipped("it does not claim attach")
    bench.start()
    before = bench.record()
    change = _wanted(bench, driver)
    bench.save(phase=Phase.CHANGING, change=change)
    _recovered(bench, "undone", "before anything was done")
    undone = bench.record()
    require(_held(undone) == _held(before), f"holds {_held(undone)} after an attach was undone")
    require(undone.spec == before.spec, "has another spec after an attach was undone")
    bench.node.attach(name, _device(bench), deadline_s=PATIENCE_S)
    done = bench.record()
    bench.save(phase=Phase.CHANGING, change=change, spec=before.spec, instance=before.instance, devices=before.devices)
    _recovered(bench, "finished", "after the driver had made it")
    require(bench.record().spec == done.spec, "has another spec after an attach was finished")
    bench.stop()
    bench.nothing_left("an interrupted attach")


def _wanted(bench: Bench, driver: Attaches) -> Change:
    """The change that an attach of the device writes down."""
    record = bench.record()
    instance, params, field = with_device(bench.loaded, record, _device(bench), {})
    job = bench.job()
    try:
        with closing(job.held):
            spec, device = driver.attached(job, instance, params, field)
    except Exception as error:
        raise Failed(f"attach is claimed, but attached raises {type(error).__name__}: {error}") from error
    devices = driver.devices(spec)
    return Change(
        op="attach",
        device=device,
        instance=instance,
        spec=encode(spec),
        params=changed_params(record, instance, field),
        devices=devices,
    )


def _recovered(bench: Bench, wanted: str, when: str) -> None:
    found = bench.another_node().recover()
    require([one.what for one in found] == [wanted], f"an attach interrupted {when} is {found}, not {wanted}")
    require(bench.info().state is State.RUNNING, f"is {bench.info().state} after recovery")
