"""The page that compares Ganeti's parameters with ours, and names the test of each of its rules."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from generator.words import TOP, table, wrapped
from hvcore.params.reference import ParamRow, rows
from hvcore.plugins.loader import load

__all__ = ["GANETI", "GOLDEN", "ganeti_page"]

GANETI: Final[Mapping[str, Mapping[str, Any]]] = tomllib.loads((TOP / "docs/ganeti.toml").read_text(encoding="utf-8"))
GOLDEN: Final[Path] = TOP / "plugins/hv-kvm/tests/golden"


def ganeti_page() -> str:
    """Every row of docs/ganeti.toml beside our schema. Raises KeyError for an unknown parameter."""
    ours = {row.key: row for row in rows(load("kvm").schema)}
    parameters = [
        (f"[`{key}`](params-kvm.md#{key})", row["was"], row["effect"], *_here(ours[key]), row["note"] or "the same")
        for key, row in GANETI["parameters"].items()
    ]
    rules = [
        (name, row["rule"], _case(row["accepts"]), _case(row.get("refuses"))) for name, row in GANETI["rules"].items()
    ]
    never = [(f"`{value}`", _message(row["refuses"])) for value, row in GANETI["never"].items()]
    others = [f"[`{key}`](params-kvm.md#{key})" for key in ours if key not in GANETI["parameters"]]
    text = {key: wrapped(words) for key, words in GANETI["text"].items()}
    return "\n\n".join(
        [
            "# Ganeti's parameters of KVM, and ours",
            text["head"],
            text["layers"],
            "## Parameters",
            table(("parameter", "in Ganeti", "takes effect", "here", "takes effect", "difference"), parameters),
            wrapped(f"Not in Ganeti: {', '.join(others)}."),
            "## Rules",
            text["checks"],
            table(("rule", "meaning", "accepted", "refused"), rules),
            "## Values that never start",
            text["never"],
            table(("value", "message of check or verify"), never),
        ]
    )


def _here(row: ParamRow) -> tuple[str, str]:
    if row.default is None:
        default = "unset"
    elif isinstance(row.default, bool):
        default = str(row.default).lower()
    else:
        default = f"`{row.default}`" if row.default != () else "none"
    return f"{row.kind}, {default}", row.changes


def _case(name: str | None) -> str:
    return f"`{name}`" if name else "-"


def _message(name: str) -> str:
    """The message of the golden case, or the name of the test where it depends on the node."""
    case = GOLDEN / f"{name}.error"
    return case.read_text(encoding="utf-8").splitlines()[0] if case.exists() else f"`{name}`"
