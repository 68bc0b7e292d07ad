# ruff: noqa: INP001 - a script beside the pages that it writes, in no package
"""Write the reference pages from the code, and refresh the files that other pages quote.

``python docs/generate.py`` writes, ``python docs/generate.py --check`` only says what is not up to date (exit 1). Needs
hvcore and its plugins installed. A table below that lacks an entry for something new is an error: that is how a new
name, key or subcommand gets its words.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import inspect
import re
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import click

import hvcore
import hvcore.errors
import hvcore.hookspecs
from hvcore.cli.app import COMMANDS, hv
from hvcore.loader import load
from hvcore.model import instance as instance_module
from hvcore.model.names import name_problem
from hvcore.model.state import TRANSITIONS, Move
from hvcore.operations.recover import Recovered
from hvcore.params import ParamRow, markdown

__all__ = ["PAGES", "main", "quoted", "stale"]

TOP: Final = Path(__file__).resolve().parents[1]
REFERENCE: Final = "docs/reference"
DRIVERS: Final = ("kvm", "chroot", "fake")
WORDS: Final[Mapping[str, Mapping[str, str]]] = tomllib.loads((TOP / "docs/words.toml").read_text(encoding="utf-8"))
TEXT: Final = WORDS["text"]
NOTE: Final = "<!-- Made by docs/generate.py from the code. Change it there. -->"

# A page quotes a file between these two lines; everything between them is replaced.
_QUOTE: Final = re.compile(r"(<!-- quote (\S+) -->\n).*?(<!-- end of quote -->)", re.DOTALL)
_LANGUAGES: Final = {".py": "python", ".toml": "toml", ".sh": "sh"}


# ------------------------------------------------------------------------------------------------------------- words


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    titles = list(head)
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    lines += [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Text in a table: one line, no ``|`` that ends the cell, no ``<`` outside of code."""
    pieces = re.split(r"(`[^`]*`)", " ".join(text.split()).replace("|", "\\|"))
    return "".join(piece if piece.startswith("`") else piece.replace("<", "&lt;") for piece in pieces)


def _first_line(thing: object) -> str:
    """The first paragraph of a docstring, code in single back ticks."""
    text = inspect.getdoc(thing) or ""
    return " ".join(text.split("\n\n")[0].split()).replace("``", "`")


def _wrapped(text: str) -> str:
    return textwrap.fill(" ".join(text.split()).replace("``", "`"), 120, break_on_hyphens=False)


def _prose(text: str) -> str:
    """A docstring as Markdown: paragraphs stay, examples (``>>>``) become code blocks."""
    parts = []
    for part in inspect.cleandoc(text).split("\n\n"):
        code = part.lstrip().startswith(">>>")
        parts.append(f"```python\n{part}\n```" if code else part.replace("``", "`"))
    return "\n\n".join(parts)


_STARS: Final[Mapping[Any, str]] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


def _signature(thing: Any) -> str:
    """The parameters of a function as they are written, without the long types of a signature object."""
    parameters = [p for p in inspect.signature(thing).parameters.values() if p.name != "self"]
    words = []
    starred = False
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            starred = True
            words.append("*")
        default = "" if parameter.default is parameter.empty else f"={_default(parameter.default)}"
        words.append(f"{_STARS.get(parameter.kind, '')}{parameter.name}{default}")
    return f"({', '.join(words)})"


def _default(value: object) -> str:
    return repr(value) if isinstance(value, bool | int | float | str | tuple | None) else "..."


# ----------------------------------------------------------------------------------------------------------- drivers


def params_page(driver: str) -> str:
    """The parameters of a driver, as its schema says. Raises `hvcore.DriverLoadError` when it cannot be loaded."""
    loaded = load(driver)
    head = f"""# Parameters of driver {driver}

What an instance file may have under `[params]` when it says `driver = "{driver}"`. `hv params {driver}` prints the
same on the node, with the parameters of installed extensions. "Takes effect" says when a changed value is used: at the
next start, at the next launch of the process, or at once. Unset means that there is no value.
"""
    return f"{head}\n{markdown(loaded.schema)}"


# ------------------------------------------------------------------------------------------------------------- hooks


def hooks_page() -> str:
    """Every hook specification, of the core and of the kvm driver, with its example."""
    import hv_kvm.hookspecs

    parts = ["# Hooks", _prose(hvcore.hookspecs.__doc__ or ""), "## Hooks of every driver", *_hooks(hvcore.hookspecs)]
    parts += ["## Hooks of driver kvm", _prose(hv_kvm.hookspecs.__doc__ or ""), *_hooks(hv_kvm.hookspecs)]
    return "\n\n".join(parts)


def hook_functions(module: ModuleType) -> list[Any]:
    """The hook specifications in a module, in the order they are written."""
    marked = f"{hvcore.hookspecs.PROJECT}_spec"
    found = [item for item in vars(module).values() if hasattr(item, marked)]
    return sorted(found, key=lambda item: int(item.__code__.co_firstlineno))


def _hooks(module: ModuleType) -> Iterator[str]:
    for function in hook_functions(module):
        hints = function.__annotations__
        arguments = ", ".join(f"{name}: {hints[name]}" for name in hints if name != "return")
        yield f"### {function.__name__}\n\n```python\ndef {function.__name__}({arguments}) -> {hints['return']}\n```"
        yield _prose(function.__doc__ or "")


# ------------------------------------------------------------------------------------------------------------ errors


def errors_page() -> str:
    """The tree of errors, each with its exit code, and those of the plugins."""
    doc = inspect.cleandoc(hvcore.errors.__doc__ or "")
    tree = textwrap.dedent(doc.partition("::\n\n")[2].partition("\n\nEvery message")[0])
    known = [thing for name in hvcore.errors.__all__ if issubclass(thing := getattr(hvcore.errors, name), Exception)]
    parts = [
        "# Errors and exit codes",
        TEXT["errors"],
        f"```text\n{tree}\n```",
        "## Exit codes of hv",
        _table(("code", "meaning"), ((code, words) for code, words in WORDS["exit_codes"].items())),
        "## Classes",
        _table(("class", "is a", "exit code", "when"), map(_error_row, known)),
        TEXT["problem"],
        "## Classes of hv-kvm",
        TEXT["errors_kvm"],
        _table(("class", "is a", "exit code", "when"), map(_error_row, _plugin_errors("hv_kvm"))),
    ]
    return "\n\n".join(parts)


def _error_row(error: type[hvcore.HvError]) -> tuple[str, str, str, str]:
    public = [base for base in error.__mro__[1:] if not base.__name__.startswith("_")]
    bases = [base for base in public if not any(issubclass(other, base) for other in public if other is not base)]
    return (
        f"`{error.__name__}`",
        ", ".join(f"`{base.__name__}`" for base in bases),
        str(error.exit_code),
        _first_line(error),
    )


def _plugin_errors(package: str) -> list[type[hvcore.HvError]]:
    import hv_kvm.probe
    import hv_kvm.qmp

    modules = (hv_kvm.trial, hv_kvm.probe, hv_kvm.qmp.errors)
    found = [thing for module in modules for thing in vars(module).values() if inspect.isclass(thing)]
    own = [thing for thing in found if issubclass(thing, hvcore.HvError) and thing.__module__.startswith(package)]
    return sorted(set(own), key=lambda error: (error.__module__, error.__name__))


# --------------------------------------------------------------------------------------------------------------- cli


def cli_page() -> str:
    """Every subcommand of ``hv`` with its arguments, options and examples."""
    root = click.Context(hv, info_name="hv", **hv.context_settings)
    parts = ["# The command hv", *_command(hv, root)]
    for heading, section in COMMANDS.items():
        parts.append(f"## {heading}")
        for name in section:
            command = hv.get_command(root, name)
            assert command is not None, name
            parts += [f"### hv {name}", *_command(command, click.Context(command, info_name=name, parent=root))]
    return "\n\n".join(parts)


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f"```text\n{usage}\n```"
    yield inspect.cleandoc((command.help or "").replace("\b", ""))
    options = [param for param in command.get_params(context) if isinstance(param, click.Option)]
    records = [record for option in options if (record := option.get_help_record(context))]
    yield _table(("option", "meaning"), ((f"`{names}`", words) for names, words in records))
    example = (command.epilog or "").replace("\b\n", "").strip()
    if example:
        yield f"```text\n{example}\n```"


# --------------------------------------------------------------------------------------------------------------- api

# By the module that defines a name: where a reader looks for it.
SECTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "For host applications": (
        "hvcore.node",
        "hvcore.catalogue",
        "hvcore.instance_file",
        "hvcore.model.instance",
        "hvcore.model.info",
        "hvcore.model.plan",
        "hvcore.model.state",
        "hvcore._version",
    ),
    "Parameters": ("hvcore.params",),
    "For drivers and extensions": (
        "hvcore.driver",
        "hvcore.job",
        "hvcore.hooks",
        "hvcore.hookspecs",
        "hvcore.host",
        "hvcore.model.record",
        "hvcore.model.codec",
    ),
    "Errors": ("hvcore.errors",),
}
_HOMES: Final = {
    **dict.fromkeys(("DISK", "LIFE_LOCK", "LINK", "MOUNT", "PROCESS", "STATUS", "UID"), "hvcore.job"),
    **dict.fromkeys(("hookimpl", "hookspec"), "hvcore.hookspecs"),
    "__version__": "hvcore._version",
}
_WITH_METHODS: Final = (
    *("Node", "DriverHandle", "Plan", "InstanceInfo", "Schema", "Job", "Child", "Hooks", "Host"),
    *("Driver", "Pausable", "HasConsole", "Adopts", "Releases"),
)


def api_page() -> str:
    """Every public name with the first words of its docstring, by who needs it."""
    parts = [
        "# Public names",
        TEXT["api"],
    ]
    left = set(hvcore.__all__)
    for heading, modules in SECTIONS.items():
        names = sorted(name for name in left if _home(name).startswith(modules))
        left -= set(names)
        parts += [f"## {heading}", _table(("name", "what"), ((f"`{_shown(name)}`", _what(name)) for name in names))]
        for name in names:
            if name in _WITH_METHODS:
                parts += [f"### {name}", _table(("member", "what"), _members(getattr(hvcore, name)))]
    if left:
        raise SystemExit(f"docs/generate.py: SECTIONS has no place for {', '.join(sorted(left))}")
    return "\n\n".join(parts)


def _home(name: str) -> str:
    return _HOMES.get(name) or str(getattr(hvcore, name).__module__)


def _shown(name: str) -> str:
    """The name; of functions and dataclasses with what they take."""
    thing = getattr(hvcore, name)
    return f"{name}{_signature(thing)}" if inspect.isfunction(thing) or dataclasses.is_dataclass(thing) else name


def _what(name: str) -> str:
    words = WORDS["names"].get(name) or _first_line(getattr(hvcore, name))
    thing = getattr(hvcore, name)
    if isinstance(thing, type(hvcore.State)):
        words += f" Values: {', '.join(f'`{value}`' for value in thing)}."
    return words


def _members(cls: type) -> Iterator[tuple[str, str]]:
    if cls is hvcore.Node:
        yield f"`Node{_signature(cls)}`", _first_line(cls)
    for name, member in vars(cls).items():
        if name.startswith("_") or not inspect.getdoc(member) or inspect.ismemberdescriptor(member):
            continue
        if isinstance(member, property):
            yield f"`.{name}`", _first_line(member)
        elif inspect.isfunction(member):
            yield f"`.{name}{_signature(member)}`", _first_line(member)
        elif isinstance(member, classmethod):
            yield f"`.{name}{_signature(member.__func__)}`".replace("(cls, ", "("), _first_line(member)


# ----------------------------------------------------------------------------------------------------- instance file


def instance_file_page() -> str:
    """The keys of an instance file: types, defaults, meaning."""
    parsers = {name: getattr(instance_module, f"_{name}") for name in ("INSTANCE", "DISK", "NIC")}
    rule = inspect.getdoc(name_problem) or ""
    kinds = {
        "name": "a text, see below",
        **{key: kind.expects for key, kind in parsers["INSTANCE"].items()},
        **dict.fromkeys(("disks", "nics"), "a list of tables"),
        "params": "a table",
    }
    order = [field.name for field in dataclasses.fields(hvcore.Instance)]
    return "\n\n".join(
        [
            "# The instance file",
            TEXT["instance_file"],
            _field_table("", {key: kinds[key] for key in order}, hvcore.Instance),
            "## disks",
            _field_table("disks.", {key: kind.expects for key, kind in parsers["DISK"].items()}, hvcore.Disk),
            "## nics",
            _field_table("nics.", {key: kind.expects for key, kind in parsers["NIC"].items()}, hvcore.Nic),
            TEXT["nic_modes"],
            "## params",
            f"Each driver has its own: {', '.join(f'[{driver}](params-{driver}.md)' for driver in DRIVERS)}.",
            "## Names",
            _wrapped(rule.split("\n\n")[1]),
            "## Example",
            f"```toml\n{TEXT['instance_example'].strip()}\n```",
        ]
    )


def _field_table(prefix: str, kinds: Mapping[str, str], cls: Any) -> str:
    defaults = {field.name: field.default for field in dataclasses.fields(cls)}
    rows = []
    for key, kind in kinds.items():
        default = defaults[key]
        shown = "required" if default is dataclasses.MISSING else f"`{default!r}`".lower().replace("'", '"')
        if default in (None, "", ()) or key == "params":
            shown = "empty" if key in ("disks", "nics", "params") else "unset"
        rows.append((f"`{key}`", kind, shown, WORDS["fields"][prefix + key]))
    return _table(("key", "value", "default", "meaning"), rows)


# -------------------------------------------------------------------------------------------------------------- json

_JSON: Final[tuple[tuple[str, str, type], ...]] = (
    ("hv info, hv list", "`hv info` prints one object, `hv list` a list of them.", hvcore.InstanceInfo),
    ("hv start, stop, reboot, pause, resume, cleanup", "One object.", hvcore.Outcome),
    ("hv recover", "A list, with an entry for each instance that something was done with.", Recovered),
    (
        "hv drivers",
        "A list. There is one more key, `can`: a list of abilities with `--load`, else null.",
        hvcore.CatalogueEntry,
    ),
    ("hv plan, hv explain", "One object.", hvcore.Plan),
    ("hv params", "A list. With `--schema` it is JSON Schema (draft 2020-12) instead.", ParamRow),
)


def _key_words(cls: type, key: str) -> str:
    words = WORDS["keys"]
    return words.get(f"{cls.__name__}.{key}") or words[key]


def json_page() -> str:
    """The keys of what ``--json`` prints."""
    parts = [
        "# JSON output",
        TEXT["json"],
    ]
    for heading, words, cls in _JSON:
        keys = [field.name for field in dataclasses.fields(cls)]
        parts += [
            f"## {heading}",
            words,
            _table(("key", "value"), ((f"`{key}`", _key_words(cls, key)) for key in keys)),
        ]
    parts += [
        "## hv check and hv verify",
        _table(
            ("command", "keys"),
            (
                ("`hv check FILE`", "`name`, `driver`, `params`: every parameter with its value, secrets redacted"),
                ("`hv verify FILE`", "`name`, `driver`, `verified` (true)"),
                ("`hv verify DRIVER`", "`driver`, `can`: a list of abilities"),
            ),
        ),
        "## Errors",
        "The exit code is not 0, and the document is one object.",
        _table(
            ("key", "value"),
            (
                ("`error`", "the class of the [error](errors.md), such as `NotFoundError`"),
                ("`message`", "the text that is on stderr as well"),
                ("`exit_code`", "the exit code of `hv`"),
                ("`notes`", "a list of remarks that go with it"),
                ("`problems`", "of `ParamsError` and `VerifyError`: a list of `{path, what, got, todo}`"),
                ("`output`, `argv`", "of `LaunchError`: what the process said last, and its command"),
            ),
        ),
    ]
    return "\n\n".join(parts)


# ------------------------------------------------------------------------------------------------------- state table


def state_table_page() -> str:
    """Which operation is legal in which state, from the table that the core itself uses."""
    ops = list(hvcore.Op)
    rows = [[f"`{state}`", *(_move(state, op) for op in ops)] for state in hvcore.State]
    words = (inspect.getdoc(hvcore.State) or "").split("\n\n")[1]
    return "\n\n".join(
        [
            "# States and legal operations",
            _wrapped(f"States: {', '.join(f'`{state}`' for state in hvcore.State)}. {words}"),
            TEXT["moves"],
            _table(("state", *(f"`{op}`" for op in ops)), rows),
            TEXT["state_table"],
        ]
    )


def _move(state: hvcore.State, op: hvcore.Op) -> str:
    found = TRANSITIONS.get((state, op))
    if found is None:
        return "-"
    return f"→ {found.to}" if isinstance(found, Move) else f"= {found.state}"


# ------------------------------------------------------------------------------------------------------------- pages

PAGES: Final[Mapping[str, Callable[[], str]]] = {
    **{f"{REFERENCE}/params-{driver}.md": functools.partial(params_page, driver) for driver in DRIVERS},
    f"{REFERENCE}/hooks.md": hooks_page,
    f"{REFERENCE}/errors.md": errors_page,
    f"{REFERENCE}/cli.md": cli_page,
    f"{REFERENCE}/api.md": api_page,
    f"{REFERENCE}/instance-file.md": instance_file_page,
    f"{REFERENCE}/json.md": json_page,
    f"{REFERENCE}/state-table.md": state_table_page,
}


def page(name: str) -> str:
    """The text of a generated page, ending with one newline."""
    return f"{NOTE}\n\n{PAGES[name]().strip()}\n"


def quoted(text: str) -> str:
    """The text of a hand-written page with every file that it quotes as that is now."""

    def fresh(match: re.Match[str]) -> str:
        path = TOP / match[2]
        body = path.read_text(encoding="utf-8").rstrip("\n")
        return f"{match[1]}```{_LANGUAGES.get(path.suffix, 'text')}\n{body}\n```\n{match[3]}"

    return _QUOTE.sub(fresh, text)


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
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 when a page is not up to date")
    check = parser.parse_args(arguments).check
    found = list(stale())
    for path, text in found:
        sys.stdout.write(f"{path.relative_to(TOP)}: {'not up to date' if check else 'written'}\n")
        if not check:
            path.write_text(text, encoding="utf-8")
    return 1 if check and found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
