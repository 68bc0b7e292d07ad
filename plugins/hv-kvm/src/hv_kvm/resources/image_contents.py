"""Why QEMU would not show a guest what an image contains: the wrong format, a qcow2 feature, the size of variables."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress

from hv_kvm.machine.resource import Image, TemporaryOverlay
from hv_kvm.machine.spec import KvmSpec
from hv_kvm.resources.base_image import backing_problem, head_and_size, new_size, seen_size
from hv_kvm.resources.qcow2_header import qcow2_problem, read_header
from hvcore.plugin import Holds, contents_of

__all__ = ["contents_problem", "disk_sizes"]

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
        head, size = head_and_size(path)
        header = read_header(head)
        return qcow2_problem(header, size) or (None if header is None else backing_problem(image, header))
    return None if image.any_contents else _raw_problem(image, path)


def disk_sizes(spec: KvmSpec) -> dict[str, int]:
    """The bytes that the guest sees of each image that can be read, by the name of its block node."""
    return dict(_sizes(spec))


def _sizes(spec: KvmSpec) -> Iterator[tuple[str, int]]:
    for resource in spec.resources:
        if not isinstance(resource, Image | TemporaryOverlay):
            continue
        with suppress(OSError, ValueError):
            if isinstance(resource, TemporaryOverlay) or (resource.make and not os.path.exists(resource.path)):
                yield resource.key, new_size(resource.backing, resource.size_bytes)
            else:
                yield resource.key, seen_size(resource.path, resource.format)


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
