"""A symbolic link at a path of the operator's choice, to a file in the instance's directory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hvcore.errors import OperationError
from hvcore.model.plan import Step
from hvcore.model.record import Entry
from hvcore.model.resource import Link
from hvcore.resources.held import Held
from hvcore.resources.kind import ResourceKind, Turn
from hvcore.resources.owner import Owner, Site

__all__ = ["LinkKind"]


class LinkKind(ResourceKind[Link, None], name="link", turn=Turn.FILE):
    """Made before the program: until that has made its file, the link leads nowhere."""

    def describe(self, resource: Link, site: Site) -> Iterator[Step]:
        """Where it is."""
        yield Step(kind="link", what=f"{resource.path} to the display's socket")

    def entry(self, resource: Link, site: Site) -> Mapping[str, Any]:
        """Its path."""
        return {"path": resource.path}

    def acquire(self, resource: Link, held: Held) -> None:
        """Make it, unless it is there. Raises `OperationError` when something else is."""
        path, target = Path(resource.path), held.owner.dir / resource.target
        try:
            path.symlink_to(target)
        except FileExistsError:
            if path.is_symlink() and path.readlink() == target:
                return
            what = f"{held.owner.name}: {resource.path!r} exists already"
            raise OperationError(f"{what}; remove it or choose another path") from None
        except OSError as error:
            what = f"{held.owner.name}: {resource.path!r} cannot be made, got {error.strerror}"
            raise OperationError(f"{what}; choose another") from error

    def release(self, entry: Entry, owner: Owner) -> None:
        """Remove it, if it is still ours: an operator may have put something else there since."""
        path = Path(entry.data["path"])
        if path.is_symlink() and os.readlink(path).startswith(f"{owner.dir}/"):
            path.unlink(missing_ok=True)
