"""Sizes as text."""

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
        ("0.3M", "whole number of MiB"),
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


@given(st.integers(0, units.MAX_MIB))
def test_a_printed_size_reads_back_as_the_same_number(mib: int) -> None:
    assert units.parse_mib(units.format_mib(mib)) == mib


@given(st.text(max_size=50))
def test_no_text_makes_the_size_reader_fail_in_another_way(text: str) -> None:
    try:
        size = units.parse_mib(text)
    except ValueError:
        size = 0
    assert 0 <= size <= units.MAX_MIB
