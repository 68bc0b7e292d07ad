"""Instances from plain data: all problems are reported at once."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvcore import Disk, Instance, Nic, ParamsError
from hvcore.model.instance import read_instance
from hvcore.model.instance_keys import DISK_KEYS, INSTANCE_KEYS, NIC_KEYS
from hvcore.params.param import ParamGroup

GOOD: dict[str, Any] = {
    "name": "web1",
    "driver": "kvm",
    "memory_mib": 512,
    "vcpus": 2,
    "disks": [{"path": "/srv/web1.img"}, {"path": "/srv/x,y='\"\n.img", "read_only": True}],
    "nics": [{"mode": "bridged", "link": "br0", "mac": "aa:00:00:4b:c1:01"}, {}],
    "params": {"acpi": False},
}
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def paths(data: object) -> list[str]:
    return [problem.path for problem in read_instance(data)[1]]


def test_good_data_becomes_an_instance() -> None:
    instance, problems = read_instance(GOOD)
    assert problems == ()
    assert instance is not None
    assert instance.disks[1] == Disk(path="/srv/x,y='\"\n.img", read_only=True)
    assert instance.nics == (Nic(mode="bridged", link="br0", mac="aa:00:00:4b:c1:01"), Nic())
    assert instance.params == {"acpi": False}


def test_all_problems_are_reported_at_once() -> None:
    data = {
        "name": "../web",
        "driver": "K V M",
        "memory_mib": "lots",
        "vcpus": 0,
        "uuid": "7",
        "memroy": 1,
        "disks": [{"path": "relative.img"}, {"path": "/ok", "readonly": True}, {}, "x"],
        "nics": [{"mode": "bridge", "mac": "01:00:00:00:00:01", "link": "a/b"}],
        "params": [1],
    }
    assert sorted(paths(data)) == sorted(
        [
            *("name", "driver", "memory_mib", "vcpus", "uuid", "memroy", "params"),
            *("disks[0].path", "disks[1].readonly", "disks[2].path", "disks[3]"),
            *("nics[0].mode", "nics[0].mac", "nics[0].link"),
        ]
    )


@pytest.mark.parametrize(
    ("change", "path", "message"),
    [
        ({"memroy_mib": 1}, "memroy_mib", "did you mean 'memory_mib'?"),
        ({"disks": [{"path": "/a", "readonly": True}]}, "disks[0].readonly", "did you mean 'read_only'?"),
        ({"nics": [{"maac": "x"}]}, "nics[0].maac", "did you mean 'mac'?"),
        ({"nics": [{"mode": "brigded"}]}, "nics[0].mode", "bridged"),
        ({"zzz": 1}, "zzz", "known here: name, driver"),
        ({"disks": {"path": "/a"}}, "disks", "[[disks]]"),
        ({"nics": "eth0"}, "nics", "[[nics]]"),
        ({"vcpus": True}, "vcpus", "True"),
        ({"vcpus": 1.5}, "vcpus", "1.5"),
        ({"memory_mib": 2**60}, "memory_mib", str(2**60)),
        ({"disks": [{"path": "a:b"}]}, "disks[0].path", "'a:b'"),
        ({"disks": [{"path": "/a\0b"}]}, "disks[0].path", "x00"),
        ({"disks": [{"path": ""}]}, "disks[0].path", "''"),
        ({"name": "x" * 300}, "name", "300"),
        ({"name": "-web"}, "name", "'-web'"),
        ({"name": "web\n1"}, "name", r"web\n1"),
        ({"driver": "a,b"}, "driver", "'a,b'"),
        ({"profile": "../x"}, "profile", "; give a profile name of letters"),
        ({"bad\nkey": 1}, r"'bad\nkey'", "unknown key"),
        ({7: 1}, "7", "unknown key"),
    ],
)
def test_each_problem_names_the_place_the_value_and_what_to_do(change: Any, path: str, message: str) -> None:
    instance, problems = read_instance({**GOOD, **change})
    assert instance is None
    assert [problem.path for problem in problems] == [path]
    assert message in str(problems[0])
    assert "\n" not in str(problems[0])
    assert problems[0].todo or problems[0].what.startswith("must be ")


@pytest.mark.parametrize("missing", ["name", "driver"])
def test_a_missing_required_key_is_reported(missing: str) -> None:
    assert paths({key: value for key, value in GOOD.items() if key != missing}) == [missing]


@pytest.mark.parametrize("data", [None, 7, "web1", [GOOD], b""])
def test_what_is_no_table_is_one_problem(data: object) -> None:
    assert paths(data) == ["instance"]


@given(PLAIN | st.dictionaries(st.sampled_from([*GOOD, "uuid", "x"]), PLAIN))
def test_whatever_comes_there_is_an_instance_or_a_problem_and_never_an_exception(data: object) -> None:
    instance, problems = read_instance(data)
    assert (instance is None) == bool(problems)


def test_twenty_thousand_unknown_keys_are_reported_in_time() -> None:
    assert len(paths({**GOOD, **{f"k{number}" * 9: 1 for number in range(20_000)}})) == 20_000


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"name": "a/b", "memory_mib": 0, "vcpus": -1}, ["name", "memory_mib", "vcpus"]),
        ({"driver": None}, ["driver"]),
        ({"memory_mib": None, "vcpus": None}, ["memory_mib", "vcpus"]),
        ({"disks": None}, ["disks"]),
        ({"disks": "/srv/a"}, ["disks"]),
        ({"disks": ("/srv/a",)}, ["disks[0]"]),
        ({"disks": (Disk(path=None),)}, ["disks[0].path"]),  # type: ignore[arg-type]
        ({"disks": (Disk(path="a"), Disk(path="/b", read_only=3))}, ["disks[0].path", "disks[1].read_only"]),  # type: ignore[arg-type]
        ({"nics": 5}, ["nics"]),
        ({"nics": (7, Nic(mode="x"))}, ["nics[0]", "nics[1].mode"]),
        ({"params": 5}, ["params"]),
    ],
)
def test_an_instance_cannot_be_built_wrong(fields: dict[str, Any], wrong: list[str]) -> None:
    with pytest.raises(ParamsError) as caught:
        Instance(**{"name": "web1", "driver": "fake", **fields})
    assert sorted(problem.path for problem in caught.value.problems) == sorted(wrong)
    assert caught.value.exit_code == 2


def test_lists_given_in_code_become_tuples() -> None:
    given = Instance(name="w", driver="fake", disks=[Disk(path="/a")], nics=[Nic()])  # type: ignore[arg-type]
    assert given == Instance(name="w", driver="fake", disks=(Disk(path="/a"),), nics=(Nic(),))


def test_changing_the_mapping_afterwards_does_not_change_the_instance() -> None:
    params = {"motd": "a"}
    instance = Instance(name="w", driver="fake", params=params)
    params["motd"] = "b"
    assert instance.params == {"motd": "a"}


def test_the_uuid_follows_from_the_name_for_ever() -> None:
    # Not to be changed: guests know themselves by it.
    assert Instance(name="web1", driver="fake").uuid == "0840e50d-fb84-559d-95fc-12fb3b4fa985"
    assert Instance(name="web1", driver="kvm", vcpus=2).uuid == "0840e50d-fb84-559d-95fc-12fb3b4fa985"
    assert Instance(name="web2", driver="fake").uuid != "0840e50d-fb84-559d-95fc-12fb3b4fa985"


def test_derived_mac_addresses_differ_by_position_and_stay() -> None:
    instance = Instance(name="web1", driver="fake", nics=(Nic(), Nic(), Nic(mac="aa:00:00:00:00:01")))
    assert instance.mac(0) == "52:54:00:22:17:6e"
    assert instance.mac(0) != instance.mac(1)
    assert instance.mac(2) == "aa:00:00:00:00:01"


@pytest.mark.parametrize(("group", "cls"), [(INSTANCE_KEYS, Instance), (DISK_KEYS, Disk), (NIC_KEYS, Nic)])
def test_the_documented_defaults_are_those_of_the_classes(group: ParamGroup, cls: type[Any]) -> None:
    defaults = {field.name: field.default for field in dataclasses.fields(cls)}
    for param in group:
        expected = dataclasses.MISSING if param.required else param.default
        assert (defaults[param.key] or None) == (expected or None)


@pytest.mark.parametrize("mode", next(iter(NIC_KEYS)).type.choices)
def test_every_nic_mode_is_accepted(mode: str) -> None:
    assert paths({**GOOD, "nics": [{"mode": mode}]}) == []


def test_the_parameters_of_an_instance_cannot_be_changed() -> None:
    """A hook gets the instance, and every plugin after it would see what it wrote."""
    instance = Instance(name="web1", driver="fake", params={"a": 1})
    params: Any = instance.params
    for change in (
        lambda: params.update(b=2),
        lambda: params.pop("a"),
        lambda: params.setdefault("b", 2),
        lambda: params.__setitem__("a", 2),
        lambda: params.__ior__({"b": 2}),
        params.clear,
    ):
        with pytest.raises(TypeError, match=r"cannot be changed; make a copy with dict\(\.\.\.\)"):
            change()
    for twin in (pickle.loads(pickle.dumps(instance)), copy.deepcopy(instance), dataclasses.replace(instance)):
        assert twin == instance
    assert dataclasses.asdict(instance)["params"] == {"a": 1}
    assert json.dumps(params) == '{"a": 1}'
