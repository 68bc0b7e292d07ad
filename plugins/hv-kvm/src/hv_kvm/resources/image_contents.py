"""Why QEMU would not show a guest what an image contains: the wrong format, a qcow2 feature, the size of variables."""

from __future__ import annotations

import os
import stat
import struct
from typing import Final

from hv_kvm.machine.resource import Image
from hv_kvm.machine.spec import KvmSpec
from hvcore.plugin import Holds, contents_of

__all__ = ["contents_problem", "disk_sizes", "qcow2_problem"]

# Of a qcow2 image: its header in version 3 (docs/interop/qcow2.txt of QEMU).
_HEADER_BYTES: Final = 112
_MAGIC: Final = b"QFI\xfb"
_SIZE: Final = slice(24, 32)
_CORRUPT: Final = 1 << 1
_DATA_FILE: Final = 1 << 2
_KNOWN: Final = 0b11111  # dirty, corrupt, data file, compression type, extended L2 entries
_ENCRYPTED: Final = {1: "AES", 2: "LUKS"}
_COMPRESSIONS: Final = (0, 1)  # zlib, zstd
_CLUSTER_BITS: Final = range(9, 22)
_FLAT: Final = "make it one image with qemu-img convert -O qcow2"

_Wrong = tuple[str, str]
"""What is wrong, and what to do."""


def contents_problem(image: Image, path: str) -> _Wrong | None:
    """What is wrong with the contents of the image at ``path``, and what to do; None if nothing is. Raises OSError."""
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        return None  # a SCSI device, which is not read
    if image.template is not None:
        return _size_problem(path, image.template)
    if image.format == "qcow2":
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            return qcow2_problem(file.read(_HEADER_BYTES), size)
    return None if image.any_contents else _raw_problem(image, path)


def disk_sizes(spec: KvmSpec) -> dict[str, int]:
    """The bytes that the guest sees of each image that can be read, by the name of its block node."""
    found = ((image.key, _size_for_guest(image)) for image in spec.resources_of(Image))
    return {key: size for key, size in found if size is not None}


def _size_for_guest(image: Image) -> int | None:
    try:
        with open(image.path, "rb") as file:
            if image.format == "qcow2":
                header = file.read(_HEADER_BYTES)
                return int.from_bytes(header[_SIZE], "big") if header[:4] == _MAGIC else None
            return file.seek(0, os.SEEK_END)
    except OSError:
        return None


def _raw_problem(image: Image, path: str) -> _Wrong | None:
    """A raw image whose first bytes are those of another format: the guest would see those bytes, and write over them."""
    if image.claim and os.path.isfile(path) and os.stat(path).st_size == 0:
        return "is empty (0 bytes)", "give it a size with truncate -s or qemu-img resize"
    found = contents_of(path)
    if found is None or found.holds not in (Holds.IMAGE, Holds.PACKED) or found.name == "tar":
        return None
    if found.holds is Holds.PACKED:
        return f"is {found.words}, and the guest would see the compressed bytes", "unpack it first"
    what = f"is {found.words}, but its format is raw, so the guest would see and overwrite its header"
    todo = f"convert it with qemu-img convert -f {found.name} -O raw"
    if image.claim:
        todo = f"convert it with qemu-img convert -f {found.name} -O qcow2"
        todo = 'set format = "qcow2"' if found.name == "qcow2" else f'{todo}, and set format = "qcow2"'
        todo += ", or disk_header_check = false if the guest itself keeps such an image at the start of its disk"
    else:
        what = f"is {found.words}, and only raw images are possible here"
    return what, todo


def _size_problem(path: str, template: str) -> _Wrong | None:
    """UEFI variables must have the size that the firmware was built for, which is that of their template."""
    size = os.stat(path).st_size
    try:
        wanted = os.stat(template).st_size
    except OSError:
        return None  # the template is needed only to make the file
    if size == wanted:
        return None
    what = f"has {size} bytes, but the variables of this firmware have {wanted} (as {template!r})"
    return what, "name the uefi_code_path and uefi_vars_template that it was made with, or another file"


def qcow2_problem(header: bytes, size: int | None = None) -> _Wrong | None:
    """What is wrong with a qcow2 image of ``size`` bytes that begins with ``header``, and what to do; None if nothing is.

    An image that refers to other files makes QEMU open them: the maker of the image could give the guest any file of
    the node. Such images have to be flattened once, and are not followed at a start.
    """
    if len(header) < 72 or header[:4] != _MAGIC:
        return "is not a qcow2 image", 'set format = "raw" if it is a raw one'
    version, backing_offset = struct.unpack_from(">IQ", header, 4)
    if version not in (2, 3):
        return f"is a qcow2 image of version {version}", "convert it with qemu-img convert -O qcow2"
    if backing_offset:
        return "is a qcow2 image with a backing file", f"{_FLAT}, or rebase -b ''"
    encryption = struct.unpack_from(">I", header, 32)[0]
    if encryption:
        method = _ENCRYPTED.get(encryption, f"method {encryption}")
        todo = "decrypt it with qemu-img convert -O qcow2 --object secret,..., because a start has no key for it"
        return f"is an encrypted qcow2 image ({method})", todo
    wrong = _features_problem(header) if version == 3 and len(header) >= 80 else None
    return wrong or _layout_problem(header, size)


def _features_problem(header: bytes) -> _Wrong | None:
    features = struct.unpack_from(">Q", header, 72)[0]
    if features & _DATA_FILE:
        return "is a qcow2 image whose data are in another file", _FLAT
    if features & _CORRUPT:
        return "is a qcow2 image that is marked as corrupt", "repair it with qemu-img check -r all"
    unknown = [str(bit) for bit in range(64) if features >> bit & 1 and not _KNOWN >> bit & 1]
    if unknown:
        what = f"is a qcow2 image with incompatible features that QEMU does not know (bit {', '.join(unknown)})"
        return what, "convert it to qcow2 with the program that made it"
    compression = header[104] if len(header) > 104 and struct.unpack_from(">I", header, 100)[0] > 104 else 0
    if compression not in _COMPRESSIONS:
        return f"is a qcow2 image with unknown compression {compression}", _FLAT
    return None


def _layout_problem(header: bytes, size: int | None) -> _Wrong | None:
    cluster_bits = struct.unpack_from(">I", header, 20)[0]
    if cluster_bits not in _CLUSTER_BITS:
        return f"is a qcow2 image with clusters of 2^{cluster_bits} bytes", "restore it from a backup"
    entries, table = struct.unpack_from(">IQ", header, 36)
    if size is not None and table + 8 * entries > size:
        what = f"is a qcow2 image that is cut off at {size} bytes, and its table ends at {table + 8 * entries}"
        return what, "copy it again, or restore it from a backup"
    return None
