"""An empty qcow2 image on top of another one, as bytes: as `qemu-img create -b` makes it, in a hundredth of the time. Pure."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any, Final

from hv_kvm.resources.qcow2_header import BACKING_FORMAT, BASE_STATE, MAGIC

__all__ = ["empty_overlay"]

_CLUSTER_BITS: Final = 16
_CLUSTER: Final = 1 << _CLUSTER_BITS
_REFCOUNT_ORDER: Final = 4  # 16 bits each
_HEADER_BYTES: Final = 104
_PER_L1_ENTRY: Final = _CLUSTER * (_CLUSTER // 8)  # bytes of the disk that one table of the second level covers


def empty_overlay(
    size_bytes: int, *, backing: bytes = b"", backing_format: str = "", base_state: Mapping[str, Any] | None = None
) -> bytes:
    """The image: a header, a table and a block of reference counts, and the first table, which is empty.

    Without ``backing`` the header names no file: then QEMU has to be given the base.
    """
    l1_entries = max(1, -(-size_bytes // _PER_L1_ENTRY))
    l1_clusters = -(-l1_entries * 8 // _CLUSTER)
    extensions = b""
    if backing_format:
        extensions += _extension(BACKING_FORMAT, backing_format.encode())
    if base_state is not None:
        extensions += _extension(BASE_STATE, json.dumps(dict(base_state), separators=(",", ":")).encode())
    extensions += struct.pack(">II", 0, 0)
    backing_offset = _HEADER_BYTES + len(extensions) if backing else 0
    header = MAGIC + struct.pack(
        ">IQIIQIIQQIIQQQQII",
        *(3, backing_offset, len(backing), _CLUSTER_BITS, size_bytes, 0),
        *(l1_entries, 3 * _CLUSTER, _CLUSTER, 1, 0, 0),
        *(0, 0, 0, _REFCOUNT_ORDER, _HEADER_BYTES),
    )
    used = 3 + l1_clusters
    counts = struct.pack(f">{used}H", *[1] * used)
    parts = (header + extensions + backing, struct.pack(">Q", 2 * _CLUSTER), counts)
    return b"".join(part.ljust(_CLUSTER, b"\0") for part in parts) + bytes(l1_clusters * _CLUSTER)


def _extension(kind: int, data: bytes) -> bytes:
    return struct.pack(">II", kind, len(data)) + data.ljust(-(-len(data) // 8) * 8, b"\0")
