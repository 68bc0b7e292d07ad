"""A CD-ROM image (ISO 9660) with a few files in its root directory, whose full names are in the Joliet part. Pure.

ECMA-119 has the format, and the Joliet Specification of 1995 the second descriptor. Every image of the same files has
the same bytes: it has no time.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

__all__ = ["iso_image"]

_SECTOR: Final = 2048
_FIRST: Final = 16  # of the descriptors: the sectors before them are for boot loaders
_PRIMARY, _JOLIET, _END = 1, 2, 255
_LITTLE_TABLES, _BIG_TABLES = (19, 20), (21, 22)  # path tables: primary, Joliet
_ROOTS: Final = (23, 24)
_FIRST_OF_FILES: Final = 25
_UCS2: Final = b"%/E"  # the escape sequence of Joliet at level 3
_DIRECTORY: Final = 2
_NO_TIME: Final = bytes(7)


def iso_image(label: str, files: Mapping[str, bytes], *, size_bytes: int) -> bytes:
    """The image, with zeros at its end. Raises ValueError if the files do not fit into it, or into one directory sector."""
    places, sector = [], _FIRST_OF_FILES
    for data in files.values():
        places.append((sector, len(data)))
        sector += -(-len(data) // _SECTOR)
    if sector * _SECTOR > size_bytes:
        raise ValueError(f"has {sum(map(len, files.values()))} bytes in its files, which do not fit into {size_bytes}")
    sectors = size_bytes // _SECTOR
    short = [f"F{number}.;1".encode() for number in range(len(files))]
    full = [name.encode("utf-16-be") for name in files]
    parts = [
        bytes(_FIRST * _SECTOR),
        _descriptor(_PRIMARY, label.encode("ascii").ljust(32), sectors, 0),
        _descriptor(_JOLIET, label.encode("utf-16-be").ljust(32, b"\0"), sectors, 1),
        _sector(struct.pack("B5sB", _END, b"CD001", 1)),
        *(_sector(_path_table("<", root)) for root in _ROOTS),
        *(_sector(_path_table(">", root)) for root in _ROOTS),
        *(
            _directory(root, dict(zip(names, places, strict=True)))
            for root, names in zip(_ROOTS, (short, full), strict=True)
        ),
        *(_sector(data) for data in files.values()),
    ]
    return b"".join(parts).ljust(size_bytes, b"\0")


def _sector(data: bytes) -> bytes:
    return data.ljust(-(-len(data) // _SECTOR) * _SECTOR, b"\0")


def _both(number: int, form: str = "I") -> bytes:
    """A number in both byte orders."""
    return struct.pack(f"<{form}", number) + struct.pack(f">{form}", number)


def _descriptor(kind: int, label: bytes, sectors: int, which: int) -> bytes:
    joliet = kind == _JOLIET
    space = b"\0 " if joliet else b" "

    def text(length: int) -> bytes:
        return (space * length)[:length]

    table_bytes = _both(len(_path_table("<", 0)))
    tables = struct.pack("<II", _LITTLE_TABLES[which], 0) + struct.pack(">II", _BIG_TABLES[which], 0)
    never = b"0" * 16 + b"\0"
    return _sector(
        struct.pack("B5sBB", kind, b"CD001", 1, 0)
        + text(32)
        + label
        + bytes(8)
        + _both(sectors)
        + (_UCS2 if joliet else b"").ljust(32, b"\0")
        + _both(1, "H") * 2
        + _both(_SECTOR, "H")
        + table_bytes
        + tables
        + _record(b"\0", _ROOTS[which], _SECTOR, _DIRECTORY)
        + text(128 * 4)
        + text(37 * 3)
        + never * 4
        + b"\x01\0"
    )


def _record(name: bytes, sector: int, size_bytes: int, flags: int = 0) -> bytes:
    padding = b"" if len(name) % 2 else b"\0"
    length = 33 + len(name) + len(padding)
    head = bytes([length, 0]) + _both(sector) + _both(size_bytes) + _NO_TIME + bytes([flags, 0, 0]) + _both(1, "H")
    return head + bytes([len(name)]) + name + padding


def _path_table(order: str, root: int) -> bytes:
    return struct.pack(f"{order}BBIH2s", 1, 0, root, 1, b"\0\0")


def _directory(root: int, files: Mapping[bytes, tuple[int, int]]) -> bytes:
    records = [_record(name, root, _SECTOR, _DIRECTORY) for name in (b"\0", b"\x01")]
    records += [_record(name, *place) for name, place in sorted(files.items())]
    data = b"".join(records)
    if len(data) > _SECTOR:
        raise ValueError(f"has {len(files)} files, whose names do not fit into one sector")
    return _sector(data)
