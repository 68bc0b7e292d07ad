"""QEMU's own kinds of resources, contributed as an extension's are; those of every driver are the core's."""

from __future__ import annotations

from typing import Final

from hv_kvm.resources.guest_directory import GuestDirectoryKind
from hv_kvm.resources.image import ImageKind
from hv_kvm.resources.memory_file import MemoryFileKind
from hv_kvm.resources.private_copy import PrivateCopyKind
from hv_kvm.resources.requirements import (
    BlockModuleKind,
    BuiltInNetworkKind,
    DataFileKind,
    HostNetworkKind,
    KvmOnlyKind,
    NotYetKind,
    NumaNodesKind,
    OnlineCpusKind,
    OutsideKind,
    SecurityModelKind,
)
from hv_kvm.resources.seed_image import SeedImageKind
from hv_kvm.resources.shown_file import ShownFileKind
from hv_kvm.resources.temporary_overlay import TemporaryOverlayKind

__all__ = ["RESOURCE_KINDS"]

RESOURCE_KINDS: Final = (
    NotYetKind(),
    SecurityModelKind(),
    GuestDirectoryKind(),
    ImageKind(),
    TemporaryOverlayKind(),
    SeedImageKind(),
    MemoryFileKind(),
    PrivateCopyKind(),
    ShownFileKind(),
    DataFileKind(),
    BlockModuleKind(),
    OutsideKind(),
    KvmOnlyKind(),
    HostNetworkKind(),
    BuiltInNetworkKind(),
    OnlineCpusKind(),
    NumaNodesKind(),
)
