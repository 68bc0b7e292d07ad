"""Contract: the driver's methods, what they take and what they give, from values alone."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hvcore.errors import DriverLoadError, HvError, Problem
from hvcore.model.codec import decode, encode
from hvcore.model.instance import Instance
from hvcore.model.plan import Plan
from hvcore.plugins.protocols import Adopts, Driver, Executes, HasConsole, HasLog, Pausable, ReadsSpec
from hvcore.testing.bench import Bench
from hvcore.testing.check import Failed, Level, Skipped, Tier, check, require

__all__ = ["spec_of"]

_ABILITIES = (Pausable, HasConsole, Executes, HasLog, Adopts, ReadsSpec)


def spec_of(bench: Bench, instance: Instance) -> Any:
    """What the driver decides about a valid instance. Raises `Failed` when it refuses it."""
    try:
        return bench.loaded.driver.plan(instance, bench.loaded.check(instance))
    except HvError as error:
        raise Failed(f"refuses the subject's own instance: {error}") from error


@check(
    Level.MUST,
    Tier.STATIC,
    why="Python finds a wrong argument when the method is called: a stop that lacks force fails on the day somebody "
    "needs it.",
)
def contract_signatures(bench: Bench) -> None:
    """Each method takes the arguments that the core calls it with, by position and by name."""
    try:
        driver: Any = bench.loaded.driver
    except DriverLoadError as error:
        raise Failed(str(error)) from error
    protocols: list[Any] = [Driver, *(ability for ability in _ABILITIES if isinstance(driver, ability))]
    for protocol in protocols:
        for name, specified in vars(protocol).items():
            if not name.startswith("_") and inspect.isfunction(specified):
                _accepts(name, getattr(driver, name), specified)


def _accepts(name: str, method: Any, specified: Any) -> None:
    wanted = list(inspect.signature(specified).parameters.values())[1:]
    positional = [None for one in wanted if one.kind is not one.KEYWORD_ONLY]
    named = {one.name: None for one in wanted if one.kind is one.KEYWORD_ONLY}
    signature = inspect.signature(method)
    try:
        signature.bind(*positional, **named)
    except TypeError as error:
        raise Failed(f"{name}{signature} cannot be called as {name}{inspect.signature(specified)}: {error}") from error


@check(
    Level.MUST,
    Tier.STATIC,
    why="The core and the command line are written against these types. What else comes back fails far from where it "
    "was made, in somebody else's code.",
)
def contract_returns(bench: Bench) -> None:
    """Method plan gives a frozen dataclass, verify problems, describe a plan."""
    spec = spec_of(bench, bench.instance())
    frozen = dataclasses.is_dataclass(spec) and vars(type(spec))["__dataclass_params__"].frozen
    require(frozen, f"plan gives {type(spec).__name__}, not a frozen dataclass")
    driver: Any = bench.loaded.driver
    found: list[Any] = list(driver.verify(spec, bench.host))
    wrong = [item for item in found if not isinstance(item, Problem)]
    require(not wrong, f"verify gives {wrong[:1]!r:.80}, not problems")
    try:
        described = driver.describe(spec, bench.host)
    except HvError:
        return  # this node lacks what it needs to know
    require(isinstance(described, Plan), f"describe gives {type(described).__name__}, not an hvcore.plugin.Plan")


@check(
    Level.MUST,
    Tier.STATIC,
    why="The spec is kept in the record, and another process, perhaps of a later release, has to read it to stop the "
    "instance.",
)
def contract_spec_encodes(bench: Bench) -> None:
    """The spec can be kept in a record: encoded it is plain JSON, and it is the same after it was written and read."""
    spec = spec_of(bench, bench.instance())
    try:
        plain = encode(spec)
        back = json.loads(json.dumps(plain, allow_nan=False))
    except (HvError, TypeError, ValueError) as error:
        raise Failed(f"its spec cannot be kept in a record: {error}") from error
    require(back == plain, "its spec is another one after it was written to a record and read again")


@check(
    Level.HARDENING,
    Tier.STATIC,
    why="What is read back into its own type is known to be whole. A driver that picks single values out of plain data "
    "finds out late that one is missing.",
)
def contract_spec_decodes(bench: Bench) -> None:
    """hvcore.plugin.decode, or the driver's own read_spec, makes the same spec of what hvcore.plugin.encode made of it."""
    spec, driver = spec_of(bench, bench.instance()), bench.loaded.driver
    try:
        written = encode(spec)
        back = driver.read_spec(written) if isinstance(driver, ReadsSpec) else decode(type(spec), written, "spec")
    except HvError as error:
        raise Failed(f"its spec cannot be decoded: {error}") from error
    require(back == spec, "its spec is another one after it was decoded")


@check(
    Level.MUST,
    Tier.STATIC,
    why="One process runs many instances with one driver object. What it remembers of the one turns up in the other.",
)
def contract_reentrant_instances(bench: Bench) -> None:
    """What is decided about an instance does not depend on which others were looked at before."""
    first, second = bench.instance("web1"), bench.instance("web2")
    alone = encode(spec_of(bench, first))
    spec_of(bench, second)
    again = encode(spec_of(bench, first))
    require(again == alone, "decides otherwise about an instance after it has seen another one")
    require(encode(spec_of(bench, second)) == encode(spec_of(bench, second)), "decides otherwise the second time")


@check(
    Level.MUST,
    Tier.STATIC,
    why="A method that only raises NotImplementedError makes the core believe in an ability that is not there: Nova had "
    "81 of them, and a decorator that turned them into green tests.",
)
def contract_no_stubs(bench: Bench) -> None:
    """No method of the contract is a stub: what a driver cannot do, it leaves out."""
    stubs = [name for name in _names(bench.loaded.driver) if _is_stub(getattr(bench.loaded.driver, name))]
    require(not stubs, f"{', '.join(stubs)} only raises NotImplementedError; leave it out")


def _names(driver: object) -> Iterator[str]:
    for protocol in (Driver, *_ABILITIES):
        yield from (
            name for name in vars(protocol) if not name.startswith("_") and callable(getattr(driver, name, None))
        )


def _is_stub(method: Any) -> bool:
    code = getattr(method, "__code__", None)
    return code is not None and "NotImplementedError" in code.co_names


@check(
    Level.MUST,
    Tier.STATIC,
    why="Host applications have threads. preexec_fn runs Python between fork and exec and can deadlock there, and a shell "
    "makes options of values. hvcore's launcher needs neither.",
)
def conc_fork_threads(bench: Bench) -> None:
    """The source of the driver uses no preexec_fn, no shell, no os.fork and no os.system.

    Modules that are programs of their own (``if __name__ == "__main__"``) are not looked at.
    """
    found = [problem for path in _sources(bench) for problem in _unsafe(path)]
    require(not found, f"is not safe in a program with threads: {'; '.join(found[:3])}")


def _sources(bench: Bench) -> list[Path]:
    module = bench.loaded.entry.target.partition(":")[0]
    found = importlib.util.find_spec(module.partition(".")[0])
    places = list(found.submodule_search_locations or ()) if found else []
    paths = [path for place in places for path in sorted(Path(place).rglob("*.py"))]
    if not paths and found and found.origin:
        paths = [Path(found.origin)]
    if not paths:
        raise Skipped("its source is not there to be read")
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
