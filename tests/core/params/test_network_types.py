"""Types for networks: what is accepted, in which clean form, and what it means."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvcore.params.network_types import Vlan, addresses, bit_rate, forward, forward_of, mac, vlan, vlan_of
from hvcore.params.param import ParamType, Reject

TYPES = {"mac": mac(), "addresses": addresses(), "vlan": vlan(), "bit_rate": bit_rate(), "forward": forward()}

CLEAN: list[tuple[str, Any, Any]] = [
    ("mac", "aa:00:00:4B:c1:01", "aa:00:00:4B:c1:01"),
    ("addresses", "192.0.2.7", ("192.0.2.7",)),
    ("addresses", ["192.0.2.7/24", "2001:DB8:0::7"], ("192.0.2.7/24", "2001:db8::7")),
    ("addresses", (), ()),
    ("vlan", 10, "10"),
    ("vlan", "10", "10"),
    ("vlan", ".10", "10"),
    ("vlan", "trunk:20-30,10,31", "trunk:10,20-31"),
    ("vlan", ":20:30", "trunk:20,30"),
    ("vlan", ".10:30:20", ".10:20:30"),
    ("vlan", "4094", "4094"),
    ("bit_rate", 8000, 8000),
    ("bit_rate", "80M", 80_000_000),
    ("bit_rate", "1.5g", 1_500_000_000),
    ("bit_rate", "8 K", 8000),
    ("bit_rate", "1000G", 10**12),
    ("forward", "2222:22", "2222:22"),
    ("forward", "0:22/tcp", "0:22"),
    ("forward", "127.0.0.1:8080:80/tcp", "127.0.0.1:8080:80"),
    ("forward", "[0::1]:5353:53/udp", "[::1]:5353:53/udp"),
]
BAD: list[tuple[str, Any, str]] = [
    ("mac", "01:00:00:00:00:01", "multicast"),
    ("mac", "aa:00:00:4b:c1", "not a MAC"),
    ("mac", "aa-00-00-4b-c1-01", "not a MAC"),
    ("mac", "aa:00:00:4b:c1:01\n", "control"),
    ("mac", 7, "not a text"),
    ("addresses", "node.example", "not an IP address"),
    ("addresses", ["192.0.2.7", "192.0.2.7"], "twice"),
    ("addresses", "fe80::1%eth0", "zone"),
    ("addresses", "0.0.0.0", "one interface"),
    ("addresses", "ff02::1", "one interface"),
    ("addresses", "192.0.2.7/33", "not an IP address"),
    ("addresses", 1, "not a text"),
    ("addresses", [f"10.0.0.{number}" for number in range(1, 18)], "more than 16"),
    ("vlan", 0, "between 1 and 4094"),
    ("vlan", 4095, "between 1 and 4094"),
    ("vlan", True, "not a VLAN"),
    ("vlan", "trunk:", "empty part"),
    ("vlan", "trunk:30-20", "ends before"),
    ("vlan", "10:20", "tagged VLANs after a number"),
    ("vlan", ".10:5-15", "both untagged and tagged"),
    ("vlan", "10,20", "not a VLAN number"),
    ("vlan", "ten", "not a VLAN number"),
    ("vlan", "1٢", "not a VLAN number"),
    ("bit_rate", 7999, "minimum"),
    ("bit_rate", "1001G", "maximum"),
    ("bit_rate", "80MB", "not a rate"),
    ("bit_rate", 1.5, "not a rate"),
    ("bit_rate", True, "not a rate"),
    ("forward", "22", "form"),
    ("forward", "2222:0", "does not exist"),
    ("forward", "65536:22", "does not exist"),
    ("forward", "0.0.0.0:80:80", "no interface"),
    ("forward", "1.2.3.400:80:80", "not an IP address"),
    ("forward", "::1:80:80", "form"),
    ("forward", "80:80/sctp", "form"),
    ("forward", "80-90:80", "form"),
]


@pytest.mark.parametrize(("kind", "value", "clean"), CLEAN)
def test_a_value_has_one_clean_form(kind: str, value: object, clean: object) -> None:
    found = TYPES[kind].parse(value)
    assert found == clean
    assert type(found) is type(clean)
    assert TYPES[kind].parse(found) == found


@pytest.mark.parametrize(("kind", "value", "message"), BAD)
def test_a_wrong_value_is_refused_with_the_reason(kind: str, value: object, message: str) -> None:
    with pytest.raises(Reject, match=message):
        TYPES[kind].parse(value)


@given(st.sampled_from(sorted(TYPES)), st.text(st.sampled_from("0123456789abF:.,-/[]trunkKM "), max_size=24))
def test_what_is_accepted_is_its_own_clean_form_and_fits_the_schema(kind: str, text: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    known: ParamType = TYPES[kind]
    try:
        clean = known.parse(text)
    except Reject:
        return
    assert known.parse(clean) == clean
    assert jsonschema.Draft202012Validator(known.json_schema()).is_valid(text)


def test_the_parts_of_a_vlan_are_read_from_its_clean_form() -> None:
    assert vlan_of("10") == Vlan(untagged=10)
    assert vlan_of("trunk:10,20-30") == Vlan(untagged=None, tagged=((10, 10), (20, 30)))
    assert vlan_of(".10:20:30-31") == Vlan(untagged=10, tagged=((20, 20), (30, 31)))


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("80:80", "80:81", True),
        ("80:80", "127.0.0.1:80:80", True),
        ("127.0.0.1:80:80", "[::1]:80:80", False),
        ("80:80", "80:80/udp", False),
        ("0:80", "0:81", False),
        ("127.0.0.1:80:80", "127.0.0.1:81:80", False),
    ],
)
def test_two_forwards_overlap_if_the_node_cannot_bind_both(one: str, other: str, *, overlap: bool) -> None:
    assert forward_of(one).overlaps(forward_of(other)) is overlap
    assert forward_of(other).overlaps(forward_of(one)) is overlap
