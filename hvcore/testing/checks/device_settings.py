"""Abilities: settings of a device that change while an instance runs, also when that is interrupted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from hvcore.model.codec import encode
from hvcore.model.devices import Disk
from hvcore.model.record import Change, Phase, Record
from hvcore.plugins.device_protocols import Modifies
from hvcore.testing.check import PATIENCE_S, Bench, Level, Skipped, Tier, check, require
from hvcore.testing.claims import claimed, claims

__all__: tuple[str, ...] = ()

# A value for each key that is not its default and that any node can have.
_VALUES: Final[Mapping[str, Any]] = {"connected": False, "cache": "none", "discard": "unmap", "aio": "threads"}
_DISK_BYTES: Final = 1 << 20


def _something(bench: Bench) -> tuple[str, str]:
    """A device of the instance and a key of it that can change; a new disk if no device has one."""
    name = bench.name()
    for _ in range(2):
        for device in bench.info().devices:
            for key in bench.node.modifiable(name, device):
                if key in _VALUES:
                    return device, key
        path = Path(bench.directory, "modified.img")
        path.write_bytes(bytes(_DISK_BYTES))
        with claimed("attach"):
            bench.node.attach(name, Disk(path=str(path)), deadline_s=PATIENCE_S)
    raise Skipped("no device of its instance and no disk has a key that can change on every node")


def _value(bench: Bench, device: str, key: str) -> Any:
    table, _, at = bench.info().devices[device].rstrip("]").partition("[")
    return getattr(getattr(bench.record().instance, table)[int(at)], key)


@check(Level.CAPABILITY, Tier.LIVE)
def capability_modify(bench: Bench) -> None:
    """Claimed: a key of a device changes, a second change does nothing, a reboot keeps it. Otherwise: refused.

    Why: A limit that is reported as set and is not there is found by the neighbours of the guest. One that a reboot
    forgets is found at night.
    """
    name = bench.name()
    if not claims(bench, Modifies, "modify", lambda: bench.node.modify(name, "disk0", {"cache": "none"})):
        return
    device, key = _something(bench)
    before, held, was = bench.record(), _held(bench.record()), _value(bench, device, key)
    wanted = {key: _VALUES[key]}
    with claimed("modify"):
        outcome = bench.node.modify(name, device, wanted, deadline_s=PATIENCE_S)
        again = bench.node.modify(name, device, wanted, deadline_s=PATIENCE_S)
    require(outcome.changed and outcome.device == device, f"modify changed nothing of {device}")
    require(not again.changed, "a second modify with the same value changes something")
    bench.node.reboot(name, force=True, deadline_s=PATIENCE_S)
    require(_value(bench, device, key) == _VALUES[key], f"{device} has not kept {key} after a reboot")
    bench.subject.ready(bench.node, name)
    bench.node.modify(name, device, {key: was}, deadline_s=PATIENCE_S)
    require(bench.record().spec == before.spec, f"has another spec after {key} was changed back")
    require(_held(bench.record()) == held, f"holds {_held(bench.record())} after {key} was changed back, before {held}")
    bench.stop()
    bench.nothing_left("modify")


@check(Level.CAPABILITY, Tier.LIVE)
def capability_modify_interrupted(bench: Bench) -> None:
    """Claimed: a change that was interrupted is finished or undone by recovery, and the record says which.

    Why: A caller can be killed at any moment. A record with the new limit and a guest with the old one never meet again.
    """
    name, driver = bench.name(), bench.loaded.driver
    if not isinstance(driver, Modifies):
        raise Skipped("it does not claim modify")
    bench.start()
    device, key = _something(bench)
    before = bench.record()
    bench.node.modify(name, device, {key: _VALUES[key]}, deadline_s=PATIENCE_S)
    after = bench.record()
    change = Change(
        op="modify",
        device=device,
        instance=after.instance,
        spec=after.spec,
        params=after.params,
        devices=dict(after.devices),
    )
    for change_made in (True, False):
        bench.save(phase=Phase.CHANGING, change=change, spec=before.spec, instance=before.instance)
        (found,) = bench.another_node().recover()
        wanted = {"finished": after, "undone": before}.get(found.what)
        if wanted is None or (found.what == "finished" and not change_made):
            require(False, f"a modify that was interrupted is {found.what}: {found.detail}")
        else:
            spec = encode(driver.modified(bench.job(), wanted.instance, device))
            require(bench.record().spec == spec == wanted.spec, f"is {found.what}, and has the spec of the other side")
        if change_made:
            bench.node.modify(name, device, {key: _value_of(before, device, key)}, deadline_s=PATIENCE_S)
    bench.stop()
    bench.nothing_left("an interrupted modify")


def _value_of(record: Record, device: str, key: str) -> Any:
    table, _, at = record.devices[device].rstrip("]").partition("[")
    return getattr(getattr(record.instance, table)[int(at)], key)


def _held(record: Record) -> list[str]:
    return sorted(entry.key for entry in record.ledger)
