"""An initial ram disk for a Linux guest, in the one format that the kernel reads (newc, see cpio(5)), in memory."""

from __future__ import annotations

import gzip
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["Entry", "archive", "busybox_guest"]

_INIT: Final = """\
#!/bin/sh
/bin/busybox mkdir -p /proc /sys
/bin/busybox mount -t devtmpfs none /dev
/bin/busybox mount -t proc none /proc
/bin/busybox mount -t sysfs none /sys
for module in /modules/*.ko; do [ ! -e "$module" ] || /bin/busybox insmod "$module"; done
for button in /dev/input/event*; do
  [ ! -c "$button" ] || (/bin/busybox head -c 24 "$button" >/dev/null && echo "power button" && /bin/busybox poweroff -f) &
done
echo "{greeting}"
echo "$(/bin/busybox uname -sr) with $(/bin/busybox nproc) cpus"
while read -r line; do eval "$line"; done
"""


@dataclass(frozen=True)
class Entry:
    """A file, directory or link; ``mode`` as stat(2) has it."""

    name: str
    mode: int
    data: bytes = b""


def archive(entries: list[Entry]) -> bytes:
    """The entries as a compressed archive."""
    parts = [part for number, entry in enumerate(entries, 1) for part in _packed(number, entry)]
    parts += _packed(0, Entry("TRAILER!!!", 0))
    return gzip.compress(b"".join(parts), compresslevel=1, mtime=0)


def _packed(number: int, entry: Entry) -> Iterator[bytes]:
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    # inode, mode, uid, gid, links, mtime, size, device twice, number of a device file twice, length of the name, check
    fields = (number, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, 0, 0, len(name), 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields)
    yield header + name + b"\0" * (-(len(header) + len(name)) % 4)
    yield entry.data + b"\0" * (-len(entry.data) % 4)


def busybox_guest(greeting: str, busybox: bytes, modules: dict[str, bytes]) -> bytes:
    """A guest that loads the modules, prints the greeting, executes commands from its console, and has a power button."""
    folders = [Entry(name, stat.S_IFDIR | 0o755) for name in ("bin", "dev", "modules")]
    files = [
        Entry("init", stat.S_IFREG | 0o755, _INIT.replace("{greeting}", greeting).encode()),
        Entry("bin/busybox", stat.S_IFREG | 0o755, busybox),
        *(Entry(f"modules/{name}", stat.S_IFREG | 0o644, data) for name, data in sorted(modules.items())),
    ]
    return archive([*folders, *files, Entry("bin/sh", stat.S_IFLNK | 0o777, b"busybox")])
