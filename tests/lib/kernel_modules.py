"""Modules of an unpacked Debian kernel, with those that they need, for the ram disk of a guest."""

from __future__ import annotations

import lzma
import re
from pathlib import Path

__all__ = ["kernel_modules"]


def kernel_modules(kernel: Path, *names: str) -> dict[str, bytes]:
    """The modules by file name; sorted by name they are in an order in which they can be loaded.

    Not those that are built into this kernel: which these are differs between releases.
    """
    top = kernel.resolve().parents[1]
    trees = [tree for folder in ("lib/modules", "usr/lib/modules") for tree in top.glob(f"{folder}/*")]
    assert trees, f"{top} has no modules of a kernel"
    paths = {_plain(path.name.partition(".")[0]): path for tree in trees for path in tree.rglob("*.ko*")}
    builtin = {_plain(Path(line).stem) for tree in trees for line in (tree / "modules.builtin").read_text().split()}
    found: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in builtin or name in found:
            return
        assert name in paths, f"{top} has no module {name}"
        data = _unpacked(paths[name])
        needed = re.search(rb"\0depends=([^\0]*)\0", data)  # modinfo(8)
        for other in filter(None, needed[1].decode().split(",") if needed else ()):
            add(_plain(other))
        found[name] = data

    for name in names:
        add(_plain(name))
    return {f"{number:03}-{name}.ko": data for number, (name, data) in enumerate(found.items())}


def _plain(name: str) -> str:
    return name.replace("-", "_")


def _unpacked(path: Path) -> bytes:
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data
