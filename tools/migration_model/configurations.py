"""The configurations of the model that are searched: all properties have to hold in each."""

from __future__ import annotations

from typing import Final

from migration_model.check import Configuration

__all__ = ["LARGE", "MODES", "SMALL"]

MODES: Final = ("live", "paused", "postcopy", "cold")

SMALL: Final = tuple(Configuration(mode=mode, faults=2) for mode in MODES)

_NODES: Final = ("REBOOTS", "FENCES")
LARGE: Final = (
    *(Configuration(mode=mode, faults=3, defines=_NODES) for mode in MODES),
    Configuration(mode="live", faults=3, defines=("MIRROR", "REBOOTS")),
    Configuration(mode="paused", faults=3, defines=("MIRROR", "REBOOTS")),
    *(Configuration(mode=mode, faults=1, defines=("NJOBS=2",)) for mode in MODES),
    *(Configuration(mode=mode, faults=1, defines=("NJOBS=2", "BACK")) for mode in MODES),
)
