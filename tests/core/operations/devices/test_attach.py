"""Devices that come and go while an instance runs: the record names each half, and only what was asked for changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

import hvcore
from hvcore import Disk, Instance, Nic, Node, State
from hvcore.model.codec import encode
from hvcore.model.record import Change, Phase, Record
from hvcore.params.values import Params
from hvcore.state.store import Store

A, B, C = (Disk(path=f"/srv/{name}.img") for name in "abc")


def loaded(store: Store) -> Record:
    record = store.load("web1")
    assert record is not None
    return record


def test_names_stay_with_their_devices(node: Node, up: Callable[..., Instance]) -> None:
    up(A, B)
    assert node.info("web1").devices == {"disk0": "disks[0]", "disk1": "disks[1]"}
    assert node.detach("web1", "disk0").changed
    assert node.info("web1").devices == {"disk1": "disks[0]"}
    assert node.info("web1").disks == (B,)
    outcome = node.attach("web1", C)
    assert (outcome.device, outcome.changed, outcome.state) == ("disk0", True, State.RUNNING)
    assert node.info("web1").devices == {"disk1": "disks[0]", "disk0": "disks[1]"}
    assert node.info("web1").disks == (B, C)
    node.reboot("web1")
    assert node.info("web1").devices == {"disk1": "disks[0]", "disk0": "disks[1]"}


def test_what_is_there_already_is_not_attached_again(node: Node, store: Store, up: Callable[..., Instance]) -> None:
    up(A)
    node.attach("web1", B)
    before = loaded(store)
    outcome = node.attach("web1", B)
    assert (outcome.device, outcome.changed) == ("disk1", False)
    assert loaded(store) == before


def test_what_the_guest_has_let_go_meanwhile_is_attached_again(
    node: Node, store: Store, up: Callable[..., Instance]
) -> None:
    """A detach whose deadline has passed leaves the device in the record. The guest may let it go later."""
    up(A, B)
    before = loaded(store)
    store.save(replace(before, bindings={**before.bindings, "disks": ["disk0"]}))
    outcome = node.attach("web1", B)
    assert (outcome.device, outcome.changed) == ("disk1", True)
    after = loaded(store)
    assert (after.bindings, after.instance, after.devices) == (before.bindings, before.instance, before.devices)
    assert [entry.key for entry in after.ledger] == [entry.key for entry in before.ledger]
    assert not node.attach("web1", A).changed


def test_an_unknown_device_is_refused_with_the_names_of_all(node: Node, up: Callable[..., Instance]) -> None:
    up(A, B)
    with pytest.raises(hvcore.InputError, match="web1: has no device 'disk2'; it has disk0, disk1"):
        node.detach("web1", "disk2")
    with pytest.raises(hvcore.InputError, match="it has disk0, disk1"):
        node.detach("web1", "floppy")


def test_a_wrong_device_is_named_by_its_own_keys(node: Node, store: Store, up: Callable[..., Instance]) -> None:
    up(A)
    before = loaded(store)
    with pytest.raises(hvcore.ParamsError, match=r"\n  format: "):
        node.attach("web1", Disk(path="/srv/b.img", format="odd"))
    with pytest.raises(hvcore.ParamsError, match=r"params\.nothing"):
        node.attach("web1", B, params={"nothing": 1})
    assert loaded(store) == before


def test_an_attach_that_fails_is_undone(node: Node, store: Store, up: Callable[..., Instance]) -> None:
    up(A, fail_at="attach")
    before = loaded(store)
    with pytest.raises(hvcore.OperationError, match="fails on purpose"):
        node.attach("web1", B)
    after = loaded(store)
    assert replace(after, bindings=before.bindings) == before
    assert node.info("web1").state is State.RUNNING


def changing(store: Store, node: Node, op: str, *, made: bool) -> Record:
    """The record of a change that was interrupted, before or after the guest has the device as wanted."""
    record = loaded(store)
    plan, instance = record.spec, record.instance
    both = ({"kind": "FakeDisk", "number": 0, "path": A.path}, {"kind": "FakeDisk", "number": 1, "path": B.path})
    disks = {"attach": both, "detach": both[:1]}[op]
    change = Change(
        op=op,
        device="disk1",
        instance=replace(instance, disks=(A, B) if op == "attach" else (A,)),
        spec={**plan, "disks": [*disks]},
        params=record.params,
        devices={f"disk{number}": f"disks[{number}]" for number in range(len(disks))},
    )
    there = (op == "attach") is made
    bound = {**record.bindings, "disks": ["disk0", "disk1"] if there else ["disk0"]}
    found = replace(record, phase=Phase.CHANGING, change=change, bindings=bound)
    store.save(found)
    return found


@pytest.mark.parametrize("op", ["attach", "detach"])
@pytest.mark.parametrize("made", [True, False])
def test_an_interrupted_change_is_finished_if_the_guest_has_it_and_undone_if_not(
    node: Node, store: Store, up: Callable[..., Instance], op: str, *, made: bool
) -> None:
    up(*((A,) if op == "attach" else (A, B)))
    before = loaded(store)
    found = changing(store, node, op, made=made)
    assert found.change is not None
    info = node.info("web1")
    assert info.state is State.RUNNING
    assert info.reason == f"{op} of disk1 was interrupted; hv recover finishes or undoes it"
    (result,) = node.recover()
    assert (result.what, result.detail.startswith(f"{op} of disk1")) == ("finished" if made else "undone", True)
    after = loaded(store)
    assert (after.phase, after.change) == (Phase.RUNNING, None)
    wanted = found.change.instance if made else before.instance
    assert after.instance == wanted
    assert [entry.key for entry in after.ledger if entry.kind == "unique-value"] == [
        f"disk{number}" for number in range(len(wanted.disks))
    ] or (op, made) == ("attach", True)
    assert node.recover() == []
    assert encode(after.instance) == encode(wanted)


@pytest.mark.parametrize("op", ["attach", "detach"])
def test_a_stop_ends_an_instance_whose_change_was_interrupted(
    node: Node, store: Store, up: Callable[..., Instance], op: str, nothing_left: Callable[[], None]
) -> None:
    up(*((A,) if op == "attach" else (A, B)))
    changing(store, node, op, made=False)
    assert node.stop("web1").changed
    nothing_left()


def test_the_interrupted_stop_of_a_changing_instance_is_taken_back_and_the_change_settled(
    node: Node, store: Store, up: Callable[..., Instance]
) -> None:
    up(A)
    changing(store, node, "attach", made=False)
    store.save(replace(loaded(store), phase=Phase.STOPPING))
    (result,) = node.recover()
    assert (result.what, "attach of disk1 was interrupted" in result.detail) == ("taken back", True)
    assert loaded(store).change is None


def test_a_record_of_an_older_version_has_names_for_a_detach(
    node: Node, store: Store, up: Callable[..., Instance]
) -> None:
    up(A, B)
    store.save(replace(loaded(store), devices={}))
    assert node.detach("web1", "disk0").changed
    assert node.info("web1").devices == {"disk1": "disks[0]"}


NONE = Params({}, (), {}, set())


def test_a_nic_keeps_its_address_when_the_one_before_it_goes() -> None:
    from hvcore.operations.devices.attach import _with_row, _without_row

    made = Instance(name="w", driver="kvm", nics=(Nic(), Nic(), Nic(mode="user", mac="aa:00:00:00:00:01")))
    macs = [made.mac(at) for at in range(3)]
    left = _without_row(made, NONE, "nics[0]")
    assert [nic.mac for nic in left.nics] == macs[1:]
    again, field = _with_row(left, NONE, Nic())
    assert (field, again.nics[-1].mac) == ("nics[2]", macs[0])
    assert len({nic.mac for nic in again.nics}) == 3
