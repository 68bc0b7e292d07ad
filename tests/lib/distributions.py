"""Distributions made by a test: the metadata that an installer would write."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from pathlib import Path

REQUIRES = ("hvcore>=0.1,<0.2",)


def installed(
    folder: Path, name: str, entry_points: str, *, requires: Iterable[str] = REQUIRES, version: str = "1.0"
) -> Path:
    """Install the distribution's metadata in a folder that is to be imported from; the directory with it.

    ``entry_points`` is what the file of that name says: ``[hvcore.drivers]``, then ``own = hv_own:Driver``.
    """
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
    (info / "entry_points.txt").write_text(textwrap.dedent(entry_points))
    return info
