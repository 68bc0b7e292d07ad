"""The parameters that a started instance has, from its record, for the hooks of a stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import HvError
from hvcore.model.record import Record
from hvcore.params.values import RECORD, Params

if TYPE_CHECKING:
    from hvcore.plugins.loaded_driver import LoadedDriver  # imports pluggy and metadata

__all__ = ["saved_params"]


def saved_params(loaded: LoadedDriver, record: Record) -> Params:
    """The parameters of the instance's start, with the values of node and profile then. Secrets are None. Never raises.

    Of a record that this release of the driver refuses, the values are as they were written.
    """
    schema, given = loaded.schema, record.instance.params
    found: Params | None = None
    try:
        found = schema.problems(given)[0] if record.params is None else schema.restored(record.params, given)[0]
    except HvError:  # a type of a plugin; a stop goes on
        found = None
    if found is not None:
        return found
    values = dict(given if record.params is None else record.params)
    return Params({**dict.fromkeys(schema.params), **values}, values, dict.fromkeys(values, RECORD), frozenset())
