"""All kinds of resources that a driver can use, with one loop for each method of a kind."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hvcore.errors import DriverLoadError, HookError, HvError, LeftoverError, Problem
from hvcore.model.plan import Step
from hvcore.model.record import Entry
from hvcore.model.resource import Resource
from hvcore.resources.held import Handles, Held
from hvcore.resources.kind import ResourceKind
from hvcore.resources.owner import Owner, Site

__all__ = ["Kinds", "raised_at"]

_Any = Resource[Any]
_Kind = ResourceKind[Any, Any]


class Kinds:
    """The kinds of resources by their class and by their word in the ledger."""

    def __init__(self, kinds: Iterable[tuple[str, _Kind]]) -> None:
        """``kinds`` are ``(plugin, kind)``. Raises `DriverLoadError` naming both plugins when two share a name or class."""
        self._by_name: dict[str, _Kind] = {}
        self._by_class: dict[type[_Any], _Kind] = {}
        self._plugins: dict[_Kind, str] = {}
        for plugin, kind in kinds:
            first = self._by_name.get(kind.name) or self._by_class.get(kind.resource)
            if first is not None:
                both = f"{self._plugins[first]} and {plugin}"
                raise DriverLoadError(f"resource kind {kind.name!r}: declared by both {both}; rename one")
            declared, given = _handle_type(kind.resource, Resource, 0), _handle_type(type(kind), ResourceKind, 1)
            if declared != given:
                what = f"gives a handle of {given}, and {kind.resource.__name__} has one of {declared}"
                raise DriverLoadError(f"resource kind {kind.name!r} of {plugin}: {what}; make them one type")
            self._by_name[kind.name] = self._by_class[kind.resource] = kind
            self._plugins[kind] = plugin

    @property
    def names(self) -> tuple[str, ...]:
        """The words in the ledger."""
        return tuple(self._by_name)

    def named(self, name: str) -> _Kind | None:
        """The kind of that word in the ledger; None when no plugin has it."""
        return self._by_name.get(name)

    def order(self, resources: Iterable[_Any]) -> tuple[_Any, ...]:
        """The resources in the order of their turns, each after those that it needs, each key once.

        Raises ValueError when two different resources have one key, and TypeError for a class that has no kind.
        """
        found: dict[str, _Any] = {}
        listed: dict[str, _Any] = {}
        for resource in resources:
            there = listed.setdefault(resource.key, resource)
            if there != resource:
                msg = f"two resources have the key {resource.key!r}: {there} and {resource}"
                raise ValueError(msg)

        def place(resource: _Any) -> None:
            if resource.key not in found:
                for needed in resource.needs():
                    place(listed.get(needed.key, needed))  # by its key: the driver may list it with more in it
                found[resource.key] = resource

        for resource in sorted(listed.values(), key=lambda resource: self._of(resource).turn):
            place(resource)
        return tuple(found.values())

    def problems(self, resources: Iterable[_Any], site: Site) -> Iterator[Problem]:
        """Why this node cannot provide the resources."""
        for resource in self.order(resources):
            with self._blaming(kind := self._of(resource)):
                yield from kind.verify(resource, site)

    def steps(self, resources: Iterable[_Any], site: Site) -> Iterator[Step]:
        """The steps by which a start acquires the resources."""
        for resource in self.order(resources):
            with self._blaming(kind := self._of(resource)):
                yield from kind.describe(resource, site)

    def placeholders(self, resources: Iterable[_Any], site: Site) -> Handles:
        """The handles as a plan shows them."""
        found = {}
        for resource in self.order(resources):
            with self._blaming(kind := self._of(resource)):
                found[resource.key] = kind.placeholder(resource, site)
        return Handles(found)

    def acquire(self, resources: Iterable[_Any], held: Held) -> None:
        """Get those that are not held yet. All their ledger entries are written first, in one durable write."""
        owner = held.owner
        wanted = [resource for resource in self.order(resources) if resource not in held]
        entries = []
        for resource in wanted:
            with self._blaming(kind := self._of(resource)):
                data = kind.entry(resource, held.site)
            if data is not None:
                entries.append(Entry(kind=kind.name, key=resource.key, data=dict(data)))
        if entries:
            owner.update(ledger=(*owner.record.ledger, *entries))
        for resource in wanted:
            with self._blaming(kind := self._of(resource)), held.acquiring(resource.key):
                held[resource] = kind.acquire(resource, held)

    def prove(self, resources: Iterable[_Any], site: Site, owner: Owner) -> None:
        """Check after the launch that the resources are as wanted."""
        for resource in self.order(resources):
            with self._blaming(kind := self._of(resource)):
                kind.prove(resource, site, owner)

    def release(self, entries: Sequence[Entry], owner: Owner) -> tuple[list[Entry], LeftoverError | None]:
        """Release processes first, then the rest, the last acquired first. Returns what is left, and why.

        The error has the first fault of a plugin or of the record as its cause; another try would not help then.

        A process that does not exit may still write, so everything else stays reserved. After any other failure the
        rest is released all the same.
        """
        ordered = list(reversed(entries))
        ordered.sort(key=self._is_idle)  # stable
        errors: list[HvError | OSError] = []
        left: list[Entry] = []
        for index, entry in enumerate(ordered):
            try:
                kind = self._by_name.get(entry.kind)
                if kind is None:
                    what = f"{owner.name}: no plugin of its driver can release {entry.kind!r}"
                    raise DriverLoadError(f"{what}; install what started it, or upgrade the driver")
                with self._blaming(kind):
                    kind.release(entry, owner)
            except (HvError, OSError) as error:
                left.append(entry)
                errors.append(error)
                if not self._is_idle(entry):
                    left += ordered[index + 1 :]
                    break
        if not errors:
            return [], None
        failure = LeftoverError.of(owner.name, map(_in_words, errors))
        failure.__cause__ = next((error for error in errors if isinstance(error, (HookError, DriverLoadError))), None)
        return [entry for entry in entries if any(entry is one for one in left)], failure

    def _is_idle(self, entry: Entry) -> bool:
        kind = self._by_name.get(entry.kind)
        return kind is None or not kind.runs

    def _of(self, resource: _Any) -> _Kind:
        kind = self._by_class.get(type(resource))
        if kind is None:
            msg = f"resource {resource.key!r}: no plugin has a kind for {type(resource).__name__}; see hook resource_kinds"
            raise TypeError(msg)
        return kind

    @contextmanager
    def _blaming(self, kind: _Kind) -> Iterator[None]:
        """Report an exception that is not an error of the node as a fault of the kind's plugin."""
        try:
            yield
        except (HvError, OSError):
            raise
        except (Exception, SystemExit) as error:
            what = f"kind {kind.name!r} raised {type(error).__name__}: {error}"
            plugin = self._plugins[kind]
            raise HookError(plugin=plugin, hook="resource_kinds", what=what, place=raised_at(error)) from error


def _in_words(error: HvError | OSError) -> str:
    if isinstance(error, HvError) or not error.strerror:
        return str(error)
    return f"{error.filename or 'a file'}: cannot be changed, got {error.strerror}"


def raised_at(error: BaseException) -> str | None:
    """``FILE:LINE`` where the exception was raised, at any depth."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return None if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"


def _handle_type(cls: type, base: type, position: int) -> Any:
    """The type of handle that a class declares; Any when it declares none."""
    for each in cls.__mro__:
        for origin in getattr(each, "__orig_bases__", ()):
            if typing.get_origin(origin) is base:
                return typing.get_args(origin)[position]
    return Any
