"""A page for each driver: its parameters."""

from __future__ import annotations

from hvcore.loader import load
from hvcore.params import markdown

__all__ = ["params_page"]


def params_page(driver: str) -> str:
    """The parameters of a driver, as its schema says. Raises `hvcore.DriverLoadError` when it cannot be loaded."""
    loaded = load(driver)
    head = f"""# Parameters of driver {driver}

What an instance file may have under `[params]` when it says `driver = "{driver}"`. `hv params {driver}` prints the
same on the node, with the parameters of installed extensions. "Takes effect" says when a changed value is used: at the
next start, at the next launch of the process, or at once. Unset means that there is no value.
"""
    return f"{head}\n{markdown(loaded.schema)}"
