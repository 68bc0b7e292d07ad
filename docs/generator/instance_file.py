"""The page of the instance file."""

from __future__ import annotations

import dataclasses
import inspect

import hvcore
from generator.words import DRIVERS, TEXT, WORDS, table, wrapped
from hvcore.model.instance_keys import DEFINITION_KEYS, DISK_KEYS, INSTANCE_KEYS, NIC_KEYS
from hvcore.model.names import name_problem
from hvcore.params.reference import default_of, field_rows, section

__all__ = ["instance_file_page"]


def instance_file_page() -> str:
    """The keys of an instance file: types, defaults, meaning."""
    rule = inspect.getdoc(name_problem) or ""
    rows = {row.key: row for group in (INSTANCE_KEYS, DEFINITION_KEYS) for row in field_rows(group)}
    fields = WORDS["fields"]
    cells = {
        "name": ("a text, see below", "required", fields["name"]),
        **{key: (row.expects, default_of(row, code=lambda code: f"`{code}`"), row.help) for key, row in rows.items()},
        **{key: ("a list of tables", "empty", fields[key]) for key in ("disks", "nics")},
        "params": ("a table", "empty", fields["params"]),
    }
    order = [field.name for field in dataclasses.fields(hvcore.Instance)]
    order[order.index("disks") : order.index("disks")] = [param.key for param in DEFINITION_KEYS]
    return "\n\n".join(
        [
            "# The instance file",
            TEXT["instance_file"],
            table(("key", "value", "default", "meaning"), ((f"`{key}`", *cells[key]) for key in order)),
            "## disks",
            *(section(row, ()).strip() for row in field_rows(DISK_KEYS)),
            "## nics",
            *(section(row, ()).strip() for row in field_rows(NIC_KEYS)),
            TEXT["nic_modes"],
            "## params",
            f"Each driver has its own: {', '.join(f'[{driver}](params-{driver}.md)' for driver in DRIVERS)}.",
            "## Names",
            wrapped(rule.split("\n\n")[1]),
            "## Example",
            f"```toml\n{TEXT['instance_example'].strip()}\n```",
        ]
    )
