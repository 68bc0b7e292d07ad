"""The handles of the resources that an operation has acquired so far, and the descriptors open for them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import field
from typing import TYPE_CHECKING, Any, TypeVar, cast

from hvcore.frozen import dataclass
from hvcore.model.resource import Resource

if TYPE_CHECKING:
    from hvcore.resources.owner import Owner, Site

__all__ = ["Handles", "Held"]

H = TypeVar("H")
C = TypeVar("C", bound=AbstractContextManager[Any])


class Handles:
    """The handles of resources, typed: ``handles[socket]`` is a str when ``socket`` is a ``Resource[str]``."""

    def __init__(self, found: Mapping[str, Any] | None = None) -> None:
        self._found: dict[str, Any] = dict(found or {})

    def __getitem__(self, resource: Resource[H]) -> H:
        return cast("H", self._found[resource.key])

    def __setitem__(self, resource: Resource[H], handle: H) -> None:
        self._found[resource.key] = handle

    def __contains__(self, resource: Resource[Any]) -> bool:
        return resource.key in self._found


@dataclass(slots=True)
class _Open:
    """The descriptors of one resource, by the program that inherits them, and what to undo at the end."""

    passed: list[int] = field(default_factory=list)
    lent: list[int] = field(default_factory=list)
    shared: list[int] = field(default_factory=list)
    at_end: ExitStack = field(default_factory=ExitStack)

    def close_passed(self) -> None:
        while self.passed:
            os.close(self.passed.pop())

    def close(self) -> None:
        self.close_passed()
        self.lent.clear()
        self.shared.clear()
        self.at_end.close()


class Held(Handles):
    """The handles of an operation in progress. It also owns every descriptor that is open only for the operation.

    The instance's program inherits a *passed* descriptor, which is then closed here, and a *lent* one, which stays open
    here. Every launched program inherits a *shared* one. Each belongs to the resource that is being acquired.
    """

    def __init__(self, owner: Owner, site: Site) -> None:
        super().__init__()
        self.owner = owner
        self.site = site
        self._open: dict[str, _Open] = {}
        self._current = _Open()
        self._once: dict[type, Any] = {}
        self._operation = ExitStack()

    @contextmanager
    def acquiring(self, key: str) -> Iterator[None]:
        """Descriptors opened in this block belong to the resource of that key."""
        before, self._current = self._current, self._open.setdefault(key, _Open())
        try:
            yield
        finally:
            self._current = before

    @property
    def for_program(self) -> tuple[int, ...]:
        """The descriptors that the instance's program inherits."""
        own = tuple(fd for one in self._open.values() for fd in (*one.passed, *one.lent))
        return (*own, *self.for_companion)

    @property
    def for_companion(self) -> tuple[int, ...]:
        """The descriptors that a program beside the instance inherits."""
        return tuple(fd for one in self._open.values() for fd in one.shared)

    def add(self, fd: int) -> str:
        """Take over a descriptor for the instance's program; its number as text."""
        self._current.passed.append(fd)
        return str(fd)

    def lend(self, fd: int) -> str:
        """Pass a descriptor to the instance's program that `at_end` closes; its number as text."""
        self._current.lent.append(fd)
        return str(fd)

    def share(self, fd: int) -> None:
        """Pass a descriptor to every program that is launched; `at_end` closes it."""
        self._current.shared.append(fd)

    def keep(self, fd: int) -> None:
        """Take over a descriptor that stays open until the operation ends."""
        self._current.at_end.callback(os.close, fd)

    def enter(self, context: AbstractContextManager[H]) -> H:
        """Enter a context that is left when the operation ends."""
        return self._current.at_end.enter_context(context)

    def once(self, kind: type[C], make: Callable[[], C]) -> C:
        """The one context of that class of this operation, such as a session; made at the first call.

        It is left when the operation ends.
        """
        if kind not in self._once:
            self._once[kind] = self._operation.enter_context(make())
        found: C = self._once[kind]
        return found

    def at_end(self, call: Callable[[], object]) -> None:
        """Call this when the operation ends or the resource is released."""
        self._current.at_end.callback(call)

    def close_passed(self) -> None:
        """Close our copies of passed descriptors: a listening socket would keep clients waiting after its program died."""
        for one in self._open.values():
            one.close_passed()

    def forget(self, key: str) -> None:
        """Drop the handle of a resource, and close its descriptors. Does nothing if it is not held."""
        self._found.pop(key, None)
        if key in self._open:
            self._open.pop(key).close()

    def close(self) -> None:
        """Close every descriptor, the last acquired first. Launched programs keep theirs."""
        for key in reversed(tuple(self._open)):
            self._open.pop(key).close()
        self._once.clear()
        self._operation.close()
