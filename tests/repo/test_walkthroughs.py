"""Tutorials work: every command of a page is run, and its output is compared with the page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

import hvcore
from walkthrough import blocks, differences, lacks, missing, on_screen, recorded, same_output, walk

pytestmark = pytest.mark.heavy  # runs the commands of whole pages

TOP: Final = Path(__file__).resolve().parents[2]
FOR_AUTHORS: Final = [TOP / f"docs/how-to/write-{what}.md" for what in ("a-driver", "an-extension")]
ALWAYS: Final = [TOP / "README.md", TOP / "docs/index.md", *sorted((TOP / "docs/tutorial").glob("*.md")), *FOR_AUTHORS]
PAGES: Final = [TOP / "README.md", *sorted((TOP / "docs").rglob("*.md"))]


def shown(path: Path) -> str:
    return path.relative_to(TOP).as_posix()


def hidden(page: str) -> list[str]:
    """The commands that a page runs and does not show."""
    return re.findall(r"^<!-- first: (.+) -->$", page, re.MULTILINE)


def to_walk() -> list[object]:
    """Pages with commands, as pytest's parameters. Pages that need a hypervisor or root are live tests."""
    found: list[object] = []
    for path in PAGES:
        page = path.read_text(encoding="utf-8")
        if any(block.todo == "run" for block in blocks(page)):
            marks = [pytest.mark.live] if "\n<!-- needs " in f"\n{page}" else []
            # They run pytest and mypy on what they make, as tests/scaffold does. One of the four is walked always.
            marks += [pytest.mark.slow] if path in (*FOR_AUTHORS, TOP / "docs/tutorial/write-a-driver.md") else []
            found.append(pytest.param(path, id=shown(path), marks=marks))
    return found


@pytest.mark.parametrize("path", ALWAYS, ids=shown)
def test_every_block_of_a_tutorial_is_checked(path: Path) -> None:
    assert lacks(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", [path for path in ALWAYS if path not in FOR_AUTHORS], ids=shown)
def test_a_reader_sees_every_command_of_a_tutorial(path: Path) -> None:
    """A comment is invisible on the page: what it runs first, such as a command that makes a disk, a reader never runs."""
    assert hidden(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("page", "commands"),
    [
        ("<!-- folder /srv -->\n<!-- first: make-disk web1.img -->\n\n# Title\n", ["make-disk web1.img"]),
        ("<!-- first: a -->\n<!-- first: b -->\n", ["a", "b"]),
        ("<!-- folder /srv -->\n\n<!-- run -->\n```console\n$ make-disk web1.img\n```\n", []),
    ],
)
def test_a_hidden_command_is_found(page: str, commands: list[str]) -> None:
    assert hidden(page) == commands


COUNT: Final = re.compile(r"\b\d{2,} (?:passed|skipped|deselected)\b|\b(?:some|about|over) \w+ checks\b")


@pytest.mark.parametrize("path", [*PAGES, TOP / "CHANGELOG.md"], ids=shown)
def test_no_page_says_how_many_tests_there_are(path: Path) -> None:
    """Each new check would make the number wrong. A page has ``...`` there."""
    assert COUNT.findall(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("33 passed, 3 skipped in 1 s", ["33 passed"]),
        ("It runs some ninety checks.", ["some ninety checks"]),
        ("... passed, 0 failed, ... skipped", []),
        ("2 passed, 0 failed", []),  # of two that the command names
    ],
)
def test_a_number_of_tests_is_found(text: str, found: list[str]) -> None:
    assert COUNT.findall(text) == found


@pytest.mark.parametrize("path", to_walk())
def test_a_page_shows_the_real_output(path: Path, tmp_path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    reason = missing(page)
    if reason:
        pytest.skip(f"{shown(path)}: {reason}")
    run_dir = tmp_path / "run" / "hvcore"
    try:
        found = differences(list(walk(page, tmp_path)), shown(path))
    finally:  # a page may end before its guests do
        if run_dir.exists():
            hvcore.Node(run_dir).stop_all(force=True)
    assert not found, "\n".join(["", *found, "docs/walkthrough.py --record writes the real output into the page"])


@pytest.mark.parametrize(
    ("expected", "said", "same"),
    [
        ("web1: running (kvm, 0.04 s)\n", "web1: running (kvm, 12.30 s)\n", True),
        ("web1: running (kvm, 0.04 s)\n", "web1: paused (kvm, 0.04 s)\n", False),
        ("NAME  CPU  MEMORY\nweb1  0.1      64\n", "NAME   CPU  MEMORY\nweb1  22.1      64\n", True),
        ("NAME  CPU  MEMORY\nweb1  0.1      64\n", "NAME  CPU  MEMORY\nweb1  0.1      65\n", False),
        ("pid     12\nstate  running\n", "pid  4711\nstate   running\n", True),
        ("pid     12\nstate  running\n", "pid  4711\nstate   paused\n", False),
        ("one\n...\nlast\n", "one\ntwo\nthree\nlast\n", True),
        ("one\n...\nlast\n", "one\nlast\n", True),
        ("one\n...\nlast\n", "one\nlast\nmore\n", False),
        ("got ... of it\n", "got 17 of it\n", True),
        ("a.c\n", "abc\n", False),
        ("", "something\n", False),
        ("64 MiB\n", "65 MiB\n", False),
        ("31 passed, 0 failed, 0.3 s\n", "32 passed, 0 failed, 9 s\n", False),
        ("... passed, 0 failed, 0.3 s\n", "32 passed, 0 failed, 9 s\n", True),
        ("31 passed, 0 failed, 0.3 s\n", "31 passed, 1 failed, 0.3 s\n", False),
        ("... passed, ... skipped in 9.82s\n", "38 passed, 2 skipped in 77.63s (0:01:17)\n", True),
    ],
)
def test_only_what_differs_between_runs_may_differ(expected: str, said: str, same: bool) -> None:  # noqa: FBT001 - a table
    assert same_output(expected, said) is same


PAGE: Final = """\
<!-- folder /srv -->
<!-- first: mkdir before -->

<!-- file sub/a.txt -->
```text
path = /srv/a
```

<!-- run -->
```console
$ cat sub/a.txt
path = /srv/a
$ cd before
$ pwd
/srv/before
$ echo a \\
> b
a c
```

<!-- run -->
```sh
exit_with() { return "$1"; }
exit_with 3
```
"""


def test_commands_run_in_a_separate_folder_and_differences_are_reported(tmp_path: Path) -> None:
    steps = list(walk(PAGE, tmp_path))
    assert [step.as_expected for step in steps] == [True, True, True, True, False, False]
    found = differences(steps, "page.md")
    assert "page.md:10: echo a \\\nb\nthe page says\na c\nand it said\na b\n" in found[0]
    assert "(exit code 3)" in found[1]
    assert (tmp_path / "sub/a.txt").read_text(encoding="utf-8") == f"path = {tmp_path}/a\n"


def test_what_was_said_can_be_written_into_the_page(tmp_path: Path) -> None:
    page = recorded(PAGE, list(walk(PAGE, tmp_path)))
    assert page == PAGE.replace("a c\n", "a b\n")


def test_a_block_without_a_check_is_reported() -> None:
    page = "<!-- shown: it needs two nodes -->\n```sh\na\n```\n\n```python\n>>> 1\n1\n```\n\n```console\n$ b\n```\n"
    assert [text.partition(":")[0] for text in lacks(page)] == ["line 11"]


def test_a_page_says_what_it_needs() -> None:
    assert missing("<!-- needs no-such-program -->\n") == "it needs no-such-program"
    assert missing("<!-- needs sh -->\n") is None


def test_a_spinner_is_removed_in_the_end() -> None:
    moving = (
        "\x1b[?25l\r\x1b[2K| working\r\n\r\x1b[1A\x1b[2K/ working\r\n\x1b[?25h\r\x1b[1A\x1b[2Kweb1: ready\r\nmore\r\n"
    )
    assert on_screen(moving) == "web1: ready\nmore\n"
    assert on_screen("10 %\r20 %\r\nend") == "20 %\nend"
