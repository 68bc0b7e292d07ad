"""Rendering: the plan, its command line, and the origin of each argument."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from hvcore.errors import HvError
from hvcore.model.codec import encode
from hvcore.model.instance import Instance
from hvcore.model.plan import Plan
from hvcore.params.param import Param
from hvcore.testing.check import Bench, Failed, Level, Skipped, Tier, check, require
from hvcore.testing.generate_values import alternatives, parsed
from hvcore.testing.isolate import forked, interpreted

__all__: tuple[str, ...] = ()

_FIELDS = frozenset({"name", "driver", "memory_mib", "vcpus", "uuid", "disks", "nics", "profile", "tags"})
_TAME, _WILD = "kitvalue", "kitvalue,kit=on"
_SHAPES: tuple[Callable[[str], Any], ...] = (str, "/{}".format, lambda text: [text], lambda text: [f"/{text}"])
"""Makes values of the forms that a parameter may accept: a string, a path, and lists of them."""


def _plan(bench: Bench, instance: Instance) -> Plan:
    try:
        return bench.handle.plan(instance)
    except HvError as error:
        raise Skipped(f"this node cannot describe it ({error})") from error


@check(Level.MUST, Tier.STATIC)
def argv_deterministic(bench: Bench) -> None:
    """Two interpreters with different hash seeds, locales and key orders make the same plan of an instance.

    Why: A plan that varies cannot be compared, reviewed or kept as a golden file. Sets of strings have a different
    order in each process.
    """
    instance = bench.instance()
    plain = encode(instance)
    turned = {**plain, "params": dict(reversed(list(plain["params"].items())))}
    seen = []
    for seed, locale, data in (("1", "C", plain), ("2", "C.UTF-8", turned)):
        environment = {"PYTHONHASHSEED": seed, "LC_ALL": locale}
        seen.append(interpreted("planned", bench.subject.driver, json.dumps(data), str(bench.run_dir), env=environment))
    require(seen[0] == seen[1], "its plan differs in another process; look for sets and hashes")


@check(Level.MUST, Tier.STATIC)
def argv_provenance_complete(bench: Bench) -> None:
    """Every argument names the plugin that added it, and the existing parameters or the reason that it follows from.

    Why: An operator wants to know why an argument is there. An origin that names a parameter that does not exist
    misleads.
    """
    known = {*bench.loaded.schema.params, *_FIELDS}
    plugins = {bench.subject.driver, *bench.loaded.hooks.implementations("params"), *_plugins(bench)}
    for argument in _plan(bench, bench.instance()).arguments:
        origin, text = argument.origin, " ".join(argument.tokens)
        require(origin.plugin in plugins, f"{text!r:.80} comes from plugin {origin.plugin!r}, which it does not have")
        unknown = [key for key in origin.params if key.partition("[")[0].partition(".")[0] not in known]
        require(not unknown, f"{text!r:.80} follows from {', '.join(unknown)}, which is not a parameter or field")
        require(origin.params or origin.why, f"{text!r:.80} has neither a parameter nor a reason as its origin")


def _plugins(bench: Bench) -> set[str]:
    own = {name for name, _ in bench.loaded.driver.plugins}
    return own | {extension.name for extension in bench.loaded.extensions}


@check(Level.MUST, Tier.STATIC)
def argv_injection(bench: Bench) -> None:
    """Strings, paths and lists of them do not become options, even with commas, equals signs, spaces or a leading minus.

    Why: A comma in a path or a string has created options in every program that assembles command lines. A value must
    stay a value.
    """
    params = bench.loaded.schema.params.values()
    free = [param for param in params if not param.secret and param.key not in bench.subject.raw]
    if not sum(_inject(bench, param, shape) for param in free for shape in _SHAPES):
        raise Skipped("no parameter accepts a free string, or this node cannot describe an instance")


def _inject(bench: Bench, param: Param, shape: Callable[[str], Any]) -> int:
    """The number of values of that shape that were tried."""
    tried = 0
    tame = _planned(bench, param, shape(_TAME))
    for text in (_WILD, "-kitvalue", "kitvalue kit", "kitvalue\n-kit") if tame is not None else ():
        wild = _planned(bench, param, shape(text))
        if tame is not None and wild is not None:
            tried += 1
            _same_shape(f"params.{param.key} = {shape(text)!r}", text, tame, wild)
    return tried


def _planned(bench: Bench, param: Param, value: Any) -> Plan | None:
    if not parsed(param, value)[0]:
        return None
    try:
        return bench.handle.plan(bench.instance(params={param.key: value}))
    except HvError:
        return None


def _same_shape(where: str, value: str, tame: Plan, wild: Plan) -> None:
    require(len(tame.argv) == len(wild.argv), f"{where} changes the number of arguments")
    for argument in wild.arguments:
        require(argument.tokens[0] != value or not value.startswith("-"), f"{where} is at the place of an option")
    for before, after in zip(tame.argv, wild.argv, strict=True):
        if before in {after, _TAME} or _TAME not in before:
            continue
        listed = before.startswith("{") is False and "," in before.replace(_TAME, "")
        bare = value == _WILD and listed and _WILD in after
        require(not bare, f"{where} becomes a separate option in {after!r:.120}")


@check(Level.MUST, Tier.STATIC)
def argv_min_caps(bench: Bench) -> None:
    """Without programs on PATH, verify and describe return problems or a plan, or raise a typed error.

    Why: On a node without the program, one sentence has to say so. Ganeti and others answered with half a command line
    or a traceback.
    """
    instance = bench.instance()

    def work() -> str | None:
        os.environ["PATH"] = "/nonexistent"
        for name, ask in (("verify", bench.handle.verify), ("plan", bench.handle.plan)):
            try:
                ask(instance)
            except HvError:
                continue
            except Exception as error:  # noqa: BLE001 - the check looks for any error
                return f"without programs {name} raises {type(error).__name__}: {error}"
        return None

    wrong = forked(work).result()
    require(wrong is None, str(wrong))


@check(Level.HARDENING, Tier.STATIC)
def argv_monotone_delta(bench: Bench) -> None:
    """A change of one parameter changes only arguments whose origin names it.

    Why: A parameter that changes other arguments surprises the reviewer of two plans, and usually means a mistake in
    the origins.
    """
    base = _plan(bench, bench.instance())
    for param in bench.loaded.schema.params.values():
        if param.secret:
            continue  # every value is shown in the same way
        for value in alternatives(param, 2):
            changed = _planned(bench, param, value)
            if changed is not None:
                _only(param.key, base, changed)


def _only(key: str, base: Plan, changed: Plan) -> None:
    for before, after in ((base, changed), (changed, base)):
        there = {argument.tokens for argument in after.arguments}
        for argument in before.arguments:
            if argument.tokens not in there and not argument.origin.capability:
                text = " ".join(argument.tokens)
                require(key in argument.origin.params, f"{key} changes {text!r:.80}, which does not name it")


@check(Level.MUST, Tier.STATIC)
def argv_plan_complete(bench: Bench) -> None:
    """The plan is of this driver, has steps with descriptions, and is plain JSON.

    Why: The plan shows the effects of a start before they happen. A plan without steps, or of another instance, shows
    nothing.
    """
    plan = _plan(bench, bench.instance())
    require(plan.driver == bench.subject.driver, f"its plan names driver {plan.driver!r}")
    require(plan.steps, "its plan has no steps")
    require(all(step.kind and step.what for step in plan.steps), "a step of its plan has no words")
    try:
        json.dumps(plan.to_json())
    except (TypeError, ValueError) as error:
        raise Failed(f"its plan is not plain JSON: {error}") from error
