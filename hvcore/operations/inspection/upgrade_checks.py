"""What a new version of a driver's program would change for the instances of this node. Starts and changes none of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from hvcore.errors import HvError, InputError, NotFoundError, ParamsError
from hvcore.host.environment import Live
from hvcore.model.definitions.definition import Definition
from hvcore.model.record import Record
from hvcore.model.state import ACTIVE, Op
from hvcore.model.upgrade import Upgrade, UpgradeCheck, UpgradeVerdict
from hvcore.operations.context import Context
from hvcore.operations.inspection.observe import observed_all

if TYPE_CHECKING:
    from hvcore.plugins.loaded_driver import LoadedDriver  # imports pluggy and metadata

__all__ = ["upgrade_checks"]


class _Candidate(NamedTuple):
    """An instance to check: as it runs, None if it is only defined, and its spec, which may raise `HvError`."""

    live: Live | None
    spec: Callable[[], Any]


def upgrade_checks(
    context: Context, driver: str, program: str, definitions: Collection[Definition], names: Collection[str]
) -> Iterator[UpgradeCheck]:
    """One answer for each instance of that driver that runs, and for each that is only defined, sorted by name.

    Raises `NotFoundError` for a name that is neither, `UnsupportedError`, and `InputError` for a program of another kind.
    """
    loaded = context.driver(driver)
    ask = loaded.able(Op.UPGRADE_CHECK)
    candidates = _defined(context, loaded, definitions) | _running(context, loaded)
    for name in names:
        if name not in candidates:
            raise NotFoundError(name, hint=f"no instance of driver {driver} runs or is defined under that name")
    chosen = sorted(names or candidates)

    def ask_about(spec: Any, live: Live | None) -> Upgrade:
        found: Upgrade = ask(spec, context.host, program, live=live)
        return found

    # Each check waits for throw-away programs, so as many run at once as the node has processors.
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        results = [pool.submit(_checked, name, candidates[name], ask_about) for name in chosen]
        try:
            for name, result in zip(chosen, results, strict=True):
                context.progress(f"checking {name}")
                yield result.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _checked(name: str, candidate: _Candidate, ask: Callable[[Any, Live | None], Upgrade]) -> UpgradeCheck:
    """The answer for one. Raises `InputError` about the program, which is the same for all."""
    running = candidate.live is not None
    try:
        return UpgradeCheck.of(name, ask(candidate.spec(), candidate.live), running=running)
    except HvError as error:
        if isinstance(error, InputError) and not isinstance(error, ParamsError):
            raise
        return UpgradeCheck(name=name, running=running, verdict=UpgradeVerdict.UNKNOWN, reasons=(str(error),))


def _running(context: Context, loaded: LoadedDriver) -> dict[str, _Candidate]:
    names = context.store.names()
    found = {}
    for name, seen in zip(names, observed_all(context, names), strict=True):
        if seen.record is not None and seen.record.driver == loaded.name and seen.state in ACTIVE:
            found[name] = _Candidate(context.live(seen.record), partial(_saved, loaded, seen.record))
    return found


def _saved(loaded: LoadedDriver, record: Record) -> Any:
    return loaded.read_spec(record.spec)


def _defined(context: Context, loaded: LoadedDriver, definitions: Collection[Definition]) -> dict[str, _Candidate]:
    return {
        one.name: _Candidate(None, partial(_planned, context, loaded, one))
        for one in definitions
        if one.driver == loaded.name
    }


def _planned(context: Context, loaded: LoadedDriver, definition: Definition) -> Any:
    instance = definition.instance
    if instance is None or definition.problem is not None:
        raise HvError(definition.problem or f"{definition.file}: cannot be read")
    return loaded.plan(instance, loaded.check(instance, context.layers(instance)))
