"""Schema: the parameters, their types and the rules across them. Only schema_host_phase_paths reads the node."""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from hvcore.errors import HvError, ParamsError, Problem, VerifyError
from hvcore.model.codec import encode
from hvcore.model.instance import Disk, Instance
from hvcore.params.param import Param
from hvcore.params.values import Params
from hvcore.testing.check import Bench, Failed, Level, Skipped, Tier, check, require
from hvcore.testing.generate_values import NASTY, alternatives, each_generated, parsed
from hvcore.testing.isolate import effects, forked

__all__: tuple[str, ...] = ()

_FIELDS = ("name", "driver", "memory_mib", "vcpus", "uuid", "disks", "nics", "profile", "tags", "params")
_SECRET = "kit-secret-4711"  # noqa: S105 - a marker to search for


def _params(bench: Bench) -> list[Param]:
    found = list(bench.loaded.schema.params.values())
    if not found:
        raise Skipped("it has no parameters")
    return found


@check(Level.MUST, Tier.STATIC)
def schema_self_valid(bench: Bench) -> None:
    """The subject's instance passes the check with every default, and the driver's JSON Schema can be built.

    Why: People copy the defaults and examples of the reference. The driver has to accept them, by the rules across
    parameters too.
    """
    try:
        bench.loaded.check(bench.instance())
    except ParamsError as error:
        raise Failed(f"its defaults are refused: {'; '.join(map(str, error.problems))}") from error
    except HvError as error:
        raise Failed(f"its check fails: {error}") from error
    bench.handle.json_schema()


@check(Level.MUST, Tier.STATIC)
def schema_json_roundtrip(bench: Bench) -> None:
    """The JSON Schema of a parameter accepts every value that the parameter accepts, over bad and generated values.

    Why: Forms and other languages check by JSON Schema. They can never pass a value that it refuses and the driver
    would accept.
    """
    try:
        from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # noqa: PLC0415 - may be missing
    except ModuleNotFoundError:
        raise Skipped("the package jsonschema is not installed; pip install hvcore[testing]") from None
    judges = [(param, Draft202012Validator(param.type.json_schema())) for param in _params(bench)]

    def agree(value: Any) -> None:
        if isinstance(value, tuple | bytes):
            return  # JSON has no such thing
        for param, validator in judges:
            taken, _ = parsed(param, value)
            if taken:
                require(validator.is_valid(value), f"{param.key} accepts {value!r:.60}, but its JSON Schema does not")

    each_generated(agree)


@check(Level.MUST, Tier.STATIC)
def schema_type_strict(bench: Bench) -> None:
    """Integers refuse true and 1.5, booleans refuse 1 and 'true', strings refuse numbers, NUL and lone surrogates.

    Why: Python accepts True for 1, and int() accepts '512', 1.9 and True. A typing error in a file then starts the
    wrong thing.
    """
    wrong = {
        "integer": (True, 1.5, "1x", float("nan"), float("inf"), [1]),
        "number": (True, "1x", float("nan"), float("inf"), [1]),
        "boolean": (0, 1, "true", "yes", 1.0),
        "string": (1, True, 1.5, b"a", ["a"], "a\0b", "\udc80"),
    }
    for param in _params(bench):
        kind = param.type.json_schema().get("type")
        for value in wrong.get(kind, ()) if isinstance(kind, str) else ():
            require(not parsed(param, value)[0], f"{param.key} is {param.type.expects}, but accepts {value!r}")


@check(Level.MUST, Tier.STATIC)
def schema_idempotent_normalise(bench: Bench) -> None:
    """The clean form of a value is accepted and stays unchanged, and the given value is not modified.

    Why: Values are read, written to the record and read again. A value that changes each time differs after a reboot.
    """
    for param in _params(bench):
        for value in (*NASTY, param.default, param.example):
            given = copy.deepcopy(value)
            taken, clean = parsed(param, value) if value is not None else (False, None)
            require(given == value or value != value, f"{param.key} modifies the given value {given!r:.60}")  # noqa: PLR0124 - NaN
            if taken:
                again = parsed(param, clean)
                words = f"{param.key} makes {clean!r:.60} of {value!r:.60}, and then {again[1]!r:.60}"
                require(again == (True, clean), words)


def _varied(bench: Bench, at_most: int = 3) -> Iterator[tuple[Param, Any, Instance]]:
    """The subject's instance with one parameter changed at a time."""
    for param in _params(bench):
        for value in alternatives(param, at_most):
            yield param, value, bench.instance(params={param.key: value})


def _problems(bench: Bench, instance: Instance) -> tuple[Params | None, tuple[Problem, ...]]:
    try:
        return bench.loaded.problems(instance)
    except HvError as error:
        raise Failed(f"its check raises instead of returning problems: {error}") from error


@check(Level.MUST, Tier.STATIC)
def schema_check_gives_problems(bench: Bench) -> None:
    """For every parameter and several of its values, the rules return problems and never raise. Neither does plan.

    Why: All problems of a file are reported together. A rule that raises hides the others, and shows the operator a bug
    instead of the mistake in the file.
    """
    for param, value, instance in _varied(bench):
        params, _ = _problems(bench, instance)
        if params is None:
            continue
        try:
            bench.loaded.driver.plan(instance, params)
        except HvError:
            continue
        except Exception as error:
            where = f"{param.key} = {value!r:.60}"
            raise Failed(f"plan raises {type(error).__name__} for {where}: {error}") from error


@check(Level.MUST, Tier.STATIC)
def schema_problem_paths(bench: Bench) -> None:
    """Every problem and warning of the rules names a parameter of the driver or a field of the instance.

    Why: People search the file for the path, and a form puts the message beside the field of that name.
    """
    known = bench.loaded.schema.params
    for _, _, instance in _varied(bench):
        params, problems = _problems(bench, instance)
        found = list(problems) + (list(bench.loaded.warnings(instance, params)) if params is not None else [])
        for problem in found:
            require(_exists(problem.path, known), f"a problem has a path that does not exist: {problem}")


def _exists(path: str, known: Iterable[str]) -> bool:
    head, _, rest = path.partition(".")
    field = head.partition("[")[0]
    if field == "params" and rest:
        return rest.partition("[")[0] in known or "[" in path
    return field in _FIELDS or field == "devices" or head.startswith("params[")


@check(Level.MUST, Tier.STATIC)
def schema_pure_phase_is_pure(bench: Bench) -> None:
    """Check and plan open no file, start no program, use no network, and return the same result twice.

    Why: The check runs on laptops and in CI, without the node's files and programs. A check that reads them gives a
    different answer in each place.
    """
    varied = _varied(bench, 1) if bench.loaded.schema.params else ()
    instances = [bench.instance(), *(instance for _, _, instance in itertools.islice(varied, 60))]

    def work() -> list[Any]:
        return [_decided(bench, instance) for instance in instances]

    seen, same = forked(lambda: (effects(work), work() == work())).result()
    require(not seen, f"check or plan reads or changes the node: {'; '.join(dict.fromkeys(seen[:3]))}")
    require(same, "check or plan returns another result the second time")


def _decided(bench: Bench, instance: Instance) -> Any:
    params, problems = bench.loaded.problems(instance)
    if params is None:
        return [str(problem) for problem in problems]
    try:
        return encode(bench.loaded.driver.plan(instance, params))
    except HvError as error:
        return str(error)


@check(Level.MUST, Tier.STATIC)
def schema_host_phase_paths(bench: Bench) -> None:
    """For a path that is missing, a directory, a loop of links or not allowed, verify returns a problem.

    Why: A wrong path is the most common mistake of all. It has to be a problem with its own path, and not a traceback
    in the middle of a start.
    """
    tried = 0
    for where, instance in _wrong_paths(bench):
        tried += 1
        try:
            bench.handle.verify(instance)
        except (ParamsError, VerifyError):
            continue
        except HvError as error:
            raise Failed(f"verify raises for {where} instead of returning a problem: {error}") from error
        except Exception as error:
            raise Failed(f"verify raises {type(error).__name__} for {where}: {error}") from error
        raise Failed(f"verify finds no problem in {where}")
    if tried == 0:
        raise Skipped("neither its parameters nor the subject's instance name a file")


def _wrong_paths(bench: Bench) -> Iterator[tuple[str, Instance]]:
    loop = bench.directory / "loop"
    if not loop.is_symlink():
        os.symlink(loop, loop)
    wrong = {
        "a missing file": bench.directory / "none",
        "a directory in place of a file": bench.directory,
        "a loop of links": loop,
        "a path through a file": "/dev/null/x",
    }
    base = bench.instance()
    for words, path in wrong.items():
        if base.disks:
            disks = (Disk(path=str(path)), *base.disks[1:])
            yield f"disks[0].path, {words}", replace(base, disks=disks)
    missing = str(wrong["a missing file"])
    for param in bench.loaded.schema.params.values():
        if param.type.node_check is not None and not param.secret:
            value: str | list[str] = [missing] if param.type.json_schema().get("type") == "array" else missing
            yield f"params.{param.key}, a missing file", bench.instance(params={param.key: value})


@check(Level.MUST, Tier.STATIC)
def schema_secret_redaction(bench: Bench) -> None:
    """The value of a secret parameter is in no problem, error, plan or representation.

    Why: A password in an error goes to the terminal, the log and the bug report. Measured: voluptuous' own
    humanize_error prints it.
    """
    secrets = [param for param in bench.loaded.schema.params.values() if param.secret]
    if not secrets:
        raise Skipped("it has no secret parameters")
    for param in secrets:
        for value in (_SECRET, f"/{_SECRET}", _SECRET[:8], [_SECRET]):
            instance = bench.instance(params={param.key: value})
            for where, text in _output(bench, instance):
                hidden = _SECRET if isinstance(value, list) else value
                require(hidden not in text, f"the value of {param.key} is shown in {where}")


def _output(bench: Bench, instance: Instance) -> Iterator[tuple[str, str]]:
    try:
        params, problems = bench.loaded.problems(instance)
    except HvError as error:
        yield "an error of its check", str(error)
        return
    yield "a problem", " ".join(map(str, problems))
    if params is None:
        return
    yield "the parameters' representation", repr(params)
    yield "a warning", " ".join(map(str, bench.loaded.warnings(instance, params)))
    try:
        yield "the plan", str(bench.handle.plan(instance).to_json())
    except Exception as error:  # noqa: BLE001 - users see any error
        yield "an error of its plan", str(error)


@check(Level.MUST, Tier.STATIC)
def schema_cross_field(bench: Bench) -> None:
    """The check refuses each instance that the subject provides to be refused, and names a path.

    Why: A contradiction has to be reported when the file is checked. Otherwise the start finds it, at night.
    """
    if not bench.subject.refused:
        raise Skipped("the subject has no instance to refuse")
    for number, factory in enumerate(bench.subject.refused, 1):
        params, problems = _problems(bench, bench.instance(factory=factory))
        require(params is None and problems, f"accepts refused instance {number} of its subject")
