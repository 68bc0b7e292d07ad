"""A cache of answers about a QEMU binary: one small JSON file each, valid until something that it depends on changes.

A cache file that is broken, or that another user owns or can write, is ignored, and so is a cache directory that
cannot be used: the cache only saves time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any, Final

import hvcore.plugin as hv

__all__ = ["binary_key", "load", "store"]

_LARGEST_BYTES: Final = 1 << 20
_MODULE_DIRS: Final = ("lib/x86_64-linux-gnu/qemu", "lib/qemu", "lib64/qemu")


def binary_key(binary: str) -> list[Any]:
    """Everything that an answer about ``binary`` depends on, as plain JSON types.

    ctime and not mtime: package managers set the latter backwards. Modules count where the distributions and QEMU
    install them, beside the binary. A change of modules elsewhere, or of the program behind a wrapper script, is not
    noticed. Raises OSError when there is no such file.
    """
    place = os.stat(binary)
    path = os.path.realpath(binary)
    prefix = os.path.dirname(os.path.dirname(path))
    return [
        path,
        [place.st_dev, place.st_ino, place.st_size, place.st_ctime_ns],
        [_mtime_ns(os.path.join(prefix, directory)) for directory in _MODULE_DIRS],
        os.uname().release,
        kvm_opens() is None,
    ]


def kvm_opens() -> str | None:
    """None if /dev/kvm opens for reading and writing, else the kernel's reason. Does not prove that KVM works."""
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return os.strerror(error.errno or 0).lower()
    return None


def load(cache_dir: str, kind: str, key: list[Any]) -> Any:
    """The value stored under ``kind`` and exactly this ``key``, or None."""
    try:
        fd = os.open(_path(cache_dir, kind, key), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
                return None
            body = json.loads(file.read(_LARGEST_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(body, dict) or body.get("key") != key:
        return None
    return body.get("value")


def store(cache_dir: str, kind: str, key: list[Any], value: Any) -> None:
    """Keep ``value`` for `load`, readable by its owner only. Does nothing when the directory cannot be used.

    Atomic, and not synced: after a power failure there may be no value, or an unreadable one, which is the same.
    """
    path = _path(cache_dir, kind, key)
    temporary = f"{path}.{os.getpid()}.{os.urandom(4).hex()}"
    try:
        hv.private_dir(Path(cache_dir))  # never through a link into a directory of the operator
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except (OSError, hv.NodeError):
        return
    try:
        with open(fd, "wb") as file:
            file.write(json.dumps({"key": key, "value": value}, separators=(",", ":")).encode())
        os.rename(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _path(cache_dir: str, kind: str, key: list[Any]) -> str:
    digest = hashlib.sha256(os.fsencode(key[0])).hexdigest()[:32]
    return os.path.join(cache_dir, f"{kind}-{digest}.json")


def _mtime_ns(path: str) -> int | None:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None
