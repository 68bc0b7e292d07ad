"""The clients of a listening unix socket: they distinguish a monitor that serves another client from a QEMU that hangs.

Both accept our connection into the backlog and stay silent. The kernel's socket diagnosis (netlink, linux/unix_diag.h,
since 3.3) lists the server ends of all connections with the inode of the socket's path. An accepted end has its own inode
number, an end in the backlog has 0. If the client has closed its end, the peer's inode number is 0.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from typing import Final

__all__ = ["accepted_connections"]

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST_DUMP: Final = 0x301
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_TCP_ESTABLISHED: Final = 1
_UDIAG_SHOW_VFS_AND_PEER: Final = 2 | 4
_UNIX_DIAG_VFS: Final = 1
_UNIX_DIAG_PEER: Final = 2
_NLMSGHDR: Final = struct.Struct("=IHHII")
_REQUEST: Final = struct.Struct("=BBHIIIII")
_MESSAGE: Final = struct.Struct("=BBBBIII")
_RTATTR: Final = struct.Struct("=HH")
_VFS: Final = struct.Struct("=II")
_PEER: Final = struct.Struct("=I")


def accepted_connections(path: str) -> int | None:
    """The number of live connections to the unix socket at ``path`` that its server has accepted; None if unknown.

    Finds only sockets of this network namespace.
    """
    try:
        place = os.stat(path)
        device = os.major(place.st_dev) << 20 | os.minor(place.st_dev)
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as diag:
            diag.settimeout(1.0)
            body = _REQUEST.pack(socket.AF_UNIX, 0, 0, 1 << _TCP_ESTABLISHED, 0, _UDIAG_SHOW_VFS_AND_PEER, 0, 0)
            header = _NLMSGHDR.pack(_NLMSGHDR.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST_DUMP, 1, 0)
            diag.send(header + body)
            # The kernel keeps 32 bits of the inode number (unix_diag.c, sk_diag_dump_vfs).
            wanted = (place.st_ino & 0xFFFFFFFF, device)
            return sum(inode != 0 and peer != 0 and vfs == wanted for inode, peer, vfs in _sockets(diag))
    except (OSError, struct.error):
        return None


_Socket = tuple[int, int, tuple[int, int] | None]


def _sockets(diag: socket.socket) -> Iterator[_Socket]:
    """``(socket inode, peer's inode, (path's inode, device) or None)`` of each socket in a dump."""
    while True:
        data = diag.recv(1 << 16)
        at = 0
        while at + _NLMSGHDR.size <= len(data):
            length, kind, *_rest = _NLMSGHDR.unpack_from(data, at)
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR or length < _NLMSGHDR.size:
                raise OSError("the kernel did not list the unix sockets")
            yield _socket(data[at + _NLMSGHDR.size : at + length])
            at += (length + 3) & ~3


def _socket(message: bytes) -> _Socket:
    inode: int = _MESSAGE.unpack_from(message)[4]
    peer = 0
    vfs: tuple[int, int] | None = None
    at = _MESSAGE.size
    while at + _RTATTR.size <= len(message):
        length, kind = _RTATTR.unpack_from(message, at)
        if kind == _UNIX_DIAG_VFS:
            path_inode, device = _VFS.unpack_from(message, at + _RTATTR.size)
            vfs = path_inode, device
        elif kind == _UNIX_DIAG_PEER:
            (peer,) = _PEER.unpack_from(message, at + _RTATTR.size)
        at += max(_RTATTR.size, (length + 3) & ~3)
    return inode, peer, vfs
