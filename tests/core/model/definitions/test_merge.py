"""A changed value does exactly its part in what was saved."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvcore.model.definitions.merge import merged

_PLAIN = st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from("abc")
_KEYS = st.sampled_from(["kind", "a", "b", "c"])
_JSON = st.recursive(
    _PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3), max_leaves=8
)
_DEVICE = st.fixed_dictionaries({"kind": st.sampled_from("XYZ"), "a": _PLAIN, "b": _PLAIN})
_SPEC = st.fixed_dictionaries({"kind": st.just("Spec"), "cpu": _PLAIN, "devices": st.lists(_DEVICE, max_size=4)})
_ANY = _JSON | _SPEC


@given(saved=_ANY, value=_ANY)
def test_without_a_difference_the_saved_value_stays(saved: Any, value: Any) -> None:
    assert repr(merged(saved, value, value)) == repr(saved)


@given(before=_ANY, after=_ANY)
def test_what_was_saved_as_planned_becomes_what_is_planned_now(before: Any, after: Any) -> None:
    assert merged(before, before, after) == after


@given(saved=_SPEC, before=_SPEC, cpu=_PLAIN)
def test_one_changed_field_changes_nothing_else(saved: Any, before: Any, cpu: Any) -> None:
    found = merged(saved, before, {**before, "cpu": cpu})
    assert found["devices"] == saved["devices"]
    assert found["cpu"] == (saved["cpu"] if repr(cpu) == repr(before["cpu"]) else cpu)


@given(saved=_SPEC, before=_SPEC, new=_PLAIN, data=st.data())
def test_a_change_in_one_device_touches_no_other(saved: Any, before: Any, new: Any, data: st.DataObject) -> None:
    if not before["devices"]:
        return
    index = data.draw(st.integers(0, len(before["devices"]) - 1))
    kind = before["devices"][index]["kind"]
    after = {**before, "devices": [dict(device) for device in before["devices"]]}
    after["devices"][index]["a"] = new
    found = merged(saved, before, after)["devices"]
    assert [device for device in found if device["kind"] != kind] == [
        device for device in saved["devices"] if device["kind"] != kind
    ]
    # It has its place among those of its kind in what was saved, or none there and is added.
    nth = [device["kind"] for device in before["devices"][:index]].count(kind)
    mine = [device for device in found if device["kind"] == kind]
    if repr(new) != repr(before["devices"][index]["a"]) and nth < len(mine):
        assert new in [device["a"] for device in mine]


def device(kind: str, **values: Any) -> dict[str, Any]:
    return {"kind": kind, **values}


@pytest.mark.parametrize(
    ("saved", "before", "after", "wanted"),
    [
        pytest.param(
            {"machine": "pc-i440fx-7.2", "mask": 0}, {"machine": "pc", "mask": 0}, {"machine": "pc", "mask": 1},
            {"machine": "pc-i440fx-7.2", "mask": 1}, id="what the node has pinned stays"
        ),
        pytest.param(
            [device("Nic", vhost=False)], [device("New"), device("Nic", vhost=False)],
            [device("New"), device("Nic", vhost=True)], [device("Nic", vhost=True)],
            id="an upgrade that plans one device more adds none"
        ),
        pytest.param(
            [device("A"), device("B"), device("Z")], [device("A"), device("B")],
            [device("A"), device("C"), device("B")], [device("A"), device("C"), device("B"), device("Z")],
            id="a device that a changed value brings stands where it is planned"
        ),
        pytest.param(
            [device("A"), device("B", old=1)], [device("A"), device("B")], [device("A")], [device("A")],
            id="a device that a changed value takes away goes"
        ),
        pytest.param(
            [device("Nic", slot=3), device("Nic", slot=9)], [device("Nic", slot=3, v=0), device("Nic", slot=4, v=0)],
            [device("Nic", slot=3, v=0), device("Nic", slot=4, v=1)],
            [device("Nic", slot=3), device("Nic", slot=9, v=1)], id="the second of a kind is the second"
        ),
        pytest.param({"a": device("X", v=1)}, {"a": device("Y", v=1)}, {"a": device("Y", v=2)}, {"a": device("Y", v=2)},
                     id="an object of another kind is replaced as a whole"),
        pytest.param(["-x"], ["-x"], ["-x", "-y"], ["-x", "-y"], id="a list of another length is replaced"),
        pytest.param([1, 2], [1, 3], [5, 3], [5, 2], id="a list of one length is merged by index"),
        pytest.param({"a": 1}, {"a": 1}, {"a": True}, {"a": True}, id="true is not 1"),
        pytest.param({}, {"new": 1}, {"new": 1, "other": 2}, {"other": 2}, id="a field that was not saved stays out"),
        pytest.param({}, {"new": 1}, {"new": 2}, {"new": 2}, id="unless a changed value changes it"),
    ],
)  # fmt: skip
def test_examples(saved: Any, before: Any, after: Any, wanted: Any) -> None:
    found = merged(saved, before, after)
    assert found == wanted
    assert repr(found) == repr(wanted) or isinstance(found, dict)
