"""The kinds of resources of chroot instances, contributed by the hook that extensions use as well."""

from __future__ import annotations

from typing import Any

import hvcore.plugin as hv
from hv_chroot.resources.namespaces import NamespacesKind
from hv_chroot.resources.root import OutputKind, RootKind
from hv_chroot.resources.veth import RoutesKind, VethKind
from hv_chroot.run.rooted import RootedKind

__all__ = ["resource_kinds"]


@hv.hookimpl
def resource_kinds() -> tuple[hv.ResourceKind[Any, Any], ...]:
    """What is of chroot instances alone; disks, uids and groups are the core's."""
    return (NamespacesKind(), RootKind(), OutputKind(), VethKind(), RoutesKind(), RootedKind())
