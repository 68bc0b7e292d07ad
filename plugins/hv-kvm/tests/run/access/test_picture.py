"""A picture of QEMU becomes a PNG file, and anything else is refused."""

from __future__ import annotations

import struct
import zlib

import pytest

from hv_kvm.run.access.picture import png_of
from hvcore.plugin import OperationError


def points(png: bytes) -> bytes:
    """The rows of a PNG file, each with its filter. Checks each chunk."""
    at, found = 8, b""
    while at < len(png):
        size, kind = struct.unpack(">I4s", png[at : at + 8])
        data = png[at + 8 : at + 8 + size]
        assert struct.unpack(">I", png[at + 8 + size : at + 12 + size]) == (zlib.crc32(kind + data),)
        found += data if kind == b"IDAT" else b""
        at += 12 + size
    return zlib.decompress(found)


def test_a_picture_keeps_its_points() -> None:
    png = png_of(b"P6\n2 3\n255\n" + bytes(range(18)), "web1")
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", png[16:24]) == (2, 3)
    assert points(png) == b"".join(b"\0" + bytes(range(at, at + 6)) for at in (0, 6, 12))


@pytest.mark.parametrize(
    "ppm",
    [b"", b"P6\n2 3\n255\n" + bytes(17), b"P5\n1 1\n255\n0", b"P6\n0 0\n255\n", b"P6 9999999 1 255 ", b"\x89PNG" * 9],
)
def test_what_is_not_a_whole_picture_is_refused(ppm: bytes) -> None:
    with pytest.raises(OperationError, match="web1: QEMU gave no whole picture"):
        png_of(ppm, "web1")
