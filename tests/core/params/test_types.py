"""The parameter types: what each takes, and with which words it refuses the rest."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvcore.params.host_types import address, address_or_path, cpu_mask, directory, file, file_or_url
from hvcore.params.param import NodeCheck, ParamType, Reject
from hvcore.params.types import boolean, integer, list_of, name, one_of, port, regexp, seconds, size_mib, text

pytestmark = pytest.mark.heavy  # thousands of generated values

ALL_TYPES: dict[str, ParamType] = {
    "boolean": boolean(),
    "integer": integer(),
    "integer 0..100": integer(0, 100),
    "port": port(),
    "one_of words": one_of("ide", "paravirtual", "scsi-hd"),
    "one_of numbers": one_of(0, 1, 4, 6),
    "size_mib": size_mib(),
    "size_mib 64..4096": size_mib(64, 4096),
    "seconds": seconds(0.5, 60),
    "text": text(40),
    "text empty": text(empty=True),
    "name": name(),
    "regexp": regexp("[a-f]{2}(:[a-f]{2})*", "letters in pairs"),
    "address": address(),
    "address interface": address(interface=True),
    "address_or_path": address_or_path(),
    "cpu_mask": cpu_mask(),
    "cpu_mask multi": cpu_mask(multi=True),
    "file": file(),
    "directory": directory(),
    "file_or_url": file_or_url(),
}

# Texts near what the types take, so that the accepting side is met too.
NEARLY = st.sampled_from(
    [
        *(
            "512",
            "512M",
            "2G",
            "1.5 GiB",
            "2GB",
            "true",
            "false",
            "ide",
            "scsi-hb",
            "0-3,5",
            "all",
            "all:0-3",
            "5,1-2,2",
        ),
        *(
            "3-1",
            "9999",
            "127.0.0.1",
            "127.1",
            "::1",
            "0:0::1",
            "[::1]",
            "fe80::1%eth0",
            "eth0",
            "br0.100",
            "/",
            "/a",
            "//a",
        ),
        *(
            "/a/../b",
            "/a/./b",
            "/a/",
            "/a,b=c\"'\n",
            "/.a/..b/...",
            "/..\n",
            "a/b",
            "-name",
            "http://h/x",
            "https://[::1]:8/",
        ),
        *(
            "http://u:p@h/",
            "file:///etc",
            "ab:cd",
            "ab\n",
            "ab\0",
            "/a\0",
            "/\udcff",
            "/\ud800",
            "\u2028",
            "é",
            "é" * 30,
            "",
        ),
        *("/" + "x" * 255, "/" + "x" * 256, "/" + "é" * 128, "/x" * 2048),
    ]
)
LETTERS = st.text(st.sampled_from("/.,:-%[]0123456789abMG all\n\0é"), max_size=20)
SCALARS = st.one_of(
    NEARLY,
    LETTERS,
    st.text(max_size=300),
    st.text(st.characters(codec=None), max_size=5),
    st.integers(),
    st.integers(-5, 70000),
    st.sampled_from([2**63 - 1, 2**63, -(2**63) - 1, 10**400]),
    st.floats(),
    st.booleans(),
    st.none(),
    st.dates(),
    st.datetimes(),
    st.times(),
)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


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


@pytest.mark.parametrize("kind", ALL_TYPES.values(), ids=list(ALL_TYPES))
@given(value=ANYTHING)
def test_no_value_causes_anything_but_a_refusal_and_parsing_twice_changes_nothing(kind: ParamType, value: Any) -> None:
    outcome = attempt(kind, value)
    if isinstance(outcome, Reject):
        assert outcome.what.startswith(("is ", "has "))
        assert not outcome.what.endswith(".")
    else:
        again = kind.parse(outcome)
        assert (again, type(again)) == (outcome, type(outcome))
        assert type(outcome) in (str, int, float, bool)


@pytest.mark.parametrize("kind", ALL_TYPES.values(), ids=list(ALL_TYPES))
@pytest.mark.parametrize("value", [None, [], [1], {}, {"a": 1}, dt.date(2020, 1, 1), b"x", object(), float("nan")])
def test_a_value_of_a_foreign_type_is_named_in_the_refusal(kind: ParamType, value: object) -> None:
    assert re.match(r"is (nothing|a|not a finite) .*", refusal(kind, value).what)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (boolean(), 1),
        (boolean(), 0),
        (boolean(), "true"),
        (boolean(), [1]),
        (integer(), True),
        (integer(), 1.0),
        (integer(), 1.9),
        (integer(), "512"),
        (integer(), 2**63),
        (integer(), -(2**63) - 1),
        (port(), True),
        (one_of(0, 1, 4), True),
        (one_of(0, 1, 4), False),
        (one_of(0, 1, 4), 4.0),
        (size_mib(), True),
        (size_mib(), 512.0),
        (size_mib(), "512"),
        (seconds(), True),
        (seconds(), "5"),
        (seconds(), float("nan")),
        (seconds(), float("inf")),
        (seconds(), 10**400),
        (cpu_mask(), 3),
    ],
)
def test_one_type_never_passes_for_another(kind: ParamType, value: object) -> None:
    refusal(kind, value)


@pytest.mark.parametrize(
    ("kind", "value", "todo"),
    [
        (boolean(), "True", "write true without quotes"),
        (integer(), "512", "write the number without quotes"),
        (cpu_mask(), 3, "write the CPU number in quotes"),
        (one_of("ide", "scsi-hd"), "scsi-hb", "did you mean 'scsi-hd'? give one of 'ide', 'scsi-hd'"),
        (file(), "/a//b/./c/", "give '/a/b/c'"),
        (file(), "/a/x/../b", "give '/a/b' if that is what is meant"),
        (address(), "fe80::1%eth0", "give the address without '%' and the zone"),
        (address(), "[::1]", "give an IPv6 address without brackets"),
        (file_or_url(), "http://me:pw@host/x", "give the URL without them"),
    ],
)
def test_a_common_mistake_gets_its_own_advice(kind: ParamType, value: object, todo: str) -> None:
    assert refusal(kind, value).todo == todo


def test_port_limits_are_both_allowed() -> None:
    assert [port().parse(n) for n in (1, 65535)] == [1, 65535]
    assert refusal(port(), 0).what == "is below the minimum of 1"
    assert refusal(port(), 65536).what == "is above the maximum of 65535"
    assert refusal(port(5900), 5899).what == "is below the minimum of 5900"


def test_expects_names_the_limits() -> None:
    assert integer(1, 32).expects == "a whole number from 1 to 32"
    assert integer(minimum=0).expects == "a whole number of at least 0"
    assert integer(maximum=0).expects == "a whole number of at most 0"
    assert size_mib(64, 4096).expects == "a size from 64 MiB to 4 GiB, as a number of MiB or a text such as '2G'"
    assert one_of("only").expects == "'only'"


def test_a_size_is_mib_as_a_number_or_as_text() -> None:
    assert [size_mib().parse(value) for value in (512, "512M", "2G")] == [512, 512, 2048]
    assert refusal(size_mib(64, 4096), "8G").what == "is above the maximum of 4 GiB"


def test_seconds_are_always_a_float() -> None:
    assert repr(seconds().parse(5)) == "5.0"


def test_choices_with_meanings_take_the_same_values() -> None:
    kind = one_of({"bios": "Start with SeaBIOS.", "uefi": "Start with OVMF."})
    assert kind.expects == one_of("bios", "uefi").expects
    assert kind.choices == {"bios": "Start with SeaBIOS.", "uefi": "Start with OVMF."}
    assert list_of(kind).choices == kind.choices
    assert one_of(4, 6).choices == {4: "", 6: ""}
    with pytest.raises(Reject, match="is not a known choice"):
        kind.parse("efi")


@pytest.mark.parametrize("meaning", ["No stop", "Two\nlines.", "", None])
def test_the_meaning_of_a_choice_is_a_sentence(meaning: str) -> None:
    with pytest.raises(TypeError, match="the meaning of 'bios' is not a sentence"):
        one_of({"bios": meaning})


def test_one_of_needs_choices_of_one_kind() -> None:
    for choices in ((), ("a", 1), (True, False)):
        with pytest.raises(TypeError, match="all texts or all whole numbers"):
            one_of(*choices)


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0", "\x1b[31m", "\x7f", "\x85", "\u2028", "\ud800"])
def test_text_is_one_line_without_control_characters(value: str) -> None:
    assert refusal(text(), value).what.startswith("has the control character '\\")


def test_text_is_limited_in_bytes_not_in_characters() -> None:
    assert text(4).parse("éé") == "éé"
    assert refusal(text(4), "ééé").what == "is longer than 4 bytes"


def test_empty_text_is_refused_unless_it_has_a_meaning() -> None:
    assert refusal(text(), "").what == "is empty"
    assert text(empty=True).parse("") == ""


@pytest.mark.parametrize("value", ["-runas", ".", "..", "a b", "a/b", "a,b", "a=b", "", "é", "a\n"])
def test_a_name_cannot_be_an_option_a_path_or_two_words(value: str) -> None:
    refusal(name(), value)


def test_a_regexp_matches_the_whole_text() -> None:
    kind = regexp("[0-9]+", "digits")
    assert kind.parse("12") == "12"
    assert [refusal(kind, value).what for value in ("12x", "x12", "12 ")] == ["is not of the right form"] * 3


def test_only_files_and_directories_are_looked_at_on_the_node() -> None:
    checks = {key: kind.node_check for key, kind in ALL_TYPES.items() if kind.node_check}
    assert checks == {"file": NodeCheck.FILE, "directory": NodeCheck.DIRECTORY, "file_or_url": NodeCheck.FILE}


def test_a_subclass_of_a_plain_type_becomes_the_plain_type() -> None:
    class Number(int):
        """As tomlkit has them."""

    class Words(str):
        """As tomlkit has them."""

        __slots__ = ()

    for kind, value in ((integer(), Number(5)), (size_mib(), Number(5)), (port(), Number(5)), (one_of(5), Number(5))):
        assert type(kind.parse(value)) is int
    for kind, word in ((text(), "ab"), (file(), "/a"), (address(), "1.1.1.1"), (name(), "a"), (one_of("a"), "a")):
        assert type(kind.parse(Words(word))) is str


def test_a_list_refuses_a_value_twice_unless_it_may_repeat() -> None:
    with pytest.raises(Reject, match=r"has a value twice \(value 2 of the list\)"):
        list_of(text()).parse(["-v", "-v"])
    words = list_of(text(), repeats=True)
    assert words.parse(["-v", "-v"]) == ("-v", "-v")
    assert "different" not in words.expects
    assert "uniqueItems" not in words.json_schema()
