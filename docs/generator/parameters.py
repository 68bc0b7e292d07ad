"""A page for each driver: its parameters."""

from __future__ import annotations

from hvcore.params.reference import markdown
from hvcore.plugins.loader import load

__all__ = ["params_page"]


def params_page(driver: str) -> str:
    """The parameters of a driver, as its schema says. Raises `hvcore.DriverLoadError` if it cannot be loaded."""
    schema = load(driver).schema
    head = f"""# Parameters of driver {driver}

What an instance file may have under `[params]` when it says `driver = "{driver}"`. `hv params {driver}` prints the same
on the node, with the parameters of installed extensions and with the values that the node's configuration sets. Values
are written as in TOML; unset means that there is no value. A change takes effect at the next start, at the next launch
of the process (a reboot is one too), or at once.
"""
    index = [
        f"- {group.name}: {', '.join(f'[`{param.key}`](#{param.key})' for param in group)}" for group in schema.groups
    ]
    return "\n".join([head, *index, "", markdown(schema)])
