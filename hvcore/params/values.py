"""The result of a check: `Params`, every parameter of a driver with its clean value and the layer that set it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from collections.abc import Set as AbstractSet

from hvcore.plain import plain

__all__ = ["DEFAULT", "INSTANCE", "RECORD", "REDACTED", "UNSET", "Params"]

DEFAULT = "default"
"""The layer of the values that the driver itself declares."""

INSTANCE = "instance"
"""The layer of the values that the instance itself sets: the highest."""

RECORD = "record"
"""The layer of values in the record of a started instance that the instance itself did not set."""

UNSET = "unset"
"""The key of a table of values that lists the parameters to set back to the driver's default."""

REDACTED = "<secret>"
"""Shown instead of a secret value."""


class Params(Mapping[str, Any]):
    """Every parameter of a driver with its clean value, unset ones with None. Read-only.

    Made by `Schema.check`; secrets are in the values and not in the ``repr``.
    """

    __slots__ = ("_given", "_layers", "_secrets", "_values")

    def __init__(
        self, values: dict[str, Any], given: Collection[str], layers: Mapping[str, str], secrets: AbstractSet[str]
    ) -> None:
        """``values`` are the clean values of all keys; ``layers`` has at least the layer of each ``given`` key."""
        self._values, self._given, self._layers, self._secrets = values, given, layers, secrets

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __repr__(self) -> str:
        shown = self.redacted()
        return f"Params({', '.join(f'{key}={shown[key]!r}' for key in self._values if key in self._given)})"

    @property
    def given(self) -> frozenset[str]:
        """The keys that some layer set, including those set to their default."""
        return frozenset(self._given)

    def any_given(self, keys: AbstractSet[str]) -> bool:
        """Whether some layer set one of these keys."""
        return not keys.isdisjoint(self._given)

    def layer(self, key: str) -> str:
        """The layer that the value comes from: ``default``, ``instance``, or what the caller named; or KeyError."""
        if key not in self._values:
            raise KeyError(key)
        return self._layers[key] if key in self._given else DEFAULT

    def kept(self) -> dict[str, Any]:
        """All values but those of secret parameters: these may be saved."""
        return {key: value for key, value in self._values.items() if key not in self._secrets}

    def withheld(self) -> tuple[str, ...]:
        """The keys of secrets that some layer set, sorted: `kept` lacks them and a later start needs them."""
        return tuple(sorted(key for key in self._secrets if key in self._given and self._values[key] is not None))

    def taking(self, other: Params, keys: Collection[str]) -> Params:
        """These, with the values that ``other`` has for the keys, and the layers they come from."""
        taken = set(keys).intersection(other)
        values = {key: other[key] if key in taken else value for key, value in self._values.items()}
        given = {key for key in values if key in (other if key in taken else self).given}
        layers = {key: (other if key in taken else self).layer(key) for key in given}
        return Params(values, given, layers, self._secrets)

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values of secrets that are set, as text, to be hidden in output."""
        found = (self._values[key] for key in self._secrets)
        return tuple(str(value) for value in found if value not in (None, "", True, False))

    def to_json(self) -> dict[str, Any]:
        """All values as plain JSON types, lists included, with ``<secret>`` in place of each secret that is set."""
        found: dict[str, Any] = plain(self.redacted())
        return found

    def redacted(self) -> dict[str, Any]:
        """All values as plain JSON types, with ``<secret>`` in place of each secret that is set."""
        return {
            key: REDACTED if key in self._secrets and value is not None else value
            for key, value in self._values.items()
        }
