"""A node of its own in a scratch directory, with the driver on it, that leaves nothing behind."""

from __future__ import annotations

import itertools
import os
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Final

from hvcore.api.driver_handle import DriverHandle
from hvcore.api.node import Node
from hvcore.errors import HvError
from hvcore.host.environment import Host, default_uid_pool
from hvcore.host.files import remove_tree
from hvcore.host.launching.launch import reap
from hvcore.host.mount_table import unmount_below
from hvcore.host.processes.process import kill_and_wait
from hvcore.plugins.loaded_driver import LoadedDriver
from hvcore.plugins.loader import load
from hvcore.testing.residue import Scope
from hvcore.testing.subject import Subject

__all__ = ["Site"]

_NUMBERS: Final = itertools.count()
_UIDS_EACH: Final = 64
_FIRST_UID: Final = 1_870_000_000  # beside the default pool: the node's own instances never meet those of a check
_KILL_S: Final = 5.0


class Site:
    """A node that is beside all others: its run directory, its uids, and a prefix that no name of others has."""

    def __init__(self, subject: Subject, directory: Path, *, thorough: bool = False) -> None:
        self.subject = subject
        self.directory = directory
        self.thorough = thorough
        self.run_dir = directory / "run"
        number = next(_NUMBERS)
        first = _FIRST_UID + (os.getpid() * 1000 + number * _UIDS_EACH) % 9_900_000
        pool = default_uid_pool()
        self.uids = range(first, first + _UIDS_EACH) if len(pool) > 4096 else pool  # few uids: what there is
        self.prefix = f"kit{os.getpid()}-{number}"

    @cached_property
    def loaded(self) -> LoadedDriver:
        """The driver with its hooks and its schema."""
        return load(self.subject.driver)

    @cached_property
    def node(self) -> Node:
        """The node."""
        return self.another_node()

    @property
    def handle(self) -> DriverHandle:
        """The driver on the node."""
        return self.node.driver(self.subject.driver)

    @property
    def host(self) -> Host:
        """The node, as drivers see it."""
        return Host(run_dir=self.run_dir, privileged=os.geteuid() == 0, uid_pool=self.uids)

    @property
    def scope(self) -> Scope:
        """What counts as ours when leftovers are looked for."""
        pool = self.uids if self.uids.start >= _FIRST_UID else range(0)
        return Scope(directory=self.directory, run_dir=self.run_dir, uids=pool, prefix=self.prefix)

    def another_node(self) -> Node:
        """The same node as another program sees it: nothing is remembered from before."""
        return Node(self.run_dir, config_dir=self.directory / "config", uid_pool=self.uids)

    def name(self, label: str = "web1") -> str:
        """The name of the instance that a check calls ``label``."""
        return f"{self.prefix}-{label}"

    def clear(self) -> None:
        """End and remove all that is left, whatever the driver did; nothing of other scopes is touched."""
        for name in _names(self.node):
            with suppress(Exception):
                self.node.stop(name, force=True, deadline_s=10)
        for process in self.scope.processes():
            with suppress(HvError, OSError):
                kill_and_wait(process, subject=str(process.pid), deadline_s=_KILL_S)
        reap()
        with suppress(HvError, OSError):
            unmount_below(str(self.directory.resolve()))
        with suppress(HvError, OSError):
            remove_tree(self.directory)  # refuses when something is still mounted: it may be the node's own files


def _names(node: Node) -> list[str]:
    try:
        return [info.name for info in node.instances()]
    except Exception:  # noqa: BLE001 - a driver that is broken enough to hide its instances; they are killed next
        return []
