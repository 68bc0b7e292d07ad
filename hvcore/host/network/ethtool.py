"""Features of a network interface, by ioctl(2): what its driver may leave to the receiver of its packets."""

from __future__ import annotations

import array
import fcntl
import socket
import struct
from typing import Final

__all__ = ["complete_checksums"]

_SIOCETHTOOL: Final = 0x8946  # linux/sockios.h
_SET_TRANSMIT_CHECKSUM: Final = 0x17  # linux/ethtool.h, ETHTOOL_STXCSUM
_REQUEST: Final = struct.Struct("16sP16x")  # linux/if.h, struct ifreq


def complete_checksums(name: str) -> None:
    """Let the kernel complete the checksums of what the interface transmits. It then sends no packet above the MTU.

    Acts in the network namespace of this thread. Raises OSError.
    """
    value = array.array("I", (_SET_TRANSMIT_CHECKSUM, 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asking:
        fcntl.ioctl(asking, _SIOCETHTOOL, _REQUEST.pack(name.encode(), value.buffer_info()[0]))
