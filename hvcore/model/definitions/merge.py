"""Three-way merge of plain JSON values: a saved value with the difference between two others. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["merged"]

_Key = tuple[str, int]


def merged(saved: Any, before: Any, after: Any) -> Any:
    """``saved`` with every difference between ``before`` and ``after``.

    Objects are merged key by key. Objects in a list that have a ``kind``, as `hvcore.plugin.encode` makes them from
    dataclasses, are matched by it, several of one kind in their order; other lists of one length are merged item by item.
    Any other value that differs is taken from ``after`` as a whole.
    """
    if _same(before, after):
        return saved
    if all(isinstance(value, dict) for value in (saved, before, after)):
        if saved.get("kind") == before.get("kind") == after.get("kind"):
            return _merged_items(saved, before, after)
        return after
    if all(isinstance(value, list) for value in (saved, before, after)):
        return _merged_lists(saved, before, after)
    return after


def _same(one: Any, other: Any) -> bool:
    """Equal, and of the same types: 1 is not True here."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _merged_lists(saved: list[Any], before: list[Any], after: list[Any]) -> list[Any]:
    if all(isinstance(item, dict) and "kind" in item for item in (*saved, *before, *after)):
        matched = [_by_kind(items) for items in (saved, before, after)]
        result = _merged_items(*matched)
        return [result[key] for key in _order(*matched) if key in result]
    if len(saved) == len(before) == len(after):
        return [merged(*items) for items in zip(saved, before, after, strict=True)]
    return after


def _merged_items(saved: Mapping[Any, Any], before: Mapping[Any, Any], after: Mapping[Any, Any]) -> dict[Any, Any]:
    result = dict(saved)
    for key in before.keys() - after.keys():
        result.pop(key, None)
    for key, value in after.items():
        if key not in before or (key not in saved and not _same(before[key], value)):
            result[key] = value
        elif key in saved:
            result[key] = merged(saved[key], before[key], value)
    return result


def _by_kind(items: Sequence[Mapping[str, Any]]) -> dict[_Key, Mapping[str, Any]]:
    counts: dict[str, int] = {}
    found = {}
    for item in items:
        kind = str(item["kind"])
        counts[kind] = counts.get(kind, 0) + 1
        found[kind, counts[kind]] = item
    return found


def _order(saved: Mapping[_Key, Any], before: Mapping[_Key, Any], after: Mapping[_Key, Any]) -> list[_Key]:
    """The keys of ``saved`` in their order, a new one after the key that it follows in ``after``."""
    if list(saved) == list(before):
        return list(after)
    order = list(saved)
    place = 0
    for key in after:
        if key in order:
            place = order.index(key) + 1
        else:
            order.insert(place, key)
            place += 1
    return order
