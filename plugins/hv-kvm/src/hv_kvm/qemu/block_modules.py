"""Whether the part of QEMU that reads a disk over the network is installed: often it is a package of its own.

Introspection lists what was compiled, modules that are missing among it, so it takes a trial: a QEMU without a
machine that is told to open something that cannot be there. What it says tells which of the two it was.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Final

from hv_kvm.qemu.trial import Trial, TrialError

__all__ = ["missing_module"]

_DEADLINE_S: Final = 5.0
_NOWHERE: Final[Mapping[str, str]] = {
    # Port 1 of the node itself: refused at once. An empty configuration: no monitors to ask.
    **{name: f"url={name}://127.0.0.1:1/x" for name in ("http", "https", "ftp", "ftps")},
    "rbd": "pool=x,image=x,conf=/dev/null",
    "gluster": "volume=x,path=x,server.0.type=unix,server.0.path=/dev/null",
}
# QEMU 5.2: "Unknown driver" after "Failed to open module", 7.2: "Unknown driver", 10 and 11: "failed to open module".
_MISSING: Final = re.compile("unknown (?:driver|protocol)|module|shared object", re.IGNORECASE)


def missing_module(binary: str, driver: str) -> str | None:
    """What the QEMU says when it is to use the block driver and has not all of it; None when it has, or who knows."""
    if driver not in _NOWHERE:
        return None
    argv = [
        *(binary, "-machine", "none", "-nodefaults", "-no-user-config", "-display", "none", "-S"),
        *("-blockdev", f"driver={driver},node-name=x,{_NOWHERE[driver]}"),
    ]
    try:
        with Trial(argv) as trial:
            status = trial.wait(time.monotonic() + _DEADLINE_S)
            said = trial.said()
    except TrialError:
        return None  # the probe says so
    return said.rpartition(": ")[2] or said if status and _MISSING.search(said) else None
