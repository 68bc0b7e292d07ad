"""Write the reference pages and the types of hooks from the code, and refresh the files that other pages quote.

``python docs/generate.py`` writes, ``python docs/generate.py --check`` only says what is not up to date (exit 1). Needs
hvcore and its plugins installed. A table in `generator/` that lacks an entry for something new is an error: that is how
a new name, key or subcommand gets its words.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import hvcore
from generator.api import ROLES, api_page
from generator.checks import checks_page, matrix_page
from generator.cli import cli_page
from generator.errors import errors_page
from generator.events import events_page
from generator.ganeti import ganeti_page
from generator.hook_types import hook_types
from generator.hooks import hooks_page
from generator.instance_file import instance_file_page
from generator.json_shapes import json_page
from generator.man import man_page
from generator.parameters import params_page
from generator.quotes import quoted
from generator.states import state_table_page
from generator.words import DRIVERS, TOP

__all__ = ["PAGES", "main", "page", "quoted", "quoting_pages", "stale"]

REFERENCE: Final = "docs/reference"
NOTE: Final = "Made by docs/generate.py from the code. Change it there."

_API: Final = {
    "hvcore": "api",
    "hvcore.plugin": "api-plugin",
    "hvcore.testing": "api-testing",
    "hv_kvm.plugin": "api-kvm",
}
PAGES: Final[Mapping[str, Callable[[], str]]] = {
    **{f"{REFERENCE}/params-{driver}.md": functools.partial(params_page, driver) for driver in DRIVERS},
    f"{REFERENCE}/ganeti-parameters.md": ganeti_page,
    f"{REFERENCE}/hooks.md": hooks_page,
    f"{REFERENCE}/errors.md": errors_page,
    f"{REFERENCE}/events.md": events_page,
    f"{REFERENCE}/cli.md": cli_page,
    **{f"{REFERENCE}/{_API[role]}.md": functools.partial(api_page, role) for role in ROLES},
    f"{REFERENCE}/instance-file.md": instance_file_page,
    f"{REFERENCE}/json.md": json_page,
    f"{REFERENCE}/state-table.md": state_table_page,
    f"{REFERENCE}/conformance-checks.md": checks_page,
    f"{REFERENCE}/support-matrix.md": matrix_page,
    "docs/man/hv.1": man_page,
    "hvcore/plugins/typed_hooks.pyi": functools.partial(hook_types, "hvcore.plugins.hookspecs"),
    "plugins/hv-kvm/src/hv_kvm/typed_hooks.pyi": functools.partial(hook_types, "hv_kvm.hookspecs"),
}


def page(name: str) -> str:
    """The text of a generated page, manual page or stub, ending with one newline."""
    text = PAGES[name]().strip()
    if name.endswith(".1"):
        return f'.\\" {NOTE}\n{text}\n'  # roff prints an empty line
    note = f"<!-- {NOTE} -->" if name.endswith(".md") else f"# {NOTE}"
    return f"{note}\n\n{text}\n"


def quoting_pages() -> list[Path]:
    """Hand-written pages; each may quote files."""
    written = [path for path in sorted((TOP / "docs").rglob("*.md")) if f"{path.relative_to(TOP)}" not in PAGES]
    return [TOP / "README.md", *written]


def stale() -> Iterator[tuple[Path, str]]:
    """Every page that is not up to date, with the text that it should have."""
    for name in PAGES:
        path = TOP / name
        try:
            text = page(name)
        except hvcore.DriverLoadError as error:
            raise SystemExit(f"docs/generate.py: {name}: {error}") from None
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            yield path, text
    for path in quoting_pages():
        before = path.read_text(encoding="utf-8")
        text = quoted(before)
        if text != before:
            yield path, text


def main(arguments: list[str]) -> int:
    """Write, or check, all pages; the exit code."""
    parser = argparse.ArgumentParser(prog="docs/generate.py", description="Write the reference pages from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if a page is not up to date")
    check = parser.parse_args(arguments).check
    found = list(stale())
    for path, text in found:
        sys.stdout.write(f"{path.relative_to(TOP)}: {'not up to date' if check else 'written'}\n")
        if not check:
            path.write_text(text, encoding="utf-8")
    return 1 if check and found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
