"""What a new version of a driver's program would change for the instances of this node. Starts and changes none of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from hvcore.errors import HvError, InputError, NotFoundError, ParamsError
from hvcore.model.definitions.definition import Definition
from hvcore.model.record import Record
from hvcore.model.state import ACTIVE, Op
from hvcore.model.upgrade import UpgradeCheck, UpgradeVerdict
from hvcore.operations.context import Context
from hvcore.operations.inspection.observe import observed_all

if TYPE_CHECKING:
    from hvcore.plugins.loaded_driver import LoadedDriver  # imports pluggy and metadata

__all__ = ["upgrade_checks"]

_Specs = dict[str, tuple[bool, Callable[[], Any]]]
"""By name: whether it runs, and its spec, which may raise `HvError`."""


def upgrade_checks(
    context: Context, driver: str, program: str, definitions: Collection[Definition], names: Collection[str]
) -> Iterator[UpgradeCheck]:
    """One answer for each instance of that driver that runs, and for each that is only defined, sorted by name.

    Raises `NotFoundError` for a name that is neither, `UnsupportedError`, and `InputError` for a program of another kind.
    """
    loaded = context.driver(driver)
    ask = loaded.able(Op.UPGRADE_CHECK)
    specs = _defined(context, loaded, definitions) | _running(context, loaded)
    for name in names:
        if name not in specs:
            raise NotFoundError(name, hint=f"no instance of driver {driver} runs or is defined under that name")
    for name in sorted(names or specs):
        running, spec = specs[name]
        context.progress(f"checking {name}")
        try:
            yield UpgradeCheck.of(name, ask(spec(), context.host, program), running=running)
        except InputError as error:
            if not isinstance(error, ParamsError):
                raise  # about the program, so it is the same for all
            yield UpgradeCheck(name=name, running=running, verdict=UpgradeVerdict.UNKNOWN, reasons=(str(error),))
        except HvError as error:
            yield UpgradeCheck(name=name, running=running, verdict=UpgradeVerdict.UNKNOWN, reasons=(str(error),))


def _running(context: Context, loaded: LoadedDriver) -> _Specs:
    names = context.store.names()
    found: _Specs = {}
    for name, seen in zip(names, observed_all(context, names), strict=True):
        if seen.record is not None and seen.record.driver == loaded.name and seen.state in ACTIVE:
            found[name] = True, partial(_saved, loaded, seen.record)
    return found


def _saved(loaded: LoadedDriver, record: Record) -> Any:
    return loaded.read_spec(record.spec)


def _defined(context: Context, loaded: LoadedDriver, definitions: Collection[Definition]) -> _Specs:
    return {
        one.name: (False, partial(_planned, context, loaded, one)) for one in definitions if one.driver == loaded.name
    }


def _planned(context: Context, loaded: LoadedDriver, definition: Definition) -> Any:
    instance = definition.instance
    if instance is None or definition.problem is not None:
        raise HvError(definition.problem or f"{definition.file}: cannot be read")
    return loaded.plan(instance, loaded.check(instance, context.layers(instance)))
