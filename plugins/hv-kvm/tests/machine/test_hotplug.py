"""Options as QMP commands, and the options of one device. The same code makes both forms."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from corpus import CASES, Corpus, bindings
from hypothesis import given
from hypothesis import strategies as st

from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt, QmpCommand, as_command, nested
from hv_kvm.machine.render import render_device

pytestmark = pytest.mark.heavy  # all devices for each QEMU version

OF_NO_DEVICE: Final = {
    ("machine", "-name"),
    ("machine", "-uuid"),
    ("machine", "-nodefaults"),
    ("machine", "-no-user-config"),
    ("machine", "-machine"),
    ("machine", "-S"),
    ("boot", "-boot"),
    ("vnc", "-display"),
    ("security", "-sandbox"),
}
"""Options of the machine and not of a device, which cannot be hot-plugged."""

VALUES: Final = st.booleans() | st.integers() | st.text(max_size=5)
NAMES: Final = st.text("abc-", min_size=1, max_size=4)


def leaves(tree: Any, path: str = "") -> dict[str, Any]:
    """Every value by its path, as the command line writes it."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else None
    if pairs is None:
        return {path: tree}
    found: dict[str, Any] = {}
    for key, value in pairs:
        found |= leaves(value, f"{path}.{key}" if path else str(key))
    return found


@pytest.mark.parametrize(
    ("props", "tree"),
    [
        ({}, {}),
        ({"a": 1, "b": True, "c": "on"}, {"a": 1, "b": True, "c": "on"}),
        ({"a": None, "b.c": None}, {}),
        ({"a.b": 1, "a.c.d": 2, "e": 3}, {"a": {"b": 1, "c": {"d": 2}}, "e": 3}),
        ({"a.1": "y", "a.0": "x"}, {"a": ["x", "y"]}),
        ({f"a.{index}": index for index in reversed(range(12))}, {"a": list(range(12))}),
        ({"a.0.b": 1, "a.1.b": 2, "a.1.c": 3}, {"a": [{"b": 1}, {"b": 2, "c": 3}]}),
        ({"a.0.b.0": 1}, {"a": [{"b": [1]}]}),
        ({"addr": "0x12", "write-cache": "on", "fd": "17"}, {"addr": "0x12", "write-cache": "on", "fd": "17"}),
    ],
)
def test_a_dot_nests_and_a_number_is_a_place_in_a_list(props: dict[str, Any], tree: dict[str, Any]) -> None:
    assert nested(props) == tree


@given(st.dictionaries(st.lists(NAMES, min_size=1, max_size=3).map(tuple), VALUES | st.none(), max_size=6))
def test_no_value_is_lost_and_every_type_is_kept(given_props: dict[tuple[str, ...], Any]) -> None:
    # A key cannot be both a value and the parent of others.
    inner = {key[:length] for key in given_props for length in range(1, len(key))}
    props = {".".join(key): value for key, value in given_props.items() if key not in inner}
    wanted = {key: value for key, value in props.items() if value is not None}
    found = leaves(nested({key: value for key, value in props.items() if value is not None}))
    assert found == wanted
    assert {key: type(value) for key, value in found.items()} == {key: type(value) for key, value in wanted.items()}
    assert nested(props) == nested(wanted)


@given(st.lists(st.lists(VALUES, min_size=1, max_size=12), min_size=1, max_size=3))
def test_a_list_keeps_its_order_however_its_items_are_given(rows: list[list[Any]]) -> None:
    props = {f"a.{row}.b.{index}": value for row, values in enumerate(rows) for index, value in enumerate(values)}
    assert nested(dict(reversed(props.items()))) == {"a": [{"b": values} for values in rows]}


@pytest.mark.parametrize(
    ("option", "name", "arguments"),
    [
        (
            Opt(name="-device", head="virtio-blk-pci", props={"id": "d", "addr": "0xc", "bootindex": None}),
            "device_add",
            {"driver": "virtio-blk-pci", "id": "d", "addr": "0xc"},
        ),
        (
            Opt(name="-device", head="virtio-net-pci", props={"id": "n", "mq": True, "vectors": 10}),
            "device_add",
            {"driver": "virtio-net-pci", "id": "n", "mq": True, "vectors": 10},
        ),
        (
            Opt(name="-blockdev", props={"driver": "raw", "node-name": "d", "cache.direct": False, "file.driver": "x"}),
            "blockdev-add",
            {"driver": "raw", "node-name": "d", "cache": {"direct": False}, "file": {"driver": "x"}},
        ),
        (
            Opt(name="-object", head="rng-random", props={"id": "rng", "filename": "/dev/urandom"}),
            "object-add",
            {"qom-type": "rng-random", "id": "rng", "filename": "/dev/urandom"},
        ),
        (
            Opt(name="-netdev", head="tap", props={"id": "nic0", "fd": "7", "vhost": True}),
            "netdev_add",
            {"type": "tap", "id": "nic0", "fd": "7", "vhost": True},
        ),
        (
            Opt(name="-chardev", head="socket", props={"id": "c", "fd": "qga", "server": True, "wait": False}),
            "chardev-add",
            {
                "id": "c",
                "backend": {
                    "type": "socket",
                    "data": {"addr": {"type": "fd", "data": {"str": "qga"}}, "server": True, "wait": False},
                },
            },
        ),
        (
            Opt(name="-chardev", head="pipe", props={"id": "c", "path": "/guest/events"}),
            "chardev-add",
            {"id": "c", "backend": {"type": "pipe", "data": {"device": "/guest/events"}}},
        ),
        (
            Opt(name="-chardev", head="spicevmc", props={"id": "c", "name": "vdagent"}),
            "chardev-add",
            {"id": "c", "backend": {"type": "spicevmc", "data": {"type": "vdagent"}}},
        ),
    ],
)
def test_each_option_has_its_command(option: Opt, name: str, arguments: dict[str, Any]) -> None:
    assert as_command(option) == QmpCommand(name, arguments)


@pytest.mark.parametrize(
    "option",
    [
        Opt(name="-machine", head="pc"),
        Opt(name="-add-fd", props={"fd": "3", "set": 1}),
        Opt(name="-tpmdev", head="emulator", props={"id": "tpm"}),
        Opt(name="-audiodev", head="none", props={"id": "audio"}),
        Opt(name="-chardev", head="null", props={"id": "c"}),
        Opt(name="-device", why="copied from kvm_extra"),
    ],
)
def test_other_options_have_none(option: Opt) -> None:
    assert as_command(option) is None


def test_a_chardev_leaves_its_option_as_it_was() -> None:
    option = Opt(name="-chardev", head="socket", props={"id": "c", "fd": "3", "server": True})
    assert as_command(option) == as_command(option)
    assert option.props == {"id": "c", "fd": "3", "server": True}


@pytest.mark.parametrize("release", ["7.2", "10.0"])
def test_the_options_of_the_devices_are_those_of_the_whole_command_line(
    release: str, corpus: Corpus, recorded: dict[str, Facts]
) -> None:
    facts, hooks = recorded[release], corpus.kvm.hooks
    owners = {kind: plugin for plugin, kind in hooks.items("devices", type)}
    left = set()
    for case in CASES:
        if corpus.answer(case, facts).kind != "argv":
            continue
        spec = corpus.spec(case, facts)
        bound = bindings(corpus.kvm, case, spec)
        whole = list(hooks.items("render", Opt, spec=spec, facts=facts, bindings=bound))
        apart = [
            (owners[type(device)], option)
            for device in spec.devices
            for option in render_device(hooks, spec, facts, bound, device)
        ]
        rest = [row for row in whole if row not in apart]
        assert [row for row in whole if row in apart] == ordered(apart, whole), case
        left |= {(plugin, option.name) for plugin, option in rest}
    assert left == OF_NO_DEVICE


def ordered(apart: list[tuple[str, Opt]], whole: list[tuple[str, Opt]]) -> list[tuple[str, Opt]]:
    """Plugin by plugin in the order of the command line; within a plugin as the devices give them."""
    order = list(dict.fromkeys(plugin for plugin, _ in whole))
    return sorted(apart, key=lambda row: order.index(row[0]))


def test_every_command_is_json(corpus: Corpus, recorded: dict[str, Facts]) -> None:
    facts = recorded["7.2"]
    for case in CASES:
        if corpus.answer(case, facts).kind == "argv":
            spec = corpus.spec(case, facts)
            for option in corpus.options(spec, facts, bindings(corpus.kvm, case, spec)):
                command = as_command(option)
                if command is not None:
                    assert json.loads(json.dumps(command.arguments)) == command.arguments
                    assert None not in leaves(command.arguments).values()
