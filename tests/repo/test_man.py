"""The manual page has every subcommand and option, and no text of ours is a request to roff."""

from __future__ import annotations

import re
from typing import Final

import pytest

import generate
from generator.man import escaped
from hvcore.cli.app import COMMANDS

PAGE: Final = generate.page("docs/man/hv.1")
REQUESTS: Final = {"TH", "SH", "SS", "PP", "TP", "B", "BR", "nf", "fi"}


@pytest.mark.parametrize("name", [name for section in COMMANDS.values() for name in section])
def test_every_subcommand_has_a_section(name: str) -> None:
    written = name.replace("-", "\\-")
    section = PAGE.partition(f'\n.SS "hv {written}"\n')[2].partition("\n.S")[0]
    assert f".B hv {written}\n" in section
    assert ".B \\-h, \\-\\-help\n" in section


def test_whatis_can_read_the_name() -> None:
    assert re.search(r"^\.TH HV 1 .*\n\.SH NAME\nhv \\- \S.+\n\.SH SYNOPSIS$", PAGE, re.MULTILINE)


def test_only_our_requests_are_in_the_page() -> None:
    lines = PAGE.splitlines()
    assert lines[0].startswith('.\\"')
    assert [line for line in lines[1:] if line.startswith(("'", ".")) and line[1:].split()[0] not in REQUESTS] == []
    assert [line for line in lines if not line] == []
    assert not re.search(r"[^\\]-", PAGE.partition("\n")[2]), (
        "roff would print a typographic hyphen, which cannot be pasted"
    )


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (".config is read", "\\&.config is read"),
        ("'hv list' shows it", "\\&'hv list' shows it"),
        ("--json", "\\-\\-json"),
        ("leave it with ^]", "leave it with \\(ha]"),
        (r"a newline is \n", r"a newline is \en"),
        ('say "hello"', "say \\(dqhello\\(dq"),
        ("~/.config/fish", "\\(ti/.config/fish"),
    ],
)
def test_text_stays_text(text: str, written: str) -> None:
    assert escaped(text) == written
