"""Importing the target of an entry point. Errors say how to fix it, for the plugin's author or the operator."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from stevedore.driver import DriverManager

from hvcore.errors import DriverLoadError, HvError
from hvcore.host.processes import process
from hvcore.plugins import requirements
from hvcore.plugins.catalogue import DRIVERS_GROUP, EXTENSIONS_GROUP, CatalogueEntry
from hvcore.plugins.faults import near

__all__ = [
    "StillLoadingError",
    "attempt",
    "imported",
    "owner_of",
    "refused",
    "waited_s",
    "where_it_is",
    "where_raised",
    "within",
]

T = TypeVar("T")

_OURS: Final = f"{Path(__file__).resolve().parents[1]}{os.sep}"
_BUSY_LIMITS: Final = 3.0  # times the limit: how much longer a plugin may take on a busy node
_GROUPS: Final = {"driver": DRIVERS_GROUP, "extension": EXTENSIONS_GROUP}


def owner_of(entry: CatalogueEntry) -> str:
    """Plugin, distribution and version: ``kvm.owner (hv-inventory 0.1.0)``."""
    return f"{entry.name} ({entry.distribution} {entry.version})"


def refused(subject: str, faults: list[str]) -> DriverLoadError:
    """One error with every fault: on one line if there is only one, otherwise a line each."""
    if len(faults) == 1:
        return DriverLoadError(f"{subject}: {faults[0]}")
    return DriverLoadError("\n".join([f"{subject}: {len(faults)} problems", *(f"  {fault}" for fault in faults)]))


def imported(group: str, entry: CatalogueEntry) -> Any:
    """The target of the entry point. Passes on the errors of the import."""
    return _OneEntry(group, entry).driver


class _OneEntry(DriverManager[Any]):
    # stevedore loads the entry that the catalogue has checked. Its own scan of the entry points has no versions, drops
    # duplicates, and can be two minutes old (docs/decisions/0001).
    def __init__(self, group: str, entry: CatalogueEntry) -> None:
        self._entry = metadata.EntryPoint(name=entry.name, value=entry.target, group=group)
        super().__init__(group, entry.name)

    def list_entry_points(self) -> list[metadata.EntryPoint]:
        return [self._entry]


def attempt(kind: str, entry: CatalogueEntry, step: Callable[[], Any]) -> Any:
    """The result of ``step``. Any error becomes a `DriverLoadError` with the plugin at fault and the line."""
    try:
        return step()
    except (Exception, SystemExit) as error:
        head = f"{kind} {owner_of(entry)}"
        if isinstance(error, HvError):  # for example, its parameters contradict each other
            place = where_raised(error)
            text = f"{head}: {error}" if place is None or place in str(error) else f"{head}: {error} ({place})"
            raise DriverLoadError(text) from error
        raise DriverLoadError(f"{head}: {_import_words(kind, entry, error)}") from error


class StillLoadingError(TimeoutError):
    """A plugin did not finish loading in time; it goes on in ``thread``."""

    def __init__(self, thread: threading.Thread) -> None:
        self.thread = thread
        super().__init__("still loading")


def waited_s(thread: threading.Thread) -> float:
    """How long a thread of this process has waited for a processor, because the node is busy."""
    return process.waited_s(f"self/task/{thread.native_id}")


def _join(thread: threading.Thread, limit_s: float, waited: Callable[[threading.Thread], float]) -> None:
    """Wait for the thread for ``limit_s`` seconds, and for the time in which it waited for a processor."""
    began = time.monotonic()
    while thread.is_alive():
        left = began + limit_s + min(waited(thread), limit_s * _BUSY_LIMITS) - time.monotonic()
        if left <= 0:
            return
        thread.join(left)


def within(
    limit_s: float,
    kind: str,
    entry: CatalogueEntry,
    step: Callable[[], T],
    *,
    waited: Callable[[threading.Thread], float] = waited_s,
) -> T:
    """The result of ``step``, or its error. If it takes longer, a `DriverLoadError` whose cause is `StillLoadingError`.

    ``step`` loads a plugin of that kind and entry. It goes on in the background: Python cannot abort an import. Time in
    which it waited for a processor does not count, up to three times the limit: a busy node is no fault of a plugin.
    """
    ended: list[Callable[[], T]] = []

    def run() -> None:
        try:
            result = step()
        except BaseException as error:  # noqa: BLE001 - raised again in the waiting thread
            ended.append(partial(_raise, error))
        else:
            ended.append(lambda: result)

    thread = threading.Thread(target=run, name="load", daemon=True)
    thread.start()
    _join(thread, limit_s, waited)
    if not ended:
        where = where_it_is(thread)
        what = f"did not finish loading within {limit_s:g} s{where}; report this to its authors"
        raise DriverLoadError(f"{kind} {owner_of(entry)}: {what}") from StillLoadingError(thread)
    return ended[0]()


def _raise(error: BaseException) -> NoReturn:
    raise error


def where_it_is(thread: threading.Thread) -> str:
    """`` (at FILE:LINE)``, where the thread is: its innermost frame in a plugin, not in Python's library."""
    frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001 - documented, and the only way to see it
    stack = [] if frame is None else traceback.extract_stack(frame)
    library = f"{os.path.dirname(os.__file__)}{os.sep}"
    for step in reversed(stack):
        of_python = step.filename.startswith(library) and "site-packages" not in step.filename
        if not of_python and not step.filename.startswith((_OURS, "<")):
            return f" (at {step.filename}:{step.lineno})"
    return ""


def _import_words(kind: str, entry: CatalogueEntry, error: BaseException) -> str:
    if not metadata.EntryPoint.pattern.match(entry.target):
        return f"cannot be imported, its entry point in {_GROUPS[kind]} is not MODULE:NAME, got {entry.target!r}; correct that"
    module, _, attribute = entry.target.partition(":")
    place = where_raised(error) or "no such module"
    what = f"cannot be imported, got {type(error).__name__}: {error} ({place})"
    if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
        return f"{what}; its entry point in {_GROUPS[kind]} names {entry.target}: correct that, or reinstall it"
    missing = requirements.missing(entry.distribution)
    if isinstance(error, ImportError) and missing:
        return f"{what}; pip install {' '.join(repr(line) for line in missing)}, which it requires"
    if isinstance(error, ModuleNotFoundError):
        return f"{what}; install that, and report to its authors that {entry.distribution} does not require it"
    if isinstance(error, AttributeError) and where_raised(error) is None and module in sys.modules:
        names = [name for name in vars(sys.modules[module]) if not name.startswith("_")]
        todo = near(attribute, names) or f"its names are {', '.join(names)}"
        return f"cannot be imported, {entry.target} does not exist; {todo}; correct its entry point in {_GROUPS[kind]}"
    return f"{what}; reinstall or report to its authors"


def where_raised(error: BaseException) -> str | None:
    """``FILE:LINE`` of the last frame outside hvcore and the importers; None if there is no such frame."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        own = frame.filename.startswith(_OURS) or frame.filename == inspect.getsourcefile(importlib)
        if not own and frame.filename[0] != "<" and frame.filename not in _importers():
            return f"{frame.filename}:{frame.lineno}"
    return None


def _importers() -> set[str]:
    # stevedore and importlib.metadata load entry points. A line of theirs does not help the reader.
    found = {str(inspect.getsourcefile(metadata))}
    found |= {str(module.__file__) for name, module in list(sys.modules.items()) if name.startswith("stevedore.")}
    return found
