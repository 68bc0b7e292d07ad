"""The JSON Schema of a whole instance: as strict as the check where JSON Schema can be, and never stricter."""

from __future__ import annotations

import ipaddress
import json
from contextlib import suppress
from typing import Any

import pytest
from fixture_types import Web
from hypothesis import given
from hypothesis import strategies as st

from hvcore import HvError, Node
from hvcore.params.host_types import address

jsonschema = pytest.importorskip("jsonschema")

BASE: dict[str, Any] = {"name": "web1", "driver": "fake"}
DISK = {"path": "/srv/a.img"}

GOOD: tuple[dict[str, Any], ...] = (
    {},
    {"memory_mib": 64, "vcpus": 2, "profile": None, "uuid": ""},
    {"name": "a.b-c_d.9"},
    {"name": "a" * 63},
    {"memory_mib": None},
    {"disks": [DISK, {"path": "rbd:pool/image", "read_only": True, "format": "raw", "cache": None, "boot_index": 1}]},
    {"nics": [{}, {"mode": "bridged", "link": "br0", "mac": "aa:00:00:4b:c1:01"}, {"mode": None}]},
    {"nics": [{"forward": ["2222:22", "[::1]:53:53/udp"], "egress": "internet", "name": "front", "mtu": 1400}]},
    {"nics": [{"mode": "bridged", "link": "br0", "vlan": 10, "ip": "192.0.2.7", "bandwidth_to_guest": "80M"}]},
    {"nics": [{"mode": "bridged", "link": "br0", "vlan": "trunk:10,20-30", "ip": ["192.0.2.7/24", "fd00::7"]}]},
    {"tags": ["web", "owner:ops"]},
    {"params": {"motd": "hi", "fail_at": None}},
    {"params": {"unset": ["motd"]}},
)
BAD: tuple[dict[str, Any], ...] = (
    {"name": "Web1"},
    {"name": "-a"},
    {"name": "a-"},
    {"name": "a..b"},
    {"name": "a" * 64},
    {"name": "a\n"},
    {"name": None},
    {"driver": "none"},
    {"memory_mib": 0},
    {"memory_mib": "64"},
    {"memory_mib": 1.5},
    {"vcpus": True},
    {"vcpu": 1},
    {"uuid": "x"},
    {"profile": "../x"},
    {"disks": None},
    {"disks": {}},
    {"disks": [{}]},
    {"disks": [{"path": "a.img"}]},
    {"disks": [{"path": "/a/../b"}]},
    {"disks": [{"path": "rbd: pool"}]},
    {"disks": [{**DISK, "format": "vmdk"}]},
    {"disks": [{**DISK, "formt": "raw"}]},
    {"disks": [{**DISK, "boot_index": 0}]},
    {"nics": [{"mode": "nat"}]},
    {"nics": [{"mac": "01:00:00:4b:c1:01"}]},
    {"nics": [{"link": "a" * 16}]},
    {"nics": [{"forward": ["22"]}]},
    {"nics": [{"forward": "2222:22"}]},
    {"nics": [{"egress": "some"}]},
    {"nics": [{"mtu": 0}]},
    {"nics": [{"mode": "bridged", "link": "br0", "vlan": 4095}]},
    {"nics": [{"mode": "bridged", "link": "br0", "bandwidth_to_guest": "80MB"}]},
    {"tags": ["two words"]},
    {"tags": "web"},
    {"params": None},
    {"params": {"mot": "hi"}},
    {"params": {"motd": "a\x07b"}},
    {"params": {"fail_at": "never"}},
)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Node:
    """One for all tests, whose driver is loaded once: a check and a schema change nothing."""
    return Node(tmp_path_factory.mktemp("schema") / "run")


@pytest.fixture(scope="module")
def validator(node: Node) -> Any:
    schema = node.json_schema("fake")
    jsonschema.Draft202012Validator.check_schema(schema)
    assert json.loads(json.dumps(schema, allow_nan=False)) == schema
    return jsonschema.Draft202012Validator(schema)


def passes(node: Node, data: object) -> bool:
    with suppress(HvError):
        node.check(data)
        return True
    return False


@pytest.mark.parametrize("more", GOOD, ids=json.dumps)
def test_what_the_check_accepts_is_accepted(validator: Any, node: Node, more: dict[str, Any]) -> None:
    data = {**BASE, **more}
    assert passes(node, data)
    assert [error.message for error in validator.iter_errors(data)] == []


@pytest.mark.parametrize("more", BAD, ids=json.dumps)
def test_what_the_check_refuses_is_refused(validator: Any, node: Node, more: dict[str, Any]) -> None:
    data = {**BASE, **more}
    assert not passes(node, data)
    assert not validator.is_valid(data)


def test_a_name_and_a_driver_are_required_and_the_instance_itself_is_accepted(
    validator: Any, node: Node, web: Web
) -> None:
    assert not validator.is_valid({"driver": "fake"})
    assert not validator.is_valid({"name": "web1"})
    assert validator.is_valid(web().to_json())
    assert "3.0 is not a whole number" in validator.schema["$comment"]


ADDRESS = address(interface=False)
ADDRESS_SCHEMA = jsonschema.Draft202012Validator(ADDRESS.json_schema())


@given(
    st.one_of(
        st.ip_addresses().map(str),
        st.ip_addresses(v=6).map(lambda found: found.exploded),
        st.text(st.sampled_from("0123456789abF:."), max_size=24),
        st.lists(st.sampled_from(["", "0", "ffff", "12345", "1.2.3.4", "g"]), max_size=9).map(":".join),
    )
)
def test_an_address_is_one_to_the_schema_if_it_is_one_to_python(value: str) -> None:
    try:
        wanted = bool(ipaddress.ip_address(value))
    except ValueError:
        wanted = False
    assert ADDRESS_SCHEMA.is_valid(value) == wanted
