"""The network namespace of passt, for users who are not root: whether this node allows it, and its rules.

pasta is the same program as passt, under another name. It makes the namespace and runs passt in it, as its only child.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from hvcore.host.network.nft import NFT_PACKAGE, apply, find_nft, list_table
from hvcore.host.network.tap_device import TUN
from hvcore.host.processes.process import identify
from hvcore.host.programs import is_program
from hvcore.model.network.egress_rules import FAMILY, TABLE
from hvcore.model.record import ProcessId

__all__ = ["child_of", "pasta_beside", "rules_inside", "set_rules_inside", "why_not_namespace"]

_MAX_NETWORKS: Final = Path("/proc/sys/user/max_net_namespaces")


def pasta_beside(passt: str) -> str:
    """The program pasta of that installation."""
    return os.path.join(os.path.dirname(passt), "pasta")


def why_not_namespace(passt: str, policy: str) -> tuple[str, str] | None:
    """Why this node cannot keep that policy for a user who is not root, and what to do. None if it can."""
    return next(_lacks(passt, policy), None)


def _lacks(passt: str, policy: str) -> Iterator[tuple[str, str]]:
    pasta = pasta_beside(passt)
    if not is_program(pasta):
        yield f"needs the program {pasta}, which is not installed on this node", "install it (Debian: passt)"
    if policy != "all" and find_nft() is None:
        yield "needs the program nft, which is not installed on this node", f"install it (Debian: {NFT_PACKAGE})"
    if shutil.which("bwrap") is None or shutil.which("nsenter") is None:
        yield "needs the programs bwrap and nsenter", "install them (Debian: bubblewrap, util-linux)"
    if not os.access(TUN, os.R_OK | os.W_OK):
        yield f"needs {TUN}, which this user cannot open", f"modprobe tun, and chmod 666 {TUN}"
    if _none_allowed():
        yield "needs a network namespace, and this node allows none (user.max_net_namespaces is 0)", "raise it"
    if not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
        yield "needs a kernel with CONFIG_PROC_CHILDREN", "run hv as root"


def child_of(process: ProcessId) -> ProcessId | None:
    """The child of that pasta: what it runs in the namespace; None until it has one."""
    try:
        pids = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return None
    return identify(int(pids[0])) if pids else None


def set_rules_inside(pasta: ProcessId, child: ProcessId, text: str) -> None:
    """Apply the nft commands in the namespace. Raises `NftError`."""
    apply(text, inside=_inside(pasta, child))


def rules_inside(pasta: ProcessId, child: ProcessId) -> Any:
    """The table in the namespace as nft lists it; None if it has no such table. Raises `NftError`."""
    return list_table(FAMILY, TABLE, inside=_inside(pasta, child))


def _inside(pasta: ProcessId, child: ProcessId) -> tuple[str, ...]:
    # With the uid kept: it is root's in the user namespace, where no other user exists.
    return (
        *("nsenter", "--preserve-credentials"),
        *(f"--user=/proc/{pasta.pid}/ns/user", f"--net=/proc/{child.pid}/ns/net", "--"),
    )


def _none_allowed() -> bool:
    try:
        return int(_MAX_NETWORKS.read_text(encoding="ascii")) == 0
    except (OSError, ValueError):
        return False
