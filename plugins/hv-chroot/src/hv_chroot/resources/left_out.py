"""Mounts of the node that an instance would not see: those below a directory that is its root, its changes or a bind.

A copy of a directory's mount does not have the mounts below it. A process inside would see an empty directory there, and
write underneath. Shown they would be with all that is mounted there, /sys and /dev of the node included. So a start is
refused until each is unmounted, or shown by a bind.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import hvcore.plugin as hv
from hv_chroot.families.root import is_within
from hv_chroot.spec import ChrootSpec
from hvcore.plugin import mounts_at_or_below

__all__ = ["mounts_left_out"]

_OWN: Final = ("/dev", "/proc")  # with namespaces, the instance has its own there
_MOST_NAMED: Final = 5


def mounts_left_out(spec: ChrootSpec) -> Iterator[hv.Problem]:
    """A problem for each directory with such mounts, which are named."""
    shown = [bind.target for bind in spec.binds]
    if spec.directory is not None:
        own = _OWN if spec.namespaces else ()
        yield from _problem("params.root_directory", spec.directory, "/", (*own, *shown))
    for bind in spec.binds:
        others = [target for target in shown if target != bind.target]
        yield from _problem("params.binds", bind.source, bind.target, others)
    if spec.overlay_directory is not None:
        yield from _problem("params.overlay_directory", spec.overlay_directory, "/", ())


def _problem(param: str, source: str, target: str, covered: tuple[str, ...] | list[str]) -> Iterator[hv.Problem]:
    """``source`` is shown at ``target``, and the instance sees something else at the places that are ``covered``."""
    top = os.path.realpath(source)
    points = sorted({mount.point for mount in mounts_at_or_below(top) if mount.point != top and not _ours(mount.point)})
    inside = {point: os.path.join(target, os.path.relpath(point, top)) for point in points}
    hidden = [point for point in points if not any(is_within(inside[point], place) for place in covered)]
    if not hidden:
        return
    named = ", ".join(map(repr, hidden[:_MOST_NAMED]))
    more = f" and {len(hidden) - _MOST_NAMED} more" if hidden[_MOST_NAMED:] else ""
    what = f"has mounts below it that the instance would not see: {named}{more}"
    todo = "unmount them"
    if param != "params.overlay_directory":
        todo += f", or add a bind for each, such as '{hidden[0]}:{inside[hidden[0]]}:rw'"
    yield hv.Problem(path=param, what=what, got=repr(source), todo=todo)


def _ours(point: str) -> bool:
    """Whether that is a mount of an instance, in a run directory that is inside the directory: `claim_mount` refuses those."""
    return any(
        above.parent.name == "instances" and (above / "record.json").exists()
        for above in (Path(point), *Path(point).parents)
    )
