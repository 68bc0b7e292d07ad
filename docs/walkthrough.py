"""Run the commands of a page, as its reader would, and compare the output. ``python docs/walkthrough.py PAGE...``.

An HTML comment before each block of code says what to do with it::

    <!-- file web1.toml -->      the block is the content of that file
    <!-- run -->                 a `console` block: each command is run and prints the lines after it;
                                 an `sh` block: a script that has to exit with 0;
                                 a `diff` block: a patch that has to apply
    <!-- shown: REASON -->       nothing is done

These comments may come before the first block: ``<!-- folder /srv -->`` (the name of the working directory on the page),
``<!-- needs root qemu-system-x86_64 -->``, ``<!-- first: COMMAND -->`` (run first, not shown), and ``<!-- venv -->``: a
virtual environment with the packages of ours, where ``pip install`` works without an index. In the output, times and
numbers that differ between runs (`_VARIES`, `_NOISE`) count as equal. ``...`` matches anything, and a line of ``...``
any lines. A line ``^]`` is a key pressed when the line before it has appeared. ``--record`` writes the real output into
the blocks that differ.
"""

from __future__ import annotations

import argparse
import os
import re
import select
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

__all__ = [
    "Block",
    "Reader",
    "Step",
    "blocks",
    "differences",
    "lacks",
    "main",
    "missing",
    "on_screen",
    "same_output",
    "walk",
]

_BLOCK: Final = re.compile(r"(?:^<!-- ([^\n]+?) -->\n+)?^(`{3,})(\w*)\n(.*?)^\2$", re.MULTILINE | re.DOTALL)
_DIRECTIVE: Final = re.compile(r"^<!-- (folder|needs|first:|venv) ?(.*?) -->$", re.MULTILINE)
_DEADLINE_S: Final = 300.0  # for a command that hangs; some run a whole test suite, on a node that may be busy
_KEY: Final = "^]"
_MYPY_CACHE: Final = str(Path(__file__).resolve().parents[1] / ".cache/mypy-pages")  # of the pages and runs before

# What differs between two runs: in a table by the title of the column, in a list of facts by its first word.
_VARIES: Final = frozenset(
    {"RESIDENT", "CPU", "UPTIME", "SECONDS", "pid", "uid", "resident", "cpu", "uptime", "qemu", "machine", "started"}
)
_NOISE: Final = re.compile(
    r"(?<![\w.])\d+(?:\.\d+)? ?(?:ms|s|m|h)(?!\w)(?: \(\d+:\d\d:\d\d\))?"  # a time, by pytest after a minute in two forms
    r"|(?<![\w.])\d+\.\d+\.\d+[\w.+-]*"  # the version of something
    r"|^[.s]+ *\[ *\d+%\]$"  # pytest's row of dots
)


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code: the instruction of its comment, its language, its text, and the place of the text."""

    todo: str
    language: str
    text: str
    span: tuple[int, int]
    line: int


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a block, the expected output and the real one."""

    block: Block
    command: str
    expected: str
    said: str

    @property
    def as_expected(self) -> bool:
        """Whether the output is that of the page."""
        return same_output(self.expected, self.said)


def blocks(page: str) -> list[Block]:
    """Every block of code on a page, in order."""
    found = []
    for match in _BLOCK.finditer(page):
        line = page.count("\n", 0, match.start(4))
        found.append(Block(match[1] or "", match[3], match[4], match.span(4), line))
    return found


def lacks(page: str) -> list[str]:
    """The blocks without a check: neither run, nor a file, nor quoted, nor an example for doctest, nor excused."""
    known = re.compile(r"run|file \S+|quote \S+|shown: .+")
    return [
        f"line {block.line}: say in a comment what is done with this block"
        for block in blocks(page)
        if not known.fullmatch(block.todo) and ">>>" not in block.text
    ]


def missing(page: str) -> str | None:
    """What the page needs and this machine lacks, or None."""
    for name, value in _DIRECTIVE.findall(page):
        for need in value.split() if name == "needs" else ():
            if need == "root" and os.geteuid() != 0:
                return "it needs root"
            if need != "root" and shutil.which(need) is None:
                return f"it needs {need}"
    return None


def same_output(expected: str, said: str) -> bool:
    """Whether two outputs are equal, except for parts that differ between runs."""
    parts = []
    for line in _steadied(expected):
        text = r"(?:.*\n)*?" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*") + "\n"
        parts.append(text)
    return re.fullmatch("".join(parts), "".join(f"{line}\n" for line in _steadied(said))) is not None


def _steadied(text: str) -> Iterator[str]:
    """Lines with one blank between words, and a mark in place of each part that differs between runs."""
    columns: set[int] = set()
    for line in text.splitlines():
        words = re.split(r"\s{2,}", line.strip())
        if len(words) > 1 and all(word == word.upper() for word in words):
            columns = {place for place, word in enumerate(words) if word in _VARIES}
        elif words[0] in _VARIES and len(words) == 2:
            words[1] = "~"
        else:
            words = ["~" if place in columns else word for place, word in enumerate(words)]
        yield _NOISE.sub("~", " ".join(" ".join(words).split()))


@dataclass(slots=True)
class Reader:
    """A reader at a shell in ``folder``, which the page calls ``called``. A context manager."""

    folder: Path
    called: str
    venv: bool = False
    _shell: subprocess.Popen[bytes] = field(init=False)

    def __enter__(self) -> Self:
        bin_dir = str(_own_environment(self.folder) if self.venv else Path(sys.executable).parent)
        settings = {"HVCORE_RUN_DIR": f"{self.folder}/run/hvcore", "NO_COLOR": "1", "COLUMNS": "120", "PS1": ""}
        environment = {**os.environ, **settings, "PATH": f"{bin_dir}:{os.environ['PATH']}"}
        environment |= {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_QUIET": "1"}
        environment |= {"PIP_ROOT_USER_ACTION": "ignore", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        environment |= {"MYPY_CACHE_DIR": _MYPY_CACHE}
        environment |= {"HVCORE_CONFIG_DIR": f"{self.folder}/etc/hvcore", "PYTHONDONTWRITEBYTECODE": "1"}
        pipe = subprocess.PIPE
        self._shell = subprocess.Popen(
            ["bash", "--norc"], cwd=self.folder, env=environment, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._shell.kill()
        self._shell.communicate()

    def write(self, name: str, text: str) -> None:
        """Make a file, and the folders that it is in; a name below ``called`` is in ``folder``."""
        path = self.folder / self._with_real_paths(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._with_real_paths(text), encoding="utf-8")

    def run(self, command: str, *, press_after: str | None = None) -> tuple[str, int]:
        """Give the shell a command; the output, with the paths of the page, and the exit code.

        ``press_after``: on its own terminal, with ``^]`` pressed once that line has appeared.
        """
        command = self._with_real_paths(command)
        given = "/dev/null"
        if press_after is not None:
            given = str(self.folder / ".typed")
            os.mkfifo(given)
            command = f"script -qec {_quoted(command)} /dev/null"
        end = f"--end-{time.monotonic_ns()}--"
        assert self._shell.stdin is not None
        self._shell.stdin.write(f"{{ {command}\n}} <{given}\nprintf '%s%d\\n' '{end}' $?\n".encode())
        self._shell.stdin.flush()
        if press_after is not None:
            with open(given, "wb", buffering=0) as keyboard:
                said = self._until(press_after.encode() + b"\r\n")
                keyboard.write(b"\x1d")
                said += self._until(end.encode())
            os.unlink(given)
        else:
            said = self._until(end.encode())
        code = int(self._until(b"\n"))
        text = on_screen(said.decode("utf-8", "replace").removesuffix(end))
        if press_after is not None:  # `hv` moves on to a new line, and the key itself is not seen
            text = text.replace(f"{press_after}\n\n", f"{press_after}\n{_KEY}\n")
        return self._with_page_paths(text), code

    def _until(self, mark: bytes) -> bytes:
        assert self._shell.stdout is not None
        give_up, said = time.monotonic() + _DEADLINE_S, b""
        while not said.endswith(mark):
            if not select.select([self._shell.stdout], [], [], max(0.0, give_up - time.monotonic()))[0]:
                raise SystemExit(f"no {mark!r} within {_DEADLINE_S:g} s, only {said.decode('utf-8', 'replace')!r}")
            byte = os.read(self._shell.stdout.fileno(), 1)
            if not byte:
                raise SystemExit(f"the shell ended before {mark!r}, after {said.decode('utf-8', 'replace')!r}")
            said += byte
        return said

    def _with_real_paths(self, text: str) -> str:
        for path, there in self._places():
            text = re.sub(rf"(?<![\w/]){re.escape(path)}(?![\w-])", there, text)
        return text

    def _with_page_paths(self, text: str) -> str:
        for path, there in self._places():
            text = text.replace(there, path)
        return text

    def _places(self) -> list[tuple[str, str]]:
        """Paths of the page with the real paths; the innermost first."""
        own = ("/run/hvcore", "/etc/hvcore")
        return [*((path, f"{self.folder}{path}") for path in own), (self.called, str(self.folder))]


def on_screen(said: str) -> str:
    """The text that remains on a terminal at the end, without progress marks that were overwritten."""
    lines, overwrite = [""], False
    for piece in re.findall(r"\x1b\[[\d;?]*[A-Za-z]|\r?\n|\r|[^\x1b\r\n]+", said):
        if piece.endswith("\n"):
            lines.append("")
        elif piece == "\r":
            overwrite = True
        elif piece.startswith("\x1b"):
            if piece.endswith("A") and len(lines) > 1:
                lines.pop()
            if piece[-1] in "AK":
                lines[-1] = ""
        else:
            lines[-1] = piece if overwrite else lines[-1] + piece
            overwrite = False
    return "\n".join(lines)


_PROGRAMS: Final[Mapping[str, str]] = {
    "hv": "-c 'from hvcore.cli import main; main()'",
    **{name: f"-m {name}" for name in ("pip", "pytest", "mypy")},
}


def _own_environment(folder: Path) -> Path:
    """Make a virtual environment with the packages of ours; the folder of its programs."""
    home = folder / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    bin_dir = home / "bin"
    for name, how in _PROGRAMS.items():
        (bin_dir / name).write_text(f'#!/bin/sh\nexec {bin_dir}/python {how} "$@"\n', encoding="utf-8")
        (bin_dir / name).chmod(0o755)
    # A file of paths would not have the files of paths in ours read, and editable installations are such.
    ours = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
    target = next(home.glob("lib/python*/site-packages"))
    (target / "ours.pth").write_text(ours, encoding="utf-8")
    return bin_dir


def _quoted(command: str) -> str:
    return "'" + command.replace("'", "'\\''") + "'"


def walk(page: str, folder: Path) -> Iterator[Step]:
    """Run everything on a page, in an empty folder; every command with its output."""
    facts = _DIRECTIVE.findall(page)
    called = next((value for name, value in facts if name == "folder"), "/srv")
    with Reader(folder, called, venv=any(name == "venv" for name, _ in facts)) as reader:
        before = Block("run", "sh", "", (0, 0), 1)
        for command in (value for name, value in facts if name == "first:"):
            yield _script(reader, before, command)
        for block in blocks(page):
            kind, _, name = block.todo.partition(" ")
            if kind == "file":
                reader.write(name, block.text)
            elif kind == "run" and block.language == "console":
                yield from _session(reader, block)
            elif kind == "run":
                change = block.language == "diff"
                yield _script(reader, block, f"git apply - <<'END'\n{block.text}END" if change else block.text)


def _script(reader: Reader, block: Block, text: str) -> Step:
    said, code = reader.run(text)
    return Step(block, text, "...\n" if code == 0 else "(that it ends well)\n", f"{said}(exit code {code})\n")


def _session(reader: Reader, block: Block) -> Iterator[Step]:
    for command, expected in commands(block.text):
        lines = expected.splitlines()
        pressed = lines[lines.index(_KEY) - 1] if _KEY in lines else None
        said, _ = reader.run(command, press_after=pressed)
        yield Step(block, command, expected, said)


def commands(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a `console` block, each with the lines after it; its first two characters are the prompt."""
    for part in re.split(rf"^{re.escape(text[:2])}", text, flags=re.MULTILINE)[1:]:
        command, _, rest = part.partition("\n")
        while rest.startswith("> "):
            more, _, rest = rest[2:].partition("\n")
            command += f"\n{more}"
        yield command, rest


def differences(steps: list[Step], name: str) -> list[str]:
    """The differences between the output and the page, as text."""
    return [
        f"{name}:{step.block.line}: {step.command.strip()}\nthe page says\n{step.expected}and it said\n{step.said}"
        for step in steps
        if not step.as_expected
    ]


def recorded(page: str, steps: list[Step]) -> str:
    """The page with the real output in the blocks that differ."""
    by_block: dict[tuple[int, int], list[Step]] = {}
    for step in steps:
        by_block.setdefault(step.block.span, []).append(step)
    for (start, end), found in sorted(by_block.items(), reverse=True):
        if found[0].block.language == "console" and not all(step.as_expected for step in found):
            prompt = page[start : start + 2]
            page = page[:start] + "".join(_written(prompt, step) for step in found) + page[end:]
    return page


def _written(prompt: str, step: Step) -> str:
    command = step.command.replace("\n", "\n> ")
    return f"{prompt}{command}\n{step.expected if step.as_expected else step.said}"


def main(arguments: list[str]) -> int:
    """Walk through pages; the exit code."""
    parser = argparse.ArgumentParser(prog="docs/walkthrough.py", description="Do what a page shows, and compare.")
    parser.add_argument("pages", nargs="+", type=Path)
    parser.add_argument("--record", action="store_true", help="write what was said into the page")
    given = parser.parse_args(arguments)
    bad = 0
    for path in given.pages:
        page = path.read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory(prefix="hv-") as folder:
            steps = list(walk(page, Path(folder)))
        found = differences(steps, str(path))
        bad += len(found)
        sys.stdout.write(
            "".join(f"{text}\n" for text in found) + f"{path}: {len(steps)} commands, {len(found)} differ\n"
        )
        if given.record:
            path.write_text(recorded(page, steps), encoding="utf-8")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
