"""The node and a started instance, as a driver sees them."""

from __future__ import annotations

import os
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hvcore.errors import NodeError
from hvcore.frozen import dataclass
from hvcore.host.cgroups.hierarchy import ControlGroups, control_groups
from hvcore.model.record import Record

if TYPE_CHECKING:
    from hvcore.host.between_halves import BetweenHalves
    from hvcore.host.cgroups.group import Group

__all__ = ["Host", "Live", "default_run_dir", "default_state_dir", "default_uid_pool", "journals_dir"]

# systemd's list of uid ranges leaves 1879048192 to 2147483647 unused.
_POOL_FIRST: Final = 1_880_000_000
_POOL_SIZE: Final = 65_536
_LONGEST: Final = 200  # bytes of a name for a directory, with room for what file systems add
_CGROUP: Final = "cgroup"  # the name of the kind in `hvcore.resources.control_group`, which is above this module


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The node as a driver sees it: where state and caches are, and what the caller may do.

    ``between`` is for the core's kinds: what a reboot holds of its instance from its stop to its start. ``arriving`` is too:
    the instance runs elsewhere until it has moved here, and its disks are locked there.
    """

    run_dir: Path
    privileged: bool
    uid_pool: range
    cgroups: ControlGroups = field(default_factory=control_groups)
    between: BetweenHalves | None = field(default=None, compare=False, repr=False)
    arriving: bool = field(default=False, compare=False, repr=False)

    @property
    def cache_dir(self) -> Path:
        """Where results of probing are kept until the next boot, as everything in the run directory."""
        return self.run_dir / "cache"


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A started instance as its driver observes it: the record, and the directory with its files."""

    record: Record
    dir: Path
    host: Host

    @property
    def group(self) -> Group | None:
        """The instance's control group, for figures and to freeze it; None without one."""
        names = [entry.data["name"] for entry in self.record.ledger if entry.kind == _CGROUP]
        if not names or not self.host.cgroups.usable:
            return None
        from hvcore.host.cgroups.group import Group  # noqa: PLC0415 - 3.7 ms, for those that have one

        return Group(names[-1], self.host.cgroups)


def default_run_dir() -> Path:
    """``HVCORE_RUN_DIR``, else /run/hvcore for root, else a directory below ``XDG_RUNTIME_DIR``."""
    chosen = os.environ.get("HVCORE_RUN_DIR")
    if chosen:
        if not os.path.isabs(chosen):
            raise NodeError(f"HVCORE_RUN_DIR: is not an absolute path, got {chosen!r}; give one")
        return Path(chosen)
    if os.geteuid() == 0:
        return Path("/run/hvcore")
    session = os.environ.get("XDG_RUNTIME_DIR")
    if not session or not os.path.isabs(session):  # the XDG base directory specification: a relative one is invalid
        what = "run directory: not root and XDG_RUNTIME_DIR is not an absolute path"
        raise NodeError(f"{what}; set it, or choose one with --run-dir")
    return Path(session, "hvcore")


def default_state_dir() -> Path:
    """Where files are that a reboot of the node must keep: ``HVCORE_STATE_DIR``, else /var/lib/hvcore for root.

    Else a directory below ``XDG_STATE_HOME``, or below ~/.local/state.
    """
    chosen = os.environ.get("HVCORE_STATE_DIR")
    if chosen:
        if not os.path.isabs(chosen):
            raise NodeError(f"HVCORE_STATE_DIR: is not an absolute path, got {chosen!r}; give one")
        return Path(chosen)
    if os.geteuid() == 0:
        return Path("/var/lib/hvcore")
    own = os.environ.get("XDG_STATE_HOME", "")
    return Path(own if os.path.isabs(own) else os.path.expanduser("~/.local/state"), "hvcore")


def journals_dir(state_dir: Path, run_dir: Path) -> Path:
    """Where the migration journals of a run directory are: ``run-hvcore`` for /run/hvcore. Other paths have other names."""
    name = str(run_dir).strip("/")
    for char in ("\\", "-"):
        name = name.replace(char, f"\\x{ord(char):02x}")
    name = name.replace("/", "-") or "-"
    if len(os.fsencode(name)) > _LONGEST:
        from hashlib import sha256  # noqa: PLC0415 - 2 ms, for long paths

        name = f"-{sha256(os.fsencode(name)).hexdigest()}"
    return state_dir / "migrations" / name


def default_uid_pool() -> range:
    """The uids that guests run as: a range that no other program assigns, within our user namespace."""
    mapped = [tuple(map(int, line.split())) for line in Path("/proc/self/uid_map").read_text().splitlines()]
    if any(first <= _POOL_FIRST and _POOL_FIRST + _POOL_SIZE <= first + count for first, _, count in mapped):
        return range(_POOL_FIRST, _POOL_FIRST + _POOL_SIZE)
    # In a container with few uids: the upper end of the largest range, without 65534 (overflowuid).
    first, _, count = max(mapped, key=lambda piece: piece[2])
    last = min(first + count, 65_534)
    return range(max(first + 1, last - 4096), last)
