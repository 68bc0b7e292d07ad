"""The header of a qcow2 image as a value, and why QEMU may not get an image with that header. Pure.

The format is in docs/interop/qcow2.txt of QEMU. A header is data of another program, or of an attacker: nothing in it is
followed, and each number is checked before QEMU reads it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any, Final

from hvcore.plugin import dataclass

__all__ = ["BACKING_FORMAT", "BASE_STATE", "HEAD_BYTES", "MAGIC", "Qcow2Header", "qcow2_problem", "read_header"]

HEAD_BYTES: Final = 1 << 16
"""As much of an image is read: all names and extensions of a header are in its first cluster, mostly of this size."""
MAGIC: Final = b"QFI\xfb"
BACKING_FORMAT: Final = 0xE2792ACA
"""The extension with the format of the backing file."""
BASE_STATE: Final = 0x68765F62
"""Our extension (hv_b): what the base was like when the image was made. QEMU keeps extensions that it does not know."""

_VERSION_2_BYTES: Final = 72
_CORRUPT: Final = 1 << 1
_DATA_FILE: Final = 1 << 2
_KNOWN: Final = 0b11111  # dirty, corrupt, data file, compression type, extended L2 entries
_ENCRYPTED: Final = {1: "AES", 2: "LUKS"}
_COMPRESSIONS: Final = (0, 1)  # zlib, zstd
_CLUSTER_BITS: Final = range(9, 22)
_NAME_BYTES: Final = 1023
# The limits of QEMU itself (block/qcow2.h): what is above is no image of its.
_MAX_L1_BYTES: Final = 32 << 20
_MAX_REFCOUNT_TABLE_BYTES: Final = 8 << 20
_MAX_SNAPSHOTS: Final = 65536
_FLAT: Final = "make it one image with qemu-img convert -O qcow2"

_Wrong = tuple[str, str]
"""What is wrong, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Qcow2Header:
    """The fields of a header that anything is decided by. ``extensions`` are by their type; ``hostile`` is what cannot be."""

    version: int
    size_bytes: int
    cluster_bits: int
    encryption: int
    l1_entries: int
    l1_offset: int
    refcount_offset: int
    refcount_clusters: int
    snapshots: int
    snapshots_offset: int
    features: int
    compression: int
    backing: bytes | None
    extensions: Mapping[int, bytes] = field(default_factory=dict)
    hostile: str | None = None

    @property
    def backing_format(self) -> str | None:
        """The format that the header says the backing file has."""
        found = self.extensions.get(BACKING_FORMAT)
        return None if found is None else found.decode("ascii", "replace")

    @property
    def base_state(self) -> Mapping[str, Any] | None:
        """What the base was like when hv made the image; None for an image of another program."""
        try:
            found = json.loads(self.extensions[BASE_STATE])
        except (KeyError, ValueError):
            return None
        return found if isinstance(found, dict) else None


def read_header(head: bytes) -> Qcow2Header | None:
    """The header in the first `HEAD_BYTES` of a file; None if this is not a qcow2 image."""
    if len(head) < _VERSION_2_BYTES or head[:4] != MAGIC:
        return None
    version, backing_offset, backing_bytes, cluster_bits, size, encryption = struct.unpack_from(">IQIIQI", head, 4)
    l1_entries, l1_offset, refcount_offset, refcount_clusters = struct.unpack_from(">IQQI", head, 36)
    snapshots, snapshots_offset = struct.unpack_from(">IQ", head, 60)
    features, length = 0, _VERSION_2_BYTES
    if version == 3 and len(head) >= 104:
        features, length = struct.unpack_from(">Q", head, 72)[0], struct.unpack_from(">I", head, 100)[0]
    hostile, backing = None, None
    if backing_offset:
        backing = head[backing_offset : backing_offset + backing_bytes]
        if not 0 < backing_bytes <= _NAME_BYTES or len(backing) != backing_bytes:
            hostile, backing = "is a qcow2 image with a backing file whose name is not in its header", b""
    extensions: dict[int, bytes] = {}
    if version in (2, 3) and length <= len(head):
        try:
            extensions = dict(_extensions(head[: backing_offset or len(head)], length))
        except ValueError as error:
            hostile = hostile or f"is a qcow2 image with {error}"
    return Qcow2Header(
        version=version,
        size_bytes=size,
        cluster_bits=cluster_bits,
        encryption=encryption,
        l1_entries=l1_entries,
        l1_offset=l1_offset,
        refcount_offset=refcount_offset,
        refcount_clusters=refcount_clusters,
        snapshots=snapshots,
        snapshots_offset=snapshots_offset,
        features=features,
        compression=head[104] if length > 104 and len(head) > 104 else 0,
        backing=backing,
        extensions=extensions,
        hostile=hostile,
    )


def _extensions(head: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    """Each extension. Raises ValueError for one that does not end inside the header."""
    while offset + 8 <= len(head):
        kind, length = struct.unpack_from(">II", head, offset)
        if kind == 0:
            return
        if offset + 8 + length > len(head):
            raise ValueError(f"an extension of {length} bytes, which is longer than its header")
        yield kind, head[offset + 8 : offset + 8 + length]
        offset += 8 + (length + 7) // 8 * 8


def qcow2_problem(header: Qcow2Header | None, size: int | None = None) -> _Wrong | None:
    """What is wrong with a qcow2 image of ``size`` bytes that has that header, and what to do; None if nothing is.

    A backing file is not: whether the header may name one depends on what the instance says.
    """
    if header is None:
        return "is not a qcow2 image", 'set format = "raw" if it is a raw one'
    if header.version not in (2, 3):
        return f"is a qcow2 image of version {header.version}", "convert it with qemu-img convert -O qcow2"
    if header.encryption:
        method = _ENCRYPTED.get(header.encryption, f"method {header.encryption}")
        todo = "decrypt it with qemu-img convert -O qcow2 --object secret,..., because a start has no key for it"
        return f"is an encrypted qcow2 image ({method})", todo
    return _features_problem(header) or _layout_problem(header, size)


def _features_problem(header: Qcow2Header) -> _Wrong | None:
    features = header.features
    if features & _DATA_FILE:
        return "is a qcow2 image whose data are in another file", _FLAT
    if features & _CORRUPT:
        return "is a qcow2 image that is marked as corrupt", "repair it with qemu-img check -r all"
    unknown = [str(bit) for bit in range(64) if features >> bit & 1 and not _KNOWN >> bit & 1]
    if unknown:
        what = f"is a qcow2 image with incompatible features that QEMU does not know (bit {', '.join(unknown)})"
        return what, "convert it to qcow2 with the program that made it"
    if header.compression not in _COMPRESSIONS:
        return f"is a qcow2 image with unknown compression {header.compression}", _FLAT
    return None


def _layout_problem(header: Qcow2Header, size: int | None) -> _Wrong | None:
    if header.hostile is not None:
        wrong: str | None = header.hostile
    elif header.cluster_bits not in _CLUSTER_BITS:
        wrong = f"is a qcow2 image with clusters of 2^{header.cluster_bits} bytes"
    elif header.snapshots > _MAX_SNAPSHOTS:
        wrong = f"is a qcow2 image with {header.snapshots} snapshots, and QEMU reads at most {_MAX_SNAPSHOTS}"
    else:
        wrong = next(_bad_tables(header, size), None)
    return None if wrong is None else (wrong, "copy it again, or restore it from a backup")


def _bad_tables(header: Qcow2Header, size: int | None) -> Iterator[str]:
    refcounts = header.refcount_clusters << header.cluster_bits
    for name, offset, length, limit in (
        ("table", header.l1_offset, 8 * header.l1_entries, _MAX_L1_BYTES),
        ("refcount table", header.refcount_offset, refcounts, _MAX_REFCOUNT_TABLE_BYTES),
        ("list of snapshots", header.snapshots_offset, header.snapshots, _MAX_SNAPSHOTS),
    ):
        if length > limit:
            yield f"is a qcow2 image with a {name} of {length} bytes, and QEMU reads at most {limit}"
        if size is not None and length and offset + length > size:
            yield f"is a qcow2 image that is cut off at {size} bytes, and its {name} ends at {offset + length}"
