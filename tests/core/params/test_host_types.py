"""The parameter types for things of the node: addresses, CPUs, paths and URLs."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvcore.params.host_types import address, address_or_path, cpu_mask, cpu_sets, directory, file, file_or_url
from hvcore.params.param import ParamType, Reject


def attempt(kind: ParamType, value: object) -> Any:
    """The clean value, or the Reject."""
    try:
        return kind.parse(value)
    except Reject as reject:
        return reject


def refusal(kind: ParamType, value: object) -> Reject:
    with pytest.raises(Reject) as caught:
        kind.parse(value)
    return caught.value


@pytest.mark.parametrize(
    ("value", "clean"),
    [("127.0.0.1", "127.0.0.1"), ("::", "::"), ("0:0:0::1", "::1"), ("2001:DB8::A", "2001:db8::a")],
)
def test_an_address_is_kept_in_its_shortest_form(value: str, clean: str) -> None:
    assert address().parse(value) == clean


@pytest.mark.parametrize(
    "value",
    ["127.1", "1.2.3.4.5", "01.2.3.4", "256.1.1.1", "1.2.3.4/24", "localhost", "1.2.3.4\n", " ::1", "٣.1.1.1", "eth0"],
)
def test_what_is_not_an_address_is_refused(value: str) -> None:
    refusal(address(), value)


@given(st.ip_addresses())
def test_every_address_is_taken(value: object) -> None:
    assert address().parse(str(value)) == str(value)


def test_an_interface_is_taken_only_where_it_is_allowed() -> None:
    kind = address(interface=True)
    assert [kind.parse(value) for value in ("eth0", "br0.100", "::1")] == ["eth0", "br0.100", "::1"]
    for value in ("-eth0", "..", "a/b", "a" * 16, "127.0.0.256", "a b", "a:b"):
        refusal(kind, value)


def test_an_address_or_a_socket_path_is_taken() -> None:
    kind = address_or_path()
    assert [kind.parse(value) for value in ("::1", "/run/x,y")] == ["::1", "/run/x,y"]
    assert kind.expects == "an IPv4 or IPv6 address or an absolute path"
    assert refusal(kind, "/run//x").todo == "give '/run/x'"


@pytest.mark.parametrize(
    ("mask", "clean"),
    [
        ("0-3,5", "0-3,5"),
        ("5,0,1,2,2-3", "0-3,5"),
        ("007", "7"),
        ("3-3", "3"),
        ("0-5,2", "0-5"),
        ("all", "all"),
        ("0-8191",) * 2,
    ],
)
def test_a_cpu_mask_is_sorted_and_merged(mask: str, clean: str) -> None:
    assert cpu_mask().parse(mask) == clean


@pytest.mark.parametrize(
    "mask", ["", ",", "0-", "-1", "3-1", "0,,1", "8192", "all,1", "ALL", "1 2", "0x1", "99999", "0:1", "٣"]
)
def test_what_is_not_a_cpu_mask_is_refused(mask: str) -> None:
    refusal(cpu_mask(), mask)


def test_a_mask_for_each_vcpu_is_taken_where_it_is_allowed() -> None:
    mask = cpu_mask(multi=True).parse("0-1:all:3,2")
    assert mask == "0-1:all:2-3"
    assert cpu_sets(mask) == (frozenset({0, 1}), None, frozenset({2, 3}))
    refusal(cpu_mask(multi=True), "0::1")


@given(st.sets(st.integers(0, 8191), min_size=1, max_size=20), st.randoms())
def test_a_cpu_mask_means_the_same_cpus_after_cleaning(cpus: set[int], random: Any) -> None:
    listed = [str(cpu) for cpu in cpus]
    random.shuffle(listed)
    assert cpu_sets(cpu_mask().parse(",".join(listed))) == (frozenset(cpus),)


@pytest.mark.parametrize(
    "path", ["/", "/a", "/a,b=c 'd'\"e\"\nf", "/-x", "/.hidden/..x/...", "/é", "/\udcff", "/" + "x" * 255]
)
def test_a_path_may_hold_any_byte_but_nul(path: str) -> None:
    assert file().parse(path) == path
    assert directory().parse(path) == path


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("", "is empty"),
        ("a/b", "is not an absolute path"),
        ("~/a", "is not an absolute path"),
        ("-name", "is not an absolute path"),
        ("/a\0b", "has a NUL in it, which a path cannot contain"),
        ("/a/", "is not a normalised path"),
        ("//a", "is not a normalised path"),
        ("/a/./b", "is not a normalised path"),
        ("/a/..", "has '..' in it"),
        ("/..", "has '..' in it"),
        ("/\ud800", "has a surrogate in it that is not an escaped byte"),
        ("/" + "x" * 256, "has a component that is longer than 255 bytes"),
        ("/" + "é" * 128, "has a component that is longer than 255 bytes"),
        ("/x" * 2048, "is longer than 4095 bytes"),
    ],
)
def test_a_path_that_is_not_absolute_and_normal_is_refused(path: str, what: str) -> None:
    assert refusal(file(), path).what == what


@given(st.lists(st.sampled_from(["", ".", "..", "a", "b.", "..c"]), max_size=6))
def test_the_normal_form_that_is_advised_is_itself_taken(parts: list[str]) -> None:
    outcome = attempt(file(), "/" + "/".join(parts))
    if isinstance(outcome, Reject):
        advised = re.match("give '(.*?)'", outcome.todo or "")
        assert advised
        outcome = advised[1]
    assert file().parse(outcome) == outcome


@pytest.mark.parametrize("url", ["http://h/x", "https://h:8443/x?y=1,2", "ftp://[::1]/a", "ftps://h", "http://h/@x"])
def test_a_url_is_taken_as_it_is(url: str) -> None:
    assert file_or_url().parse(url) == url


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "http://", "http://h x", "HTTP://h/", "http://h/\n", "http:/h", "rbd:x"]
)
def test_another_url_is_refused(url: str) -> None:
    refusal(file_or_url(), url)
