"""``hv console --log``: what an instance wrote to its console before."""

from __future__ import annotations

import io
from typing import Any

from fixture_types import File

from hvcore.cli.access.exec_and_log import print_piece


class Terminal(io.StringIO):
    """A terminal that keeps what it gets."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_neither_colours_nor_control_characters_of_the_guest() -> None:
    terminal = Terminal()
    print_piece(terminal, b"\x1b[0;32mok\x1b[0m \x1b]0;title\x07 \xff\r\nnext\tcolumn\n", colours=False)
    assert terminal.getvalue() == "ok \\x1b]0;title\\x07 \\xff\nnext\tcolumn\n"


def test_a_driver_without_one_says_so(hv: Any, instance_file: File) -> None:
    assert hv("start", instance_file()).exit_code == 0
    found = hv("console", "web1", "--log")
    assert found.exit_code == 3
    assert "driver fake: does not support console --log" in found.stderr


def test_an_unknown_instance_and_options_without_it(hv: Any) -> None:
    assert hv("console", "web9", "--log").exit_code == 4
    for option in (["--follow"], ["--lines", "3"]):
        found = hv("console", "web1", *option)
        assert found.exit_code == 2
        assert f"{option[0]} needs --log; add it" in found.stderr
