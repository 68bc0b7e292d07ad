"""Settings of a device that change while an instance runs: by its keys, written down first, and only what was asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import hvcore
from hvcore import Disk, Instance, Nic, Node, State
from hvcore.model.definitions.changed_row import changed_keys, changed_row
from hvcore.model.record import Change, Phase, Record
from hvcore.plugins.hooks import Hooks
from hvcore.state.store import Store

A, B = (Disk(path=f"/srv/{name}.img") for name in "ab")


def loaded(store: Store) -> Record:
    record = store.load("web1")
    assert record is not None
    return record


def test_a_setting_changes_and_a_reboot_keeps_it(node: Node, up: Callable[..., Instance]) -> None:
    up(A, B)
    assert node.modifiable("web1", "disk1") == ("cache",)
    outcome = node.modify("web1", "disk1", {"cache": "none"})
    assert (outcome.changed, outcome.device, outcome.state) == (True, "disk1", State.RUNNING)
    assert node.info("web1").disks == (A, replace(B, cache="none"))
    node.reboot("web1")
    assert node.info("web1").disks == (A, replace(B, cache="none"))
    assert not node.modify("web1", "disk1", {"cache": "none"}).changed
    assert node.modify("web1", "disk1", {"cache": None}).changed
    assert node.info("web1").disks == (A, B)


REFUSED: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("disk7", {"cache": "none"}, hvcore.InputError, "has no device 'disk7'; it has disk0"),
    ("disk0", {}, hvcore.InputError, "nothing to change"),
    ("disk0", {"cash": "none"}, hvcore.ParamsError, r"\n  cash: unknown key; did you mean 'cache'\?"),
    ("disk0", {"cache": "odd"}, hvcore.ParamsError, r"\n  cache: is not a known choice, got 'odd'"),
    ("disk0", {"path": ""}, hvcore.ParamsError, r"\n  path: is required"),
    (
        "disk0",
        {"read_only": "true", "cache": "none"},
        hvcore.OperationError,
        "read_only cannot change while it runs",
    ),
    (
        "disk0",
        {"path": "/srv/b.img"},
        hvcore.OperationError,
        r"\(cache can\); change the file or definition, which",
    ),
]


@pytest.mark.parametrize("case", REFUSED, ids=[case[3] for case in REFUSED])
def test_what_cannot_be_changed_is_said_and_changes_nothing(
    node: Node, store: Store, up: Callable[..., Instance], case: tuple[str, dict[str, Any], type[Exception], str]
) -> None:
    device, values, error, said = case
    up(A)
    before = loaded(store)
    with pytest.raises(error, match=said):
        node.modify("web1", device, values)
    assert loaded(store) == before


def test_a_change_that_fails_is_undone(node: Node, store: Store, up: Callable[..., Instance]) -> None:
    up(A, fail_at="attach")
    before = loaded(store)
    with pytest.raises(hvcore.OperationError, match="fails on purpose"):
        node.modify("web1", "disk0", {"cache": "none"})
    assert (loaded(store).instance, loaded(store).spec, loaded(store).phase) == (
        before.instance,
        before.spec,
        Phase.RUNNING,
    )


@pytest.mark.parametrize("made", [True, False])
def test_an_interrupted_change_is_finished_or_undone(
    node: Node, store: Store, up: Callable[..., Instance], *, made: bool
) -> None:
    up(A)
    before = loaded(store)
    node.modify("web1", "disk0", {"cache": "none"})
    after = loaded(store)
    change = Change(
        op="modify",
        device="disk0",
        instance=after.instance,
        spec=after.spec,
        params=after.params,
        devices=after.devices,
    )
    bindings = after.bindings if made else before.bindings
    store.save(replace(before, phase=Phase.CHANGING, change=change, bindings=bindings))
    assert node.info("web1").reason == "modify of disk0 was interrupted; hv recover finishes or undoes it"
    (found,) = node.recover()
    assert found.what == ("finished" if made else "undone")
    assert loaded(store).instance == (after if made else before).instance
    assert loaded(store).bindings["caches"] == ({"disk0": "none"} if made else {})


def test_texts_are_read_as_the_types_of_their_keys() -> None:
    nic = Nic(mode="routed", ip=("192.0.2.1",))
    values = {"connected": "false", "mtu": "1400", "ip": "192.0.2.7, 2001:db8::7", "bandwidth_to_guest": "80M"}
    assert changed_row("w", nic, values) == Nic(
        mode="routed", ip=("192.0.2.7", "2001:db8::7"), mtu=1400, connected=False, bandwidth_to_guest=80_000_000
    )
    assert changed_row("w", Nic(mode="routed"), {"link": "100"}) == Nic(mode="routed", link="100")
    assert changed_row("w", nic, {"ip": "", "mtu": None}) == Nic(mode="routed")
    with pytest.raises(hvcore.ParamsError, match=r"(?s)connected: .*got 'no'.*mtu: .*got '12'"):
        changed_row("w", nic, {"connected": "no", "mtu": "12"})
    assert changed_keys(nic, replace(nic, mtu=1400, connected=False)) == ("mtu", "connected")


# ------------------------------------------------------------------------------------------- saved in the definition too

DEFINITION = """name = "web1"
driver = "fake"

[[disks]]  # the system
path = "/srv/a.img"

[[disks]]
path = "/srv/b.img"
cache = "writeback"  # slow
"""


@pytest.fixture
def defining(run_dir: Path, tmp_path: Path) -> Node:
    node = Node(run_dir, config_dir=tmp_path / "config")
    node.definitions.define_text(DEFINITION, subject="text", directory=None)
    node.start(node.definitions.instance("web1"), source=node.definitions.path("web1"))
    return node


def test_a_change_is_saved_in_the_definition_and_only_there(defining: Node) -> None:
    assert defining.modify("web1", "disk1", {"cache": "none"}, save=True).notes == ()
    assert defining.definitions.text("web1") == DEFINITION.replace('"writeback"', '"none"')
    assert defining.modify("web1", "disk0", {"cache": "none"}, save=True).notes == ()
    assert '[[disks]]  # the system\npath = "/srv/a.img"\ncache = "none"\n' in defining.definitions.text("web1")
    assert defining.modify("web1", "disk0", {"cache": None}, save=True).notes == ()
    assert defining.modify("web1", "disk1", {"cache": ""}, save=True).notes == ()
    assert defining.definitions.text("web1") == DEFINITION.replace('cache = "writeback"  # slow\n', "")
    assert defining.changes("web1") == ()


def test_an_instance_without_a_definition_is_refused_first(node: Node, up: Callable[..., Instance]) -> None:
    up(A)
    with pytest.raises(hvcore.InputError, match="has no definition to save the device in"):
        node.modify("web1", "disk0", {"cache": "none"}, save=True)
    assert node.info("web1").disks == (A,)


# ------------------------------------------------------------------------------------------------------ plugins are told


def test_plugins_learn_of_a_change_before_and_after_it(
    node: Node, up: Callable[..., Instance], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, str, str | None]] = []
    each, notes = Hooks.each, Hooks.notes

    def before(self: Hooks, name: str, **given: Any) -> Any:
        if name == "before_change":
            seen.append((str(given["op"]), given["device"], given["instance"].disks[0].cache))
        return each(self, name, **given)

    def after(self: Hooks, name: str, **given: Any) -> Any:
        if name == "after_change":
            seen.append((str(given["outcome"].op), given["device"], given["instance"].disks[0].cache))
        return [*notes(self, name, **given), "a plugin says so"]

    monkeypatch.setattr(Hooks, "each", before)
    monkeypatch.setattr(Hooks, "notes", after)
    up(A)
    assert "a plugin says so" in node.modify("web1", "disk0", {"cache": "none"}).notes
    assert not node.modify("web1", "disk0", {"cache": "none"}).changed
    assert seen == [("modify", "disk0", None), ("modify", "disk0", "none")]
