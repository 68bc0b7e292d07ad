"""A driver's parameters compiled to one voluptuous schema, and the check of a mapping against it.

voluptuous validates: each leaf is a type's own ``parse``. The messages are ours: voluptuous knows the path but not the
value, suggests no nearest name, and prints secrets (humanize_error).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import voluptuous as vol

from hvcore.errors import DriverLoadError, ParamsError, Problem
from hvcore.params.param import Reject
from hvcore.params.values import INSTANCE, RECORD, UNSET, Params
from hvcore.params.words import kind_of, nearest, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from hvcore.params.param import Param, ParamGroup

__all__ = ["INSTANCE_FILE_KEYS", "Schema"]

INSTANCE_FILE_KEYS: Final = ("name", "driver", "memory_mib", "vcpus", "uuid", "profile", "disks", "nics")
"""The keys of an instance file outside of ``[params]``, for those who write them inside."""

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_GUESSES = 20  # a file with more unknown names than this is not a matter of typing errors


class _Refused(vol.Invalid):
    """The refusal of a type, with the path of its value.

    Types do not import voluptuous, because a list needs them, and the import takes 7 ms.
    """

    def __init__(self, reject: Reject, path: list[Any]) -> None:
        super().__init__(reject.what, path)
        self.what, self.todo = reject.what, reject.todo


class _Table:
    """All parameters as one node of a voluptuous schema.

    voluptuous's own mapping takes 9.4 us for ten values of thirty, most of it to find the marker of each key. Our keys are
    plain names, so a look-up is enough: 4 us.
    """

    def __init__(self, parsers: Mapping[str, Callable[[object], Any]]) -> None:
        self._parsers = parsers

    def __voluptuous_compile__(self, schema: vol.Schema) -> Callable[[list[Any], Mapping[str, object]], dict[str, Any]]:
        parsers = self._parsers

        def validate(path: list[Any], data: Mapping[str, object]) -> dict[str, Any]:
            clean: dict[str, Any] = {}
            errors: list[vol.Invalid] = []
            for key, value in data.items():
                try:
                    clean[key] = parsers[key](value)
                except Reject as reject:
                    errors.append(_Refused(reject, [*path, key]))
                except (KeyError, TypeError, ValueError, vol.Invalid):
                    errors.append(vol.Invalid("is not valid", [*path, key]))
            if errors:
                raise vol.MultipleInvalid(errors)
            return clean

        return validate


class Schema:
    """The parameters of one driver and its extensions. Built once by `compile`; immutable and shareable.

    ``groups`` and ``params`` (by key) are in the order in which they are to be shown.
    """

    __slots__ = ("_defaults", "_instance", "_owners", "_required", "_secrets", "_validate", "groups", "params")

    def __init__(self, owned: Sequence[tuple[str, ParamGroup]]) -> None:
        """Use `compile`."""
        self.groups: tuple[ParamGroup, ...] = tuple(group for _, group in owned)
        params: dict[str, Param] = {}
        self._owners: dict[str, str] = {}
        for owner, group in owned:
            for param in group:
                if param.key == UNSET:
                    what = f"parameter {UNSET!r}: declared by {owner}; it is the list of parameters to unset, rename it"
                    raise DriverLoadError(what)
                if param.key in params:
                    raise _clash(param.key, self._owners[param.key], owner)
                params[param.key] = param
                self._owners[param.key] = owner
        self.params: Mapping[str, Param] = MappingProxyType(params)
        self._defaults = {key: param.default for key, param in self.params.items()}
        self._secrets = frozenset(key for key, param in self.params.items() if param.secret)
        self._instance = dict.fromkeys(self.params, INSTANCE)
        self._required = frozenset(key for key, param in self.params.items() if param.required)
        self._validate = vol.Schema(_Table({key: param.type.parse for key, param in self.params.items()}))

    @classmethod
    def compile(cls, groups: Iterable[tuple[str, ParamGroup]]) -> Schema:
        """One schema from ``(owner, group)`` pairs, in the order in which they are to be shown.

        The owner is the plugin or distribution, for messages. DriverLoadError names both when two declare one key.
        """
        return cls(tuple(groups))

    @property
    def path_keys(self) -> frozenset[str]:
        """The parameters whose value is the path of a file or directory of the node."""
        return frozenset(key for key, param in self.params.items() if param.type.node_check is not None)

    def owner(self, key: str) -> str:
        """The plugin or distribution that declares the parameter; KeyError when none does."""
        return self._owners[key]

    def check(self, values: object, subject: str, *, below: Sequence[tuple[str, object]] = ()) -> Params:
        """All parameters, clean, with defaults; or one ParamsError about ``subject`` with every problem.

        Arguments otherwise as in `problems`.
        """
        params, problems = self.problems(values, below=below)
        if params is None:
            raise ParamsError(subject, problems)
        return params

    def problems(
        self, values: object, *, below: Sequence[tuple[str, object]] = ()
    ) -> tuple[Params | None, tuple[Problem, ...]]:
        """The clean parameters and no problems, or None and every problem, in the order of the input.

        ``values`` are the instance's. ``below`` are further layers, ``(name, mapping)``, lowest first: a value in a later
        layer wins, and the instance's wins over all. None unsets the value of a lower layer, if the parameter can be
        unset. Files have no None: there, ``unset = ["KEY"]`` in a layer restores the driver's default.
        """
        if isinstance(values, dict) and not below:
            try:
                clean = self._validate(values)
            except vol.MultipleInvalid:
                pass  # reported below, in detail
            else:
                if not self._required or self._required <= clean.keys():
                    return Params(self._defaults | clean, clean, self._instance, self._secrets), ()
        return self._all_layers((*below, (INSTANCE, values)))

    def restored(self, values: Mapping[str, Any], given: Collection[str]) -> tuple[Params | None, tuple[Problem, ...]]:
        """The parameters that a record keeps as plain JSON, or every problem: another release of the driver wrote it.

        A parameter that the record lacks gets its default; keys of removed parameters are left out. ``given`` are the
        keys that the instance itself set.
        """
        there = {key: value for key, value in values.items() if key in self.params}
        given_values = {key: value for key, value in there.items() if value is not None}
        clean, problems = self._one_layer(given_values, "params", set())
        lacking = self._required - self._secrets - there.keys()
        problems += [Problem(path=f"params.{key}", what="is required and not in the record") for key in sorted(lacking)]
        if problems:
            return None, tuple(problems)
        clean |= dict.fromkeys(there.keys() - clean.keys())
        changed = (key for key in clean if key in given or clean[key] != self._defaults[key])
        set_by = {key: INSTANCE if key in given else RECORD for key in changed}
        return Params(self._defaults | clean, set_by, set_by, self._secrets), ()

    def _all_layers(self, layers: Iterable[tuple[str, object]]) -> tuple[Params | None, tuple[Problem, ...]]:
        merged: dict[str, Any] = {}
        origin: dict[str, str] = {}
        problems: list[Problem] = []
        named: set[str] = set()
        for layer, values in layers:
            prefix = "params" if layer == INSTANCE else f"{layer}.params"
            unset, wrong = self._unset_by(values, prefix)
            for key in unset:
                merged.pop(key, None)
                origin.pop(key, None)
                named.discard(key)
            clean, found = self._one_layer(values, prefix, named)
            problems += [*wrong, *found]
            merged |= clean
            origin |= dict.fromkeys(clean, layer)
        problems += [
            Problem(path=f"params.{key}", what="is required and not set", todo=f"give {self.params[key].expects}")
            for key in self.params
            if key in self._required and key not in named
        ]
        if problems:
            return None, tuple(problems)
        return Params(self._defaults | merged, origin, origin, self._secrets), ()

    def _one_layer(self, values: object, prefix: str, named: set[str]) -> tuple[dict[str, Any], list[Problem]]:
        """The clean values of one layer, and its problems in the order of its keys; adds known keys to ``named``."""
        if not isinstance(values, Mapping):
            # The value is not shown: a list or text in this place may have a secret in it.
            return {}, [Problem(path=prefix, what=f"is {kind_of(values)}, not a table", todo="give names with values")]
        clean: dict[str, Any] = {}
        to_check: dict[str, Any] = {}
        order: list[object] = []
        problems: dict[object, Problem] = {}
        for name, value in values.items():
            if name == UNSET:
                continue
            param = self.params.get(name) if isinstance(name, str) else None
            order.append(param.key if param else name)
            if param is None:
                problems[name] = self._unknown(prefix, name, guess=len(problems) < _GUESSES)
            elif value is None and param.optional:
                clean[param.key] = None
            else:
                to_check[param.key] = value
        named |= clean.keys() | to_check.keys()
        try:
            clean |= self._validate(to_check)
        except vol.MultipleInvalid as invalid:
            for error in invalid.errors:
                key = str(error.path[0])
                problems[key] = _refused(prefix, self.params[key], to_check[key], error)
        return clean, [problems[key] for key in order if key in problems]

    def _unset_by(self, values: object, prefix: str) -> tuple[list[str], list[Problem]]:
        """The keys that one layer unsets, and the problems of its list."""
        names = values.get(UNSET, ()) if isinstance(values, Mapping) else ()
        place = f"{prefix}.{UNSET}"
        if not isinstance(names, list | tuple):
            return [], [Problem(path=place, what=f"is {kind_of(names)}, not a list", todo="give a list of parameters")]
        problems: list[Problem] = []
        for name in names:
            if not isinstance(name, str) or name not in self.params:
                problems.append(self._unknown(place, name, guess=len(problems) < _GUESSES))
            elif isinstance(values, Mapping) and name in values:
                problems.append(Problem(path=f"{place}.{name}", what="is also set here", todo="do only one of the two"))
        return [name for name in names if isinstance(name, str)], problems

    def _unknown(self, prefix: str, name: object, *, guess: bool) -> Problem:
        # The value is not shown: the name may be a misspelt one of a secret.
        if not isinstance(name, str):
            todo = "give the name as a text"
            return Problem(path=f"{prefix}[{shortened(name)}]", what=f"is {kind_of(name)}, not a name", todo=todo)
        plain = name.lower().replace("-", "_")
        if plain in INSTANCE_FILE_KEYS:
            where = "above [params]" if prefix.startswith("params") else "in the instance file, above [params]"
            todo = f"{plain} belongs {where}"
            return Problem(path=f"{prefix}.{name}", what="is not a parameter of this driver", todo=todo)
        near = nearest(plain, self.params) if guess else None
        todo = f"did you mean {near}?" if near else "see 'hv params DRIVER' for a list"
        path = f"{prefix}.{name}" if _PLAIN_KEY.fullmatch(name) else f"{prefix}[{shortened(name)}]"
        return Problem(path=path, what="is not a parameter of this driver", todo=todo)


def _refused(prefix: str, param: Param, value: object, error: vol.Invalid) -> Problem:
    path = f"{prefix}.{param.key}"
    todo = f"give {param.expects}"
    if param.secret:
        # Without the type's own message, which may have a part of the value.
        return Problem(path=path, what="is not valid (the value is secret and not shown)", todo=todo)
    if not isinstance(error, _Refused):
        return Problem(path=path, what="is not valid", got=shortened(value), todo=todo)
    return Problem(path=path, what=error.what, got=shortened(value), todo=error.todo or todo)


def _clash(key: str, first: str, second: str) -> DriverLoadError:
    who = f"twice by {first}" if first == second else f"by both {first} and {second}"
    return DriverLoadError(f"parameter {key!r}: declared {who}; a name belongs to one plugin, rename one")
