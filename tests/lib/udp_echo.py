"""A program for a Linux guest on x86-64 that sends each datagram to port 7 back, over IPv4 and IPv6: busybox has none.

In C it would be ``socket(AF_INET6, SOCK_DGRAM, 0)``, ``bind`` to ``[::]:7``, and ``recvfrom`` and ``sendto`` in a loop.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from typing import Final

__all__ = ["ECHO_PORT", "commands"]

ECHO_PORT: Final = 7

_CODE: Final = bytes.fromhex(
    "bf0a000000 be02000000 31d2 b829000000 0f05"  # socket
    "4189c4 89c7 488d356a000000 ba1c000000 b831000000 0f05"  # bind
    "4883ec00 4489e7 488db42400f8ffff badc050000 4531d2 4c8d842400f0ffff 4c8d8c24fcefffff 41c7011c000000"
    "b82d000000 0f05"  # recvfrom
    "89c2 4489e7 488db42400f8ffff 4531d2 4c8d842400f0ffff 448b8c24fcefffff b82c000000 0f05"  # sendto
    "eba2"  # again
    "0a000007" + "00" * 24  # sockaddr_in6
)
_AT: Final = 0x400000
_HEADERS: Final = 64 + 56
_LINE: Final = 200


def _program() -> bytes:
    """An ELF file with one segment (elf(5))."""
    length = _HEADERS + len(_CODE)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, _AT + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _AT, _AT, length, length, 0x1000)
    return ident + header + segment + _CODE


def commands() -> Iterator[str]:
    """What to type into a shell of the guest to start it."""
    text = base64.b64encode(_program()).decode()
    for start in range(0, len(text), _LINE):
        yield f"echo {text[start : start + _LINE]} >>/echo.txt"
    yield "/bin/busybox base64 -d /echo.txt >/echo; /bin/busybox chmod 755 /echo; /echo </dev/null >/dev/null 2>&1 &"
