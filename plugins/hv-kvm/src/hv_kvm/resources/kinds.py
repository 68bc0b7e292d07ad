"""QEMU's own kinds of resources, contributed as an extension's are."""

from __future__ import annotations

from typing import Final

from hv_kvm.resources.guest_directory import GuestDirectoryKind
from hv_kvm.resources.image import ImageKind
from hv_kvm.resources.memory_file import MemoryFileKind
from hv_kvm.resources.private_copy import PrivateCopyKind
from hv_kvm.resources.requirements import (
    BlockModuleKind,
    DataFileKind,
    HostNetworkKind,
    KvmOnlyKind,
    NotYetKind,
    OnlineCpusKind,
    OutsideKind,
    SecurityModelKind,
)
from hv_kvm.resources.shown_file import ShownFileKind
from hv_kvm.resources.tap import TapKind

__all__ = ["RESOURCE_KINDS"]

# What is of QEMU alone; files, sockets and programs of every driver are the core's.
RESOURCE_KINDS: Final = (
    NotYetKind(),
    SecurityModelKind(),
    GuestDirectoryKind(),
    ImageKind(),
    MemoryFileKind(),
    PrivateCopyKind(),
    ShownFileKind(),
    DataFileKind(),
    BlockModuleKind(),
    OutsideKind(),
    KvmOnlyKind(),
    HostNetworkKind(),
    TapKind(),
    OnlineCpusKind(),
)
