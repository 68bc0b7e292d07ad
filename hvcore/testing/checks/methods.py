"""Contract: arguments and results of the driver's methods, without a running instance."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hvcore.errors import DriverLoadError, HvError, Problem
from hvcore.model.codec import decode, encode
from hvcore.model.instance import Instance
from hvcore.model.plan import Plan
from hvcore.plugins.loader import load
from hvcore.plugins.protocols import Adopts, Driver, Executes, HasConsole, HasLog, Pausable, ReadsSpec
from hvcore.testing.check import Bench, Failed, Level, Skipped, Tier, check, require

__all__ = ["spec_of"]

_ABILITIES = (Pausable, HasConsole, Executes, HasLog, Adopts, ReadsSpec)


def spec_of(bench: Bench, instance: Instance) -> Any:
    """The spec of a valid instance. Raises `Failed` if the driver refuses the instance."""
    try:
        return bench.loaded.driver.plan(instance, bench.loaded.check(instance))
    except HvError as error:
        raise Failed(f"refuses the subject's own instance: {error}") from error


@check(Level.MUST, Tier.STATIC)
def contract_signatures(bench: Bench) -> None:
    """Each method accepts the arguments that the core passes to it, by position and by name.

    Why: Python finds a wrong argument only at the call: a stop without force fails on the day it is needed.
    """
    try:
        load(bench.subject.driver)  # `hvcore.plugins.faults` compares them
    except DriverLoadError as error:
        raise Failed(str(error)) from error


@check(Level.MUST, Tier.STATIC)
def contract_returns(bench: Bench) -> None:
    """Method plan returns a frozen dataclass, verify returns problems, and describe returns a plan.

    Why: The core and the command line rely on these types. Another type fails far from its origin, in other code.
    """
    spec = spec_of(bench, bench.instance())
    frozen = dataclasses.is_dataclass(spec) and vars(type(spec))["__dataclass_params__"].frozen
    require(frozen, f"plan returns {type(spec).__name__}, not a frozen dataclass")
    driver: Any = bench.loaded.driver
    found: list[Any] = list(driver.verify(spec, bench.host))
    wrong = [item for item in found if not isinstance(item, Problem)]
    require(not wrong, f"verify returns {wrong[:1]!r:.80}, not problems")
    try:
        described = driver.describe(spec, bench.host)
    except HvError:
        return  # this node lacks something that a plan needs
    require(isinstance(described, Plan), f"describe returns {type(described).__name__}, not an hvcore.plugin.Plan")


@check(Level.MUST, Tier.STATIC)
def contract_spec_encodes(bench: Bench) -> None:
    """The spec encodes to plain JSON for the record, and is unchanged after it was written and read.

    Why: The spec is kept in the record. Another process, perhaps of a later release, reads it there to stop the
    instance.
    """
    spec = spec_of(bench, bench.instance())
    try:
        plain = encode(spec)
        back = json.loads(json.dumps(plain, allow_nan=False))
    except (HvError, TypeError, ValueError) as error:
        raise Failed(f"its spec cannot be kept in a record: {error}") from error
    require(back == plain, "its spec differs after it was written to a record and read")


@check(Level.HARDENING, Tier.STATIC)
def contract_spec_decodes(bench: Bench) -> None:
    """hvcore.plugin.decode, or the driver's own read_spec, restores the spec from the result of hvcore.plugin.encode.

    Why: A spec that decodes into its own type is known to be complete. A driver that picks single values out of plain
    data finds a missing one late.
    """
    spec, driver = spec_of(bench, bench.instance()), bench.loaded.driver
    try:
        written = encode(spec)
        back = driver.read_spec(written) if isinstance(driver, ReadsSpec) else decode(type(spec), written, "spec")
    except HvError as error:
        raise Failed(f"its spec cannot be decoded: {error}") from error
    require(back == spec, "its spec differs after it was decoded")


@check(Level.MUST, Tier.STATIC)
def contract_reentrant_instances(bench: Bench) -> None:
    """The decision about an instance does not depend on the instances that were planned before.

    Why: One process runs many instances with one driver object. State that the driver keeps of one instance leaks into
    the other.
    """
    first, second = bench.instance("web1"), bench.instance("web2")
    alone = encode(spec_of(bench, first))
    spec_of(bench, second)
    again = encode(spec_of(bench, first))
    require(again == alone, "plans an instance differently after it has planned another one")
    require(
        encode(spec_of(bench, second)) == encode(spec_of(bench, second)),
        "plans an instance differently the second time",
    )


@check(Level.MUST, Tier.STATIC)
def contract_no_stubs(bench: Bench) -> None:
    """No method of the contract is a stub. A driver leaves out the abilities that it lacks.

    Why: A method that only raises NotImplementedError makes the core believe in an ability that does not exist: Nova
    had 81 of them, and a decorator that turned them into green tests.
    """
    names = [name for protocol in (Driver, *_ABILITIES) for name in vars(protocol) if not name.startswith("_")]
    codes = {name: getattr(getattr(bench.loaded.driver, name, None), "__code__", None) for name in names}
    stubs = [name for name, code in codes.items() if code is not None and "NotImplementedError" in code.co_names]
    require(not stubs, f"{', '.join(stubs)} only raises NotImplementedError; leave it out")


@check(Level.MUST, Tier.STATIC)
def conc_fork_threads(bench: Bench) -> None:
    """The driver's source uses no preexec_fn, shell, os.fork or os.system. Scripts (``__name__ == "__main__"``) are exempt.

    Why: Host applications have threads. preexec_fn runs Python between fork and exec and can deadlock there, and a
    shell turns values into options. hvcore's launcher needs neither.
    """
    found = [problem for path in _sources(bench) for problem in _unsafe(path)]
    require(not found, f"is unsafe in a program with threads: {'; '.join(found[:3])}")


def _sources(bench: Bench) -> list[Path]:
    module = bench.loaded.entry.target.partition(":")[0]
    found = importlib.util.find_spec(module.partition(".")[0])
    places = list(found.submodule_search_locations or ()) if found else []
    paths = [path for place in places for path in sorted(Path(place).rglob("*.py"))]
    if not paths and found and found.origin:
        paths = [Path(found.origin)]
    if not paths:
        raise Skipped("its source is not installed")
    return paths


def _unsafe(path: Path) -> Iterator[str]:
    try:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
    except (OSError, SyntaxError, ValueError):
        return
    if '__name__ == "__main__"' in text:
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        words = [keyword.arg for keyword in node.keywords if keyword.arg in ("preexec_fn", "shell")]
        off = [k for k in node.keywords if k.arg == "shell" and isinstance(k.value, ast.Constant) and not k.value.value]
        if name in ("os.system", "os.popen", "os.fork"):
            words.append(name)
        if words and len(words) != len(off):
            yield f"{path.name}:{node.lineno}: {words[0]}"
