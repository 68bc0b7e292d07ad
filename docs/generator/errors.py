"""The page of errors and exit codes."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import hvcore
import hvcore.errors
from generator.words import DRIVERS, TEXT, WORDS, first_line, table

__all__ = ["errors_page"]


def errors_page() -> str:
    """The exit codes, the tree, and the cause and remedy of each error; then the errors of the plugins."""
    known = [thing for name in hvcore.errors.__all__ if issubclass(thing := getattr(hvcore.errors, name), Exception)]
    parts = [
        "# Errors and exit codes",
        TEXT["errors"],
        "## Exit codes of hv",
        table(("code", "meaning"), ((code, words) for code, words in WORDS["exit_codes"].items())),
        "## All errors",
        "```text\n{}\n```".format("\n".join(_tree(hvcore.HvError, known))),
        TEXT["problem"],
        *map(_section, known),
    ]
    for driver in DRIVERS:
        own = list(_errors_of(f"hv_{driver}"))
        if own:
            parts += [f"## Errors of hv-{driver}", TEXT["errors_plugin"], *map(_section, own)]
    return "\n\n".join(parts)


def _tree(error: type[Exception], known: list[type[hvcore.HvError]], indent: str = "") -> Iterator[str]:
    """The error and all those below it, a line each."""
    yield f"{indent}{error.__name__}"
    for below in known:
        if next(base for base in below.__mro__[1:] if not base.__name__.startswith("_")) is error:
            yield from _tree(below, known, f"{indent}    ")


def _section(error: type[hvcore.HvError]) -> str:
    """Cause, remedy, exit code and parents of an error. Ends the program if words.toml has no remedy."""
    if error.__name__ not in WORDS["remedies"]:
        raise SystemExit(f"docs/words.toml: [remedies] does not say what to do about {error.__name__}")
    public = [base for base in error.__mro__[1:] if issubclass(base, hvcore.HvError) and base.__name__[0] != "_"]
    bases = [base for base in public if not any(issubclass(other, base) for other in public if other is not base)]
    facts = {
        "What to do": " ".join(WORDS["remedies"][error.__name__].split()),
        "Exit code": str(error.exit_code),
        "Is a": ", ".join(f"[`{base.__name__}`](#{base.__name__.lower()})" for base in bases),
    }
    lines = [f"- {name}: {words}" for name, words in facts.items() if words]
    return "\n".join([f"### `{error.__name__}`", "", first_line(error), "", *lines])


def _errors_of(package: str) -> Iterator[type[hvcore.HvError]]:
    """The public errors that a plugin's modules define, by module and name."""
    home = importlib.import_module(package)
    for found in sorted(pkgutil.walk_packages(home.__path__, f"{package}."), key=lambda found: found.name):
        things = vars(importlib.import_module(found.name))
        for name in sorted(things):
            thing = things[name]
            own = inspect.isclass(thing) and issubclass(thing, hvcore.HvError) and thing.__module__ == found.name
            if own and not name.startswith("_"):
                yield thing
