"""A reboot starts the saved machine: what each value of ``changes`` means at a reboot, at a start, and at once."""

from __future__ import annotations

import json
import os
import sys
import textwrap
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from distributions import installed

import hvcore
import hvcore.plugin as hv
from hvcore import Instance, Node, Outcome
from hvcore.state.store import Store

# A driver as kvm is one: what `plan` says of the engine is an alias, and the first start pins what it means.
DRIVER = """
import dataclasses
import sys
import hvcore.plugin as hv

ENGINE = "2-stroke"

@dataclasses.dataclass(frozen=True)
class Lamp:
    colour: str

@dataclasses.dataclass(frozen=True)
class Spec:
    engine: str
    memory_mib: int
    hull: str
    paint: str
    lights: int
    parts: tuple[Lamp, ...] = ()

GROUP = hv.ParamGroup(
    "boat",
    hv.Param("hull", hv.text(), default="wood", help="Of the frozen machine."),
    hv.Param("paint", hv.text(), default="white", changes="launch", help="Of each launch."),
    hv.Param("lights", hv.integer(0, 9), default=1, changes="live", help="Of each moment."),
    hv.Param("code", hv.text(), secret=True, changes="launch", help="A secret."),
)

@hv.hookimpl
def params():
    return GROUP

@hv.hookimpl
def check(params):
    if params["paint"] == params["hull"]:
        yield hv.Problem(path="params.paint", what="looks like the hull")

SEEN = []

@hv.hookimpl
def before_start(instance, params):
    SEEN.append((instance, dict(params)))

class Driver:
    name = "boat"
    plugins = (("boat", sys.modules[__name__]),)
    hookspecs = ()

    def __init__(self, hooks):
        pass

    def plan(self, instance: hv.Instance, params: hv.Params) -> Spec:
        return Spec("alias", instance.memory_mib, params["hull"], params["paint"], params["lights"])

    def verify(self, spec, host):
        if spec.paint == "none":
            yield hv.Problem(path="params.paint", what="is sold out")

    def describe(self, spec, host):
        return hv.Plan(name="x", driver=self.name, steps=())

    def start(self, spec, job):
        engine = ENGINE if spec.engine == "alias" else spec.engine
        job.update(spec=hv.encode(dataclasses.replace(spec, engine=engine)))

    def observe(self, live):
        return hv.Observation(state=hv.State.RUNNING)

    def stop(self, live, job, *, force):
        return "powerdown"
"""
FILE = """
name = "web1"
driver = "boat"
{fields}
[params]
{params}
"""


class Harbour:
    """A node with the driver, an instance file, and the node's own values."""

    def __init__(self, run_dir: Path, tmp_path: Path) -> None:
        self.run_dir, self.top = run_dir, tmp_path
        self.file = tmp_path / "web1.toml"
        self.source = DRIVER
        installed(tmp_path / "site", "hv-boat", "[hvcore.drivers]\nboat = boat_driver:Driver\n")
        self.upgrade("", "")

    @property
    def node(self) -> Node:
        return Node(self.run_dir, config_dir=self.top / "etc")

    @property
    def record(self) -> hv.Record:
        found = Store(self.run_dir).load("web1")
        assert found is not None
        return found

    @property
    def spec(self) -> dict[str, Any]:
        return self.record.spec

    @property
    def seen(self) -> tuple[Instance, dict[str, Any]]:
        """What the hooks got at the last start."""
        found: tuple[Instance, dict[str, Any]] = sys.modules["boat_driver"].SEEN[-1]
        return found

    def write(self, fields: str = "", /, **params: Any) -> None:
        lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in params.items())
        self.file.write_text(FILE.format(fields=fields, params=lines))

    def of_the_node(self, text: str, name: str = "node.toml") -> None:
        path = self.top / "etc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))

    def start(self, fields: str = "", /, **params: Any) -> None:
        self.write(fields, **params)
        self.start_file()

    def start_file(self) -> Outcome:
        return self.node.driver("boat").start(hvcore.load_instance(self.file), source=self.file)

    def reboot(self) -> tuple[str, ...]:
        return self.node.reboot("web1").notes

    def upgrade(self, old: str, new: str) -> None:
        """Another release of the driver."""
        assert old in self.source
        self.source = self.source.replace(old, new)
        (self.top / "site" / "boat_driver.py").write_text(self.source)
        sys.modules.pop("boat_driver", None)

    def age(self) -> None:
        """The record as the version before kept it: without params and source, and with the instance's own secrets only."""
        path = self.run_dir / "instances" / "web1" / "record.json"
        body = json.loads(path.read_bytes().splitlines()[0])
        del body["params"], body["source"]
        text = json.dumps({**body, "version": 4, "withheld": []}).encode()
        path.write_bytes(text + f"\ncrc32:{zlib.crc32(text):08x}\n".encode())


@pytest.fixture
def boat(run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harbour]:
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode  # of two releases within a second the first is kept
    yield Harbour(run_dir, tmp_path)
    sys.dont_write_bytecode = before
    sys.modules.pop("boat_driver", None)


# ------------------------------------------------------------------------------------------- each value of `changes`

FIRST = {"hull": "steel", "paint": "red", "lights": 2}
SECOND = {"hull": "gold", "paint": "blue", "lights": 7}
WAITING = "changed since its start; a reboot keeps the old values, stop and start take the new"


def test_at_once_nothing_takes_a_new_value(boat: Harbour) -> None:
    """Also not one that may change live: no operation of today hands it to what runs."""
    boat.start(**FIRST)
    before = boat.record
    boat.write(**SECOND)
    outcome = boat.start_file()
    assert (outcome.changed, boat.record) == (False, before)
    assert "the changes of params.hull, params.lights, params.paint take effect" in outcome.notes[0]


def test_at_a_reboot_launch_and_live_values_are_taken_and_start_values_kept(boat: Harbour) -> None:
    boat.start(**FIRST)
    boat.write(**SECOND)
    assert boat.reboot() == ("params.paint, params.lights: the new values are used", f"params.hull: {WAITING}")
    assert {**FIRST, "paint": "blue", "lights": 7}.items() <= boat.spec.items()
    assert boat.record.params == {"hull": "steel", "paint": "blue", "lights": 7}


def test_at_a_start_every_value_is_taken(boat: Harbour) -> None:
    boat.start(**FIRST)
    boat.write(**SECOND)
    boat.node.stop("web1")
    assert boat.start_file().notes == ()
    assert boat.spec.items() >= SECOND.items()


@pytest.mark.parametrize(("key", "changes"), [("hull", "start"), ("paint", "launch"), ("lights", "live")])
def test_the_driver_declares_what_these_tests_say(boat: Harbour, key: str, changes: str) -> None:
    assert boat.node.driver("boat").schema.params[key].changes == changes


# ------------------------------------------------------------------------------------------------ what a reboot keeps


def test_a_reboot_of_the_same_file_starts_the_same_machine_and_says_nothing(boat: Harbour) -> None:
    boat.start("memory_mib = 64", **FIRST)
    before = boat.record
    assert boat.reboot() == ()
    after = boat.record
    assert (after.spec, after.params, after.instance, after.source) == (
        before.spec,
        before.params,
        before.instance,
        str(boat.file),
    )


def test_the_instances_own_fields_are_kept_and_named(boat: Harbour) -> None:
    boat.start("memory_mib = 64", **FIRST)
    boat.write('memory_mib = 128\nvcpus = 2\ndisks = [{path = "/x"}]\nprofile = "db"', **FIRST)
    assert boat.reboot() == (f"memory_mib, vcpus, disks, profile: {WAITING}",)
    assert boat.spec["memory_mib"] == 64
    assert boat.record.instance.memory_mib == 64


def test_an_upgrade_of_the_driver_changes_no_machine(boat: Harbour) -> None:
    boat.start(**FIRST)
    before = boat.spec
    boat.upgrade('ENGINE = "2-stroke"', 'ENGINE = "diesel"')
    boat.upgrade('default="wood"', 'default="carbon"')
    boat.upgrade('params["lights"])', 'params["lights"], (Lamp("green"),))')
    assert boat.reboot() == ()
    assert boat.spec == before
    boat.write(**{**FIRST, "paint": "blue"})
    assert boat.reboot() == ("params.paint: the new values are used",)
    assert boat.spec == {**before, "paint": "blue"}


def test_a_default_that_an_upgrade_changes_is_kept_as_it_was(boat: Harbour) -> None:
    boat.start(paint="red")
    boat.upgrade('default="wood"', 'default="carbon"')
    assert boat.reboot() == (f"params.hull: {WAITING}",)
    assert boat.spec["hull"] == "wood"


def test_an_upgrade_that_refuses_the_saved_values_keeps_the_machine_and_says_so(boat: Harbour) -> None:
    boat.start(**FIRST)
    before = boat.spec
    boat.upgrade('hv.Param("hull", hv.text()', 'hv.Param("hull", hv.one_of("wood", "carbon")')
    boat.write(hull="wood", paint="blue")
    (note,) = boat.reboot()
    assert note.startswith("driver boat no longer accepts the values of its start (params.hull: ")
    assert note.endswith("its saved machine is kept")
    assert boat.spec == before


def test_a_saved_machine_that_an_upgrade_cannot_read_goes_on_running(boat: Harbour) -> None:
    boat.start(**FIRST)
    before = boat.record
    boat.upgrade("    engine: str\n", "    motor: str\n")
    with pytest.raises(hv.RecordError, match="unknown keys engine"):
        boat.reboot()
    assert boat.record == before


def test_a_driver_that_does_not_say_what_its_spec_is_is_rebooted_all_the_same(boat: Harbour) -> None:
    boat.upgrade(" -> Spec:", ":")
    boat.start(**FIRST)
    boat.write(**{**FIRST, "paint": "blue"})
    boat.reboot()
    assert (boat.spec["engine"], boat.spec["paint"]) == ("2-stroke", "blue")


def test_hooks_are_given_what_is_started(boat: Harbour) -> None:
    boat.start(**FIRST)
    boat.write(**SECOND)
    boat.reboot()
    instance, params = boat.seen
    assert instance == boat.record.instance
    assert instance.params == {"hull": "steel", "paint": "blue", "lights": 7}
    assert params == {"hull": "steel", "paint": "blue", "lights": 7, "code": None}


def test_what_was_taken_is_no_difference_at_the_next_start(boat: Harbour) -> None:
    boat.start(**FIRST)
    boat.write(hull="steel", lights=7)  # and the paint is the default again
    assert boat.reboot() == ("params.paint, params.lights: the new values are used",)
    assert boat.spec["paint"] == "white"
    assert boat.start_file().notes == ()


# ------------------------------------------------------------------------------------------------------- the sources


def test_the_nodes_values_are_read_again(boat: Harbour) -> None:
    boat.of_the_node('[params.boat]\npaint = "grey"\nhull = "tin"\n')
    boat.start(lights=3)
    assert boat.spec["paint"] == "grey"
    boat.of_the_node('[params.boat]\npaint = "pink"\nhull = "zinc"\n')
    assert boat.reboot() == ("params.paint: the new values are used", f"params.hull (node): {WAITING}")
    assert (boat.spec["paint"], boat.spec["hull"]) == ("pink", "tin")


def test_an_instance_that_a_program_built_has_its_own_values_and_the_nodes(boat: Harbour) -> None:
    boat.node.driver("boat").start(Instance(name="web1", driver="boat", params={"lights": 3}))
    assert boat.record.source == ""
    boat.of_the_node('[params.boat]\npaint = "pink"\nlights = 9\n')
    assert boat.reboot() == ("params.paint: the new values are used",)
    assert (boat.spec["paint"], boat.spec["lights"]) == ("pink", 3)


def file_removed(boat: Harbour) -> None:
    boat.file.unlink()


def nonsense(boat: Harbour) -> None:
    boat.file.write_text("name = ")


def wrong_field(boat: Harbour) -> None:
    boat.write("memory_mib = 0", **SECOND)


def wrong_value(boat: Harbour) -> None:
    boat.write(**{**SECOND, "lights": 77})


def renamed(boat: Harbour) -> None:
    boat.write(**SECOND)
    boat.file.write_text(boat.file.read_text().replace("web1", "web2"))


def anybodys(boat: Harbour) -> None:
    boat.write(**SECOND)
    boat.file.chmod(0o666)


def broken_node(boat: Harbour) -> None:
    boat.write(**SECOND)
    boat.of_the_node("[params.boat\n")


def wrong_on_the_node(boat: Harbour) -> None:
    boat.write(**SECOND)
    boat.of_the_node('[params.boat]\nlights = "many"\n')


def profile_removed(boat: Harbour) -> None:
    boat.write('profile = "db"', **SECOND)
    (boat.top / "etc/profiles/db.toml").unlink()


SOURCES: list[tuple[Callable[[Harbour], None], str]] = [
    (file_removed, "web1.toml': cannot be read, got No such file"),
    (nonsense, "web1.toml': is not TOML"),
    (wrong_field, "memory_mib: "),
    (wrong_value, "params.lights: "),
    (renamed, "name: now describes 'web2' of driver boat"),
    (anybodys, "can be changed by others"),
    (broken_node, "node.toml): is not TOML"),
    (wrong_on_the_node, "node.params.lights"),
    (profile_removed, "profile: no such profile"),
]


@pytest.mark.parametrize(("spoil", "why"), SOURCES, ids=[spoil.__name__ for spoil, _ in SOURCES])
def test_an_unusable_source_is_reported_and_the_saved_values_hold(
    boat: Harbour, spoil: Callable[[Harbour], None], why: str
) -> None:
    boat.of_the_node("", "profiles/db.toml")
    boat.start('profile = "db"', **FIRST)
    before = boat.record
    spoil(boat)
    (note,) = boat.reboot()
    assert why in note
    assert note.endswith("; the values of its start are kept")
    assert "\n" not in note
    after = boat.record
    assert (after.spec, after.params, after.instance) == (before.spec, before.params, before.instance)


def test_new_values_that_do_not_go_with_the_saved_ones_are_not_taken(boat: Harbour) -> None:
    boat.start(**FIRST)
    before = boat.spec
    boat.write(hull="gold", paint="steel")
    first, second = boat.reboot()
    assert first.startswith(
        "params.paint, params.lights: the new values cannot be used, the saved ones are kept (web1: 1 problem; "
    )
    assert "looks like the hull" in first
    assert second == f"params.hull: {WAITING}"
    assert boat.spec == before


def test_a_new_value_that_this_node_cannot_run_is_reported_while_the_instance_runs(boat: Harbour) -> None:
    boat.start(**FIRST)
    before = boat.record
    boat.write(**{**FIRST, "paint": "none"})
    with pytest.raises(hv.VerifyError, match="is sold out"):
        boat.reboot()
    assert boat.record == before


def test_a_record_of_an_older_version_has_its_machine_started_again(boat: Harbour) -> None:
    boat.start(**FIRST)
    boat.age()
    before = boat.spec
    boat.write(**SECOND)
    for _ in range(2):
        (note,) = boat.reboot()
        assert note.startswith("its record was written by an older hvcore and has no parameters: the saved machine is")
        assert boat.spec == before
    assert (boat.record.params, boat.record.source) == (None, "")


# ----------------------------------------------------------------------------------------------------------- secrets


def test_a_secret_is_taken_from_the_file_and_written_nowhere(boat: Harbour) -> None:
    boat.start(**FIRST, code="hunter2hunter2")
    assert boat.record.withheld == ("code",)
    assert boat.reboot() == ()
    boat.write(**FIRST, code="correct horse")
    assert boat.reboot() == ()
    assert boat.seen[1]["code"] == "correct horse"
    assert boat.seen[0].params["code"] == "correct horse"
    assert boat.record.withheld == ("code",)
    written = [path.read_bytes() for path in boat.run_dir.rglob("*") if path.is_file()]
    assert not any(secret in data for data in written for secret in (b"hunter2", b"correct horse"))


@pytest.mark.parametrize("spoil", [file_removed, nonsense, lambda boat: boat.write(**FIRST)])
def test_without_its_secret_it_is_not_rebooted_and_goes_on_running(
    boat: Harbour, spoil: Callable[[Harbour], None]
) -> None:
    boat.start(**FIRST, code="hunter2hunter2")
    before = boat.record
    spoil(boat)
    with pytest.raises(hv.OperationError, match=r"secret code is not in it, nor in '/.*web1\.toml'.*; stop it and"):
        boat.reboot()
    assert boat.record == before


def node_forgets(boat: Harbour) -> None:
    boat.of_the_node("")


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("spoil", [node_forgets, broken_node])
def test_without_a_secret_that_the_node_had_it_is_not_rebooted(
    boat: Harbour, spoil: Callable[[Harbour], None], *, old: bool
) -> None:
    boat.of_the_node('[params.boat]\ncode = "hunter2hunter2"\n')
    boat.start(**FIRST)
    assert boat.record.withheld == ("code",)
    assert boat.reboot() == ()
    assert boat.seen[1]["code"] == "hunter2hunter2"
    if old:
        boat.age()
    before = boat.record
    spoil(boat)
    if old and spoil is node_forgets:  # an older record does not know that there was one
        boat.reboot()
        return
    with pytest.raises(hv.OperationError, match="secret code is not in it"):
        boat.reboot()
    assert boat.record == before


def test_the_path_of_the_file_is_kept_in_full(boat: Harbour, monkeypatch: pytest.MonkeyPatch) -> None:
    boat.write(**FIRST)
    monkeypatch.chdir(boat.top)
    boat.node.driver("boat").start(hvcore.load_instance("web1.toml"), source="web1.toml")
    assert boat.record.source == os.fspath(boat.file)
