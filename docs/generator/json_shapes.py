"""The page of the output of `--json`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Final

import hvcore
from generator.words import TEXT, WORDS, first_line, table
from hvcore.model.events.events import EVENTS
from hvcore.operations.recovery.recover import Recovered
from hvcore.params.reference import ParamRow

__all__ = ["json_page"]


_JSON: Final[tuple[tuple[str, str, type], ...]] = (
    ("hv info, hv list", "`hv info` prints one object, `hv list` a list of them.", hvcore.InstanceInfo),
    (
        "hv start, stop, reboot, pause, resume, cleanup, pin",
        "One object. For several names or files, a list: an object for each, an error too.",
        hvcore.Outcome,
    ),
    (
        "hv define, rename, autostart, undefine",
        "One object. For several names or files, a list: an object for each, an error too.",
        hvcore.DefinitionOutcome,
    ),
    ("hv changes", "A list.", hvcore.PendingChange),
    ("hv abi", "One object, with a key `digests` too: a digest for each class.", hvcore.Abi),
    ("hv upgrade-check", "A list. The exit code is 1 unless every verdict is `same`.", hvcore.UpgradeCheck),
    ("hv abi --diff", "A list. The exit code is 1 if it has entries.", hvcore.AbiChange),
    ("hv balloon, memory, vcpus", "One object.", hvcore.Resized),
    (
        "hv migrate",
        "An object on each line. First those with one key `progress`, with the keys of `hvcore.MigrationProgress`.",
        hvcore.MigrationOutcome,
    ),
    ("hv migrate --status", "An object on each line, for each migration that this node knows.", hvcore.JournalEntry),
    ("hv top", "A list, with an object for each running or paused instance.", hvcore.InstanceUsage),
    ("hv node", "One object.", hvcore.NodeFacts),
    ("hv act", "A list, with an entry for each instance with which something was done.", hvcore.Acted),
    ("hv recover", "A list, with an entry for each instance that was changed.", Recovered),
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


def _keys(cls: type) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)]


def _events() -> Iterator[tuple[str, str, str]]:
    common = {"event", *_keys(hvcore.Event)}
    for kind in EVENTS:
        further = ", ".join(f"`{key}`" for key in _keys(kind) if key not in common)
        yield f"`{kind.event}`", first_line(kind), further or "-"


def json_page() -> str:
    """The keys of the output of ``--json``."""
    parts = [
        "# JSON output",
        TEXT["json"],
    ]
    for heading, words, cls in _JSON:
        keys = [field.name for field in dataclasses.fields(cls)]
        parts += [
            f"## {heading}",
            words,
            table(("key", "value"), ((f"`{key}`", _key_words(cls, key)) for key in keys)),
        ]
    parts += [
        "## hv watch",
        "One object on each line, for each event. Every one has the first four keys; the others depend on the event.",
        table(("key", "value"), ((f"`{key}`", words) for key, words in WORDS["event_keys"].items())),
        table(("event", "meaning", "further keys"), _events()),
        "## hv check and hv verify",
        table(
            ("command", "keys"),
            (
                ("`hv check FILE`", "`name`, `driver`, `params`: every parameter with its value, secrets redacted"),
                ("`hv verify FILE`", "`name`, `driver`, `verified` (true)"),
                ("`hv verify DRIVER`", "`driver`, `can`: a list of abilities, `findings`: like those of `hv doctor`"),
            ),
        ),
        "## Others",
        table(
            ("command", "keys"),
            (
                ("`hv doctor`", "`well`: true if there is no problem, `findings`: a list, see below"),
                ("`hv schema-diff`", "`bump`: `none`, `patch`, `minor` or `major`, `changes`: a list, see below"),
                (
                    "`hv apply`",
                    "a list: for each change `field`, as in `hv changes`, and `done`; and the keys of `hv start`, or of an error",
                ),
                ("`hv view`", "a list of ways to reach the display, with the keys of `consoles` of `hv info`"),
                (
                    "`hv install-units`",
                    "`directory`, `units`: the text of each by its name, `installed`: false with `--dry-run`",
                ),
                ("`hv new-driver`, `hv new-extension`", "`directory`, `files`: the files written, relative to it"),
            ),
        ),
        "A finding:",
        table(("key", "value"), ((f"`{key}`", WORDS["finding"][key]) for key in _keys(hvcore.Finding))),
        "A change:",
        table(("key", "value"), ((f"`{key}`", WORDS["change"][key]) for key in _keys(hvcore.ParamChange))),
        "## hv conformance",
        table(
            ("key", "value"),
            (
                ("`report`", "the version of this form, 1"),
                ("`driver`, `capabilities`", "the driver's name, and a list of its abilities"),
                ("`conforms`", "true if no check failed"),
                ("`counts`", "how many checks `passed`, `failed` and were `skipped`"),
                ("`thorough`", "whether crashes were tried at every change"),
                ("`began`, `seconds`", "when the run began (UTC), and how long it took"),
                (
                    "`versions`",
                    "`distribution` and its `version`; `hvcore`, `python`, `kernel`, `machine`, and the `programs` used",
                ),
                (
                    "`checks`",
                    "a list of `{name, area, level, tier, outcome, reason, seconds, detail}`; `detail` is the place of the failure",
                ),
            ),
        ),
        "`--list` prints a list of `{name, area, level, tier, what, why}`, `--explain NAME` one of them.",
        "## Errors",
        "The exit code is not 0, and the document is one object.",
        table(
            ("key", "value"),
            (
                ("`error`", "the class of the [error](errors.md), such as `NotFoundError`"),
                ("`message`", "the text, also on standard error"),
                ("`exit_code`", "the exit code of `hv`"),
                ("`notes`", "a list of remarks"),
                ("`problems`", "of `ParamsError` and `VerifyError`: a list of `{path, what, got, todo}`"),
                ("`output`, `argv`", "of `LaunchError`: the last output of the process, and its command"),
            ),
        ),
    ]
    return "\n\n".join(parts)
