"""Load: the installed distribution, before any instance is started."""

from __future__ import annotations

import functools
import gc
import sys
from importlib import metadata
from typing import Any

from hvcore.errors import DriverLoadError
from hvcore.plugins.catalogue import CatalogueEntry, Verdict, catalogue
from hvcore.plugins.loader import load
from hvcore.plugins.requirements import canonical_name, required, version_of
from hvcore.testing.check import Bench, Failed, Level, Skipped, Tier, check, require
from hvcore.testing.isolate import forked, interpreted
from hvcore.testing.site import held_by_us

__all__: tuple[str, ...] = ()

_BUDGET_S = 0.05
_HEAVY = (
    *("asyncio", "concurrent.futures.process", "http.server", "multiprocessing", "setuptools", "pkg_resources"),
    *("tkinter", "unittest", "xml.dom", "numpy", "requests", "pytest", "hypothesis", "click", "rich"),
    *("hvcore.cli", "hvcore.testing"),
)


def _entry(bench: Bench) -> CatalogueEntry:
    found = [entry for entry in catalogue() if entry.name == bench.subject.driver]
    require(found, f"no installed distribution has an entry point {bench.subject.driver!r} in hvcore.drivers")
    return found[0]


def _module(bench: Bench) -> str:
    return _entry(bench).target.partition(":")[0]


@functools.lru_cache(maxsize=8)  # three checks need the same
def _imported_along(module: str, _path: tuple[str, ...]) -> Any:
    return interpreted("importing", module)


def _imported(bench: Bench) -> Any:
    return _imported_along(_module(bench), tuple(sys.path))


@check(Level.MUST, Tier.STATIC)
def load_manifest_valid(bench: Bench) -> None:
    """The metadata is complete, the driver loads, and its class has the name of the entry point.

    Why: A driver is found by its metadata. Without this check, a wrong name, a missing version or a missing range of
    hvcore shows up only when a user's start fails, in an error that names no plugin.
    """
    entry = _entry(bench)
    require(entry.verdict is Verdict.OK, f"the catalogue says {entry.verdict}: {entry.reason}")
    require(version_of(entry.version) is not None, f"its distribution has no version of PEP 440, got {entry.version!r}")
    require(entry.requires, f"distribution {entry.distribution} does not say which hvcore it needs; add a dependency")
    try:
        load(entry.name)
    except DriverLoadError as error:
        raise Failed(f"cannot be loaded: {error}") from error


@check(Level.MUST, Tier.STATIC)
def load_no_import_for_listing(bench: Bench) -> None:
    """Listing the installed drivers imports no module of this one.

    Why: Listing drivers must work if one of them is broken, and cost nothing if one is slow: simonw/llm#732 went from
    1.3 s to 10.7 s for --help because plugins were imported to be listed.
    """
    said = interpreted("listing", _module(bench))
    require(not said["imported"], f"{_module(bench)} is imported when drivers are listed")


@check(Level.MUST, Tier.STATIC)
def load_import_budget(bench: Bench) -> None:
    """Importing the driver takes at most 50 ms of CPU, or as much as hvcore itself on this machine, the best of three tries.

    Why: Every command that uses the driver pays for its import. People do not notice 50 ms of CPU on top of the core's.
    """
    wanted_s = bench.subject.budgets.get("load_import_budget", _BUDGET_S)
    took_s = budget_s = 0.0
    for number in range(3):
        seen = interpreted("importing", _module(bench)) if number else _imported(bench)
        took_s, budget_s = seen["cpu_s"], max(wanted_s, seen["core_s"])
        if took_s <= budget_s:
            return
    raise Failed(f"its import takes {took_s * 1000:.0f} ms of cpu, budget {budget_s * 1000:.0f} ms")


@check(Level.MUST, Tier.STATIC)
def load_import_is_quiet(bench: Bench) -> None:
    """Importing the driver starts no program, uses no network and writes no file.

    Why: Every machine that checks a file imports the driver, with the rights of the caller. An import that writes
    files, starts programs or opens connections surprises users and fails in a sandbox.
    """
    seen = _imported(bench)["effects"]
    require(not seen, f"its import has effects on the node: {'; '.join(seen[:3])}")


@check(Level.MUST, Tier.STATIC)
def load_no_forbidden_top_level_imports(bench: Bench) -> None:
    """Importing the driver imports none of the heavy or test-only packages.

    Why: Heavy packages at the top of a module are the usual reason for a slow command line. Import them in the function
    that needs them.
    """
    modules = _imported(bench)["modules"]
    found = [name for name in _HEAVY if name in modules]
    require(not found, f"its import also imports {', '.join(found)}")


@check(Level.MUST, Tier.STATIC)
def load_missing_dependency_reports(bench: Bench) -> None:
    """Without a package that the driver needs, loading fails and names the package. All drivers are still listed.

    Why: A missing package has to be named when the driver is loaded, and not show up later as a None without an
    attribute. datachain-ai/datachain#1904: the traceback named neither entry point nor distribution.
    """
    entry = _entry(bench)
    listed = {other.name for other in catalogue()}
    for name in _packages(bench, entry):
        said = interpreted("hidden", entry.name, name)
        require(set(said["listed"]) == listed, f"without {name} not all drivers are listed")
        require(said["error"] is not None, f"loads without {name}, as if nothing were missing")
        named = said["error"] == "DriverLoadError" and name.rpartition(".")[2] in said["message"]
        require(named, f"without {name} the error does not name it: {said['error']}: {said['message']}")


def _packages(bench: Bench, entry: CatalogueEntry) -> list[str]:
    """Packages that the driver's import needs besides hvcore: dependencies of its distribution, or its own modules."""
    modules = [name for name in _imported(bench)["modules"] if not name.startswith("hvcore")]
    own = _module(bench)
    tops = sorted({name.partition(".")[0] for name in modules} - set(sys.stdlib_module_names) - {own.partition(".")[0]})
    installed = metadata.packages_distributions()
    needed = required(entry.distribution)
    found = [top for top in tops if {canonical_name(name) for name in installed.get(top, ())} & needed]
    siblings = [name for name in modules if name.startswith(f"{own.partition('.')[0]}.") and name != own]
    packages = {name for name in siblings if any(other.startswith(f"{name}.") for other in siblings)}
    found += sorted(set(siblings) - packages)[:1]
    if not found:
        raise Skipped("it is one module and needs nothing but hvcore")
    return found[:3]


def _refused(bench: Bench, version: str, verdict: str) -> None:
    said: dict[str, Any] = interpreted("fits", bench.subject.driver, version)
    words = f"with hvcore {version} it should be {verdict}"
    require(said["verdict"] == verdict, f"{words}, the catalogue says {said['verdict']}; bound the range of hvcore")
    require(said["error"] == "DriverLoadError", f"{words}, but it is loaded")
    require("upgrade" in said["message"], f"the refusal does not say what to do: {said['message']}")
    require(not said["imported"], "is imported although its version does not fit")


@check(Level.MUST, Tier.STATIC)
def load_api_too_old(bench: Bench) -> None:
    """A much newer hvcore refuses the driver by its metadata, says to upgrade the driver, and does not import it.

    Why: A driver without an upper bound is loaded by the next incompatible hvcore and fails during an operation
    (hacs/integration#4243: a minimum version that is not enforced).
    """
    _refused(bench, "99.0", "too-old")


@check(Level.MUST, Tier.STATIC)
def load_api_too_new(bench: Bench) -> None:
    """A much older hvcore refuses the driver by its metadata, says to upgrade hvcore, and does not import it.

    Why: A driver without a lower bound is loaded by an hvcore that lacks a function it needs, and the error is an
    AttributeError.
    """
    _refused(bench, "0.0.0", "too-new")


@check(Level.MUST, Tier.STATIC)
def load_twice_and_unload(bench: Bench) -> None:
    """Loading the driver ten times leaves no thread, no descriptor and no growing set of driver objects.

    Why: A host application loads drivers for each node that it opens. A thread, descriptor or object left by each load
    takes it down after a week.
    """

    def work() -> tuple[list[str], int]:
        kind = type(load(bench.subject.driver).driver)
        load(bench.subject.driver)
        before, held = _living(kind), held_by_us()
        for _ in range(10):
            load(bench.subject.driver)
        return sorted(held_by_us() - held), _living(kind) - before

    held, grown = forked(work).result()
    require(not held, f"loading it leaves {', '.join(held[:3])}")
    require(grown <= 1, f"loading it ten times leaves {grown} driver objects alive")


def _living(kind: type) -> int:
    gc.collect()
    return sum(type(thing) is kind for thing in gc.get_objects())
