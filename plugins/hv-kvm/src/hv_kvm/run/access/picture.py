"""The picture on the display of a running guest."""

from __future__ import annotations

import os
import re
import struct
import zlib
from typing import Final

from hv_kvm.qmp import QmpCommandError, commands, reach
from hvcore.plugin import Job, Live, OperationError

__all__ = ["png_of", "screenshot"]

_LARGEST_BYTES: Final = (
    256 * 1024 * 1024
)  # the guest chooses the size of its screen; 16384 x 5461 points have that many
_HEADER: Final = re.compile(rb"P6[ \t\r\n]+([0-9]{1,6})[ \t\r\n]+([0-9]{1,6})[ \t\r\n]+255[ \t\r\n]")
_FASTEST: Final = 1  # of zlib: a console has large areas of one colour, which any level packs well


def screenshot(live: Live, job: Job) -> bytes:
    """The picture as PNG. Raises `OperationError` for a guest without a graphics card.

    Every QEMU writes PPM. PNG is made here: some QEMU lack it, and QEMU is busy while it packs.
    """
    file = os.memfd_create("screenshot", os.MFD_CLOEXEC)
    try:
        # QEMU compares the access mode, and a memfd is open for reading too.
        writer = os.open(f"/proc/self/fd/{file}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            with reach(live.dir, job.deadline.left()) as client:
                commands.screendump(client, writer, deadline_s=job.deadline.left())
        except QmpCommandError as error:
            todo = "set vga, then stop and start it" if "no console" in error.desc else "see its log"
            raise OperationError(f"{job.name}: has no picture, QEMU says {error.desc!r}; {todo}") from error
        finally:
            os.close(writer)
        size = os.fstat(file).st_size
        if size > _LARGEST_BYTES:
            what = f"{job.name}: its picture is too large, got {size} bytes of at most {_LARGEST_BYTES}"
            raise OperationError(f"{what}; choose a smaller screen in the guest")
        return png_of(os.pread(file, size, 0), job.name)
    finally:
        os.ftruncate(file, 0)  # QEMU keeps its descriptor until the guest runs again
        os.close(file)


def png_of(ppm: bytes, name: str) -> bytes:
    """The PPM picture, 8 bits a colour, as a PNG file. Raises `OperationError` for any other text."""
    header = _HEADER.match(ppm)
    width, height = (int(header[1]), int(header[2])) if header else (0, 0)
    start = header.end() if header else 0
    if not width or not height or len(ppm) - start < width * height * 3:
        raise OperationError(f"{name}: QEMU gave no whole picture, got {ppm[:20]!r} and {len(ppm)} bytes; try again")
    row = width * 3
    packer = zlib.compressobj(_FASTEST)
    packed = bytearray()
    for at in range(start, start + row * height, row):
        packed += packer.compress(b"\0" + ppm[at : at + row])
    packed += packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits each of red, green and blue
    parts = (b"\x89PNG\r\n\x1a\n", _chunk(b"IHDR", head), _chunk(b"IDAT", bytes(packed)), _chunk(b"IEND", b""))
    return b"".join(parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
