"""The instances for `hv conformance process`, which proves the driver on any node that has it."""

from __future__ import annotations

from pathlib import Path

import hvcore.plugin as hv
from hvcore.testing import Factory, Subject

__all__ = ["subject"]


def subject() -> Subject:
    """Programs that obey SIGTERM, ignore it, exit, cannot be executed, and one that the check refuses."""
    return Subject(
        driver="process",
        instance=_program("sleep", "infinity"),
        stubborn=_program("bash", "-c", "trap '' TERM; while :; do sleep 3600; done"),
        ending=_program("sleep", "0.5"),
        failing=_program("/nonexistent"),
        refused=(_program(),),
        raw=("command",),  # its words become arguments unchanged
        excused={"sec_seccomp": "its program installs no filter, and Sandbox.filter is not set"},
    )


def _program(*command: str) -> Factory:
    def make(name: str, _directory: Path) -> hv.Instance:
        return hv.Instance(name=name, driver="process", params={"command": list(command), "stop_after": 60})

    return make
