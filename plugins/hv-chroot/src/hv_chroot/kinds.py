"""The kinds of resources of chroot instances, contributed as an extension's are."""

from __future__ import annotations

from typing import Final

from hv_chroot.resources.namespaces import NamespacesKind
from hv_chroot.resources.root_mount import OutputKind, RootKind
from hv_chroot.resources.veth import RoutesKind, VethKind
from hv_chroot.run.rooted import RootedKind

__all__ = ["RESOURCE_KINDS"]

# What is of chroot instances alone; disks, uids and groups are the core's.
RESOURCE_KINDS: Final = (NamespacesKind(), RootKind(), OutputKind(), VethKind(), RoutesKind(), RootedKind())
