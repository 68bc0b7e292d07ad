"""Sizes and times as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvcore import units


@pytest.mark.parametrize(
    ("text", "mib"),
    [("512M", 512), ("512 MiB", 512), ("2G", 2048), ("2g", 2048), ("1.5G", 1536), ("1024K", 1), ("1T", 1048576)],
)
def test_a_size_with_a_unit_is_read_as_mib(text: str, mib: int) -> None:
    assert units.parse_mib(text) == mib


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("512", "no unit"),
        ("1K", "whole number of MiB"),
        ("0.3M", "whole number of bytes"),
        ("2GB", "1000 or 1024"),
        ("", "not a size"),
        ("-1G", "not a size"),
        ("1G\n", "not a size"),
        ("٣G", "not a size"),
        ("1e3M", "not a size"),
        ("9" * 500 + "G", "not a size"),
        ("9999999P", "above the largest"),
    ],
)
def test_what_is_not_a_size_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        units.parse_mib(text)


def test_a_number_without_a_unit_is_bytes_where_bytes_are_meant() -> None:
    assert units.parse_bytes("512") == 512
    assert units.parse_bytes("64K") == 65536


@given(st.integers(0, units.MAX_MIB))
def test_a_printed_size_reads_back_as_the_same_number(mib: int) -> None:
    assert units.parse_mib(units.format_mib(mib)) == mib


@given(st.text(max_size=50))
def test_no_text_makes_the_size_reader_fail_in_another_way(text: str) -> None:
    try:
        size = units.parse_bytes(text)
    except ValueError:
        size = 0
    assert 0 <= size <= units.MAX_BYTES


@given(st.integers(0, units.MAX_MIB))
def test_mib_and_bytes_convert_both_ways(mib: int) -> None:
    assert units.bytes_to_mib(units.mib_to_bytes(mib)) == mib
    assert units.bytes_to_mib(units.mib_to_bytes(mib) + 1) == mib


def test_a_kib_of_proc_is_1024_bytes() -> None:
    assert units.kib_to_bytes(3) == 3072


@pytest.mark.parametrize(
    ("size", "shown"), [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1610612736, "1.5 GiB"), (2**63 - 1, "8192 PiB")]
)
def test_bytes_are_shown_with_one_decimal(size: int, shown: str) -> None:
    assert units.format_bytes(size) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.012, "12 ms"),
        (4.25, "4.2 s"),
        (5, "5 s"),
        (60, "1 min"),
        (61.9, "1 min 1 s"),
        (3700, "1 h 1 min"),
        (90061, "1 d 1 h"),
    ],
)
def test_times_are_shown_in_two_figures(seconds: float, shown: str) -> None:
    assert units.format_seconds(seconds) == shown
