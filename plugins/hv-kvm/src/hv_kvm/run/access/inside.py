"""Programs inside a guest, by the guest agent."""

from __future__ import annotations

import sys
from typing import Final

import hvcore.plugin as hv
from hv_kvm.paths import GuestPaths

__all__ = ["execution"]

_PYTHON: Final = "/usr/bin/python3"  # where the host application has none of its own, such as in one binary
_RUNNER: Final = "hv_kvm.run.access.agent_exec"


def execution(live: hv.Live, argv: tuple[str, ...], *, terminal: bool) -> tuple[str, ...]:
    """The command on this node that asks the agent. The agent gives no terminal: then the program's stdin is empty."""
    path = GuestPaths(live.dir).agent
    if not path.exists():
        what = f"{live.record.name}: was started without the channel of a guest agent"
        raise hv.OperationError(f"{what}; set use_guest_agent = true, then stop and start it, or use hv ssh")
    # -P: without it, Python imports modules of the directory that it is called in.
    python = (sys.executable or _PYTHON, "-P", "-m", _RUNNER)
    return (*python, str(path), live.record.name, "none" if terminal else "read", *argv)
