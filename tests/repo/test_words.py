"""No text that people read has a word from `WORDS`: help, messages, parameter texts and docstrings in the sources, and pages.

`words_to_do.txt` lists the files that still have such words. It only shrinks: take a file out once its texts are clean.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

TOP: Final = Path(__file__).resolve().parents[2]
TO_DO: Final = Path(__file__).with_name("words_to_do.txt")

WORDS: Final[dict[str, str]] = {  # what not to write, as a regular expression: what to write instead
    r"(?:is|are|was|were|be|been|being) told": "shows, reports, lists; for an instruction: 'was asked to'",
    r"told (?:at|by|of|from|apart|so)": "shown, reported, listed, known",
    r"tells (?:at once|everything|all|that|what|so|it|them|nobody|others)": "shows, lists, reports",
    r"anew": "again",
    r"mend(?:s|ed|ing)?": "fix, repair",
    r"stands? for": "means",
    r"(?:is|are) (?-i:none)": "is not one; there is none of that kind: 'has no ...'",
    r"(?:that|which|what) (?:is|are) no": "that is not a ...",
    r"(?<!here )is no (?:file|program|user|name|error|interface|disk|driver|instance|function|terminal|directory|bridge|link|device|number|text|backup|suggestion|reason)": "is not a ...",
    r"whoever": "a program that, a user who",
    r"nobody": "no user, no program, no one",
    r"somebody": "another user, another program",
    r"(?:is|are) looked at": "is read, is checked",
    r"of (?:its|their|our|one's|your) own": "its own ..., their own ...",
    r"by (?:itself|themselves)": "on its own; 'the guest shut down'",
    r"unset:": "Default: ...",
    r"as that says": "Default: the value of ...",
    r"(?:is|are|not) to be had": "is available",
    r"(?:is|are) to go": "name who removes it, and when",
    r"rungs?": "step; of a stop: 'stopped by'",
    r"whatever": "any, regardless of; or cut it",
    r"is rarely wanted": "is seldom useful",
    r"the hard way": "powered off, killed",
    r"make room": "free some space",
    r"nothing tells": "it is not known",
}
HABIT: Final = re.compile(rf"\b(?:{'|'.join(f'(?:{word})' for word in WORDS)})(?!\w)", re.IGNORECASE)

# The text of a line that keeps such a word, without the blanks around it: why.
KEPT: Final[dict[str, str]] = {}

PLUGINS: Final = ("plugins/hv-kvm/src", "plugins/hv-chroot/src", "plugins/hv-fake/src")
SOURCES: Final = ("hvcore", *PLUGINS, "examples", "demo", "benchmarks", "docs")
PAGES: Final = ("docs", "changelog.d", "tests", "plugins", "examples", "hvcore/templates")
GENERATED: Final = "<!-- Made by docs/generate.py"
NOT_PROSE: Final = re.compile(r"^(`{3,}).*?^\1$|^<!-- quote.*?<!-- end of quote -->$", re.MULTILINE | re.DOTALL)


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Every line that a person reads, with its number: of Python the strings, of a page what is not code.

    Of a file without such a word there is none: parsing takes most of the time.
    """
    text = path.read_text(encoding="utf-8")
    if not HABIT.search(text):
        return
    if path.suffix == ".py":
        lines = text.splitlines()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
                yield from enumerate(lines[node.lineno - 1 : node.end_lineno], node.lineno)
    elif not text.startswith(GENERATED):
        yield from enumerate(NOT_PROSE.sub(lambda code: "\n" * code[0].count("\n"), text).splitlines(), 1)


def instead(found: str) -> str:
    """What to write in place of a word that `HABIT` has found."""
    return next(better for word, better in WORDS.items() if re.match(rf"{word}(?!\w)", found, re.IGNORECASE))


def hits(path: Path) -> dict[str, str]:
    """The lines of a file that have such a word, each with where it is and what to write instead."""
    return {
        line.strip(): f"{path.relative_to(TOP)}:{number}: '{found[0]}': write {instead(found[0])}"
        for number, line in texts(path)
        for found in HABIT.finditer(line)
    }


PARAMETER: Final = re.compile(r"(?:The|Whether|How|What|Where|Which|More) ")


def test_the_help_of_a_parameter_says_what_the_value_is() -> None:
    wrong = []
    for folder in ("hvcore", *PLUGINS, "examples"):
        for path in (TOP / folder).rglob("*.py*"):
            if path.suffix not in {".py", ".in"} or "tests" in path.parts:
                continue
            source = path.read_text(encoding="utf-8")
            if "Param(" not in source:
                continue
            for call in ast.walk(ast.parse(re.sub(r"{{[a-z_]+}}", "x", source) if path.suffix == ".in" else source)):
                if isinstance(call, ast.Call) and _name(call.func) == "Param":
                    texts = [
                        ast.literal_eval(word.value) for word in call.keywords if word.arg == "help" and _is_text(word)
                    ]
                    wrong += [f"{path.relative_to(TOP)}: {text}" for text in texts if not PARAMETER.match(text)]
    assert not wrong, "\n".join(["see docs/how-to/write-texts.md, rule 3", *wrong])


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _is_text(word: ast.keyword) -> bool:
    return isinstance(word.value, ast.Constant) and isinstance(word.value.value, str)


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, str]]:
    """The hits of every file that has some, by its name."""
    paths = {path for folder in SOURCES for path in (TOP / folder).rglob("*.py")} | set((TOP / "docs").glob("*.toml"))
    paths |= set(TOP.glob("*.md"))
    for place in PAGES:
        paths |= {path for end in ("md", "md.in") for path in (TOP / place).rglob(f"*.{end}")}
    return {path.relative_to(TOP).as_posix(): lines for path in sorted(paths) if (lines := hits(path))}


def to_do() -> list[str]:
    return TO_DO.read_text(encoding="utf-8").split() if TO_DO.exists() else []


def test_texts_say_it_in_plain_words(found: dict[str, dict[str, str]]) -> None:
    wrong = [
        where
        for name, lines in found.items()
        if name not in to_do()
        for text, where in lines.items()
        if text not in KEPT
    ]
    assert not wrong, "\n".join(["see docs/how-to/write-texts.md", *wrong])


def test_every_kept_line_is_still_there(found: dict[str, dict[str, str]]) -> None:
    lines = {text for hits in found.values() for text in hits}
    assert [text for text in KEPT if text not in lines] == [], "take these out of KEPT"


def test_a_file_without_such_words_is_not_on_the_list(found: dict[str, dict[str, str]]) -> None:
    unfinished = {name for name, lines in found.items() if set(lines) - set(KEPT)}
    assert [name for name in to_do() if name not in unfinished] == [], f"take these out of {TO_DO.name}"


@pytest.mark.parametrize(
    ("text", "better"),
    [
        ("Whoever asks is told", "a program that"),
        ("each with a network of its own", "its own ..."),
        ("Unset: 30.", "Default: ..."),
        ("It is none.", "is not one"),
    ],
)
def test_a_planted_word_is_found(text: str, better: str) -> None:
    hit = HABIT.search(text)
    assert hit is not None
    assert instead(hit[0]).startswith(better)
