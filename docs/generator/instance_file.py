"""The page of the instance file."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import hvcore
from generator.words import DRIVERS, TEXT, WORDS, table, wrapped
from hvcore.model import instance as instance_module
from hvcore.model.names import name_problem

__all__ = ["instance_file_page"]


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
            wrapped(rule.split("\n\n")[1]),
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
    return table(("key", "value", "default", "meaning"), rows)
