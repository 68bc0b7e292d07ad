"""What the header of a qcow2 image says that QEMU would act upon: other files that it refers to."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

__all__ = ["HEADER_BYTES", "Qcow2Problem", "qcow2_problem"]

HEADER_BYTES: Final = 104
"""How much of the image is looked at: the header of version 3 (docs/interop/qcow2.txt of QEMU)."""

_MAGIC: Final = b"QFI\xfb"
_CORRUPT: Final = 1 << 1
_DATA_FILE: Final = 1 << 2


@dataclass(frozen=True, slots=True)
class Qcow2Problem:
    """What is wrong with the image, and what to do."""

    what: str
    todo: str


def qcow2_problem(header: bytes) -> Qcow2Problem | None:
    """What keeps an image that begins with ``header`` from being used, None when nothing does.

    An image that refers to others makes QEMU open what it names: the guest would get whatever file of the node the
    maker of the image chose. They are flattened once, not followed at each start.
    """
    if len(header) < 72 or header[:4] != _MAGIC:
        return Qcow2Problem("is not a qcow2 image", 'set format = "raw" if it is a raw one')
    version, backing_offset = struct.unpack_from(">IQ", header, 4)
    if version not in (2, 3):
        return Qcow2Problem(f"is a qcow2 image of version {version}", "convert it with qemu-img convert -O qcow2")
    features = struct.unpack_from(">Q", header, 72)[0] if version == 3 and len(header) >= 80 else 0
    if backing_offset:
        return Qcow2Problem(
            "is a qcow2 image with a backing file", "make it one image with qemu-img convert -O qcow2, or rebase -b ''"
        )
    if features & _DATA_FILE:
        return Qcow2Problem(
            "is a qcow2 image whose data are in another file", "make it one image with qemu-img convert -O qcow2"
        )
    if features & _CORRUPT:
        return Qcow2Problem("is a qcow2 image that is marked as corrupt", "repair it with qemu-img check -r all")
    return None
