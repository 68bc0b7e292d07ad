"""Drivers that fail a check of the static tier."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from kit_broken import breaks, burn, plugins
from kit_good import Good, Spec

import hvcore.plugin as hv

INLINE = "from kit_good import Good\nclass Inline(Good):\n    pass\n"
AT = "kit_inline:Inline"


def inline(before: str = "", name: str = "kit_inline.py") -> dict[str, str]:
    return {name: before + INLINE}


# ------------------------------------------------------------------------------------------------------------- load


@breaks("load_manifest_valid", "its class is named 'other'")
class WrongName(Good):
    name = "other"


@breaks(
    "load_no_import_for_listing",
    "is imported when drivers are listed",
    target=AT,
    files={**inline(), "sitecustomize.py": "import kit_inline\n"},
)
class Eager: ...


@breaks(
    "load_import_budget",
    "its import takes",
    target=AT,
    # Longer than the import of the core, which the process has done before, on any machine.
    files=inline("import time\nfrom kit_broken import burn\nburn(0.1 + time.process_time())\n"),
)
class Slow: ...


@breaks(
    "load_import_is_quiet",
    "has effects on the node: open: '/dev/null', 'w'",
    target=AT,
    files=inline("with open('/dev/null', 'w'):\n    pass\n"),
)
class Loud: ...


@breaks("load_no_forbidden_top_level_imports", "asyncio", target=AT, files=inline("import asyncio\n"))
class Heavy: ...


@breaks(
    "load_missing_dependency_reports",
    r"loads without kit_pack.helper",
    target="kit_pack.plugin:Inline",
    files={
        "kit_pack/__init__.py": "",
        "kit_pack/helper.py": "",
        **inline(
            "try:\n    from kit_pack import helper\nexcept ImportError:\n    helper = None\n", "kit_pack/plugin.py"
        ),
    },
)
class Silent: ...


@breaks("load_api_too_old", "should be too-old, the catalogue says ok", requires="hvcore>=0.1")
class NoUpperBound(Good): ...


@breaks("load_api_too_new", "should be too-new, the catalogue says ok", requires="hvcore<0.2")
class NoLowerBound(Good): ...


@breaks("load_twice_and_unload", "leaves 10 driver objects alive")
class Kept(Good):
    kept: ClassVar[list[Any]] = []

    def __init__(self, hooks: hv.Hooks) -> None:
        super().__init__(hooks)
        self.kept.append(self)


# --------------------------------------------------------------------------------------------------------- contract


@breaks("contract_signatures", r"takes \(live, job\), but is called with \(live, job, \*, force\)")
class NoForce(Good):
    def stop(self, live: hv.Live, job: hv.Job) -> str:  # type: ignore[override]
        return "kill"


@breaks("contract_returns", "describe returns str")
class Words(Good):
    def describe(self, spec: Any, host: hv.Host) -> Any:
        return "starts it"


@dataclass(frozen=True, kw_only=True)
class Odd:
    name: str
    value: Any


@breaks("contract_spec_encodes", "cannot be kept in a record: cannot encode a set")
class Unwritable(Good):
    def plan(self, instance: hv.Instance, params: hv.Params) -> Any:
        return Odd(name=instance.name, value={1})


@breaks("contract_spec_decodes", "differs after it was decoded")
class ListSpec(Good):
    def plan(self, instance: hv.Instance, params: hv.Params) -> Any:
        return Odd(name=instance.name, value=(1, 2))


@breaks("contract_reentrant_instances", "plans an instance differently after it has planned another one")
class Remembers(Good):
    last = ""

    def plan(self, instance: hv.Instance, params: hv.Params) -> Any:
        before, Remembers.last = Remembers.last, instance.name
        return replace(super().plan(instance, params), motd=before)


@breaks("contract_no_stubs", "console only raises NotImplementedError")
class Stub(Good):
    def console(self, live: hv.Live) -> hv.Console:
        raise NotImplementedError


@breaks(
    "conc_fork_threads",
    "preexec_fn",
    target=AT,
    files=inline("import os, subprocess\ndef run():\n    subprocess.run(['true'], preexec_fn=os.setsid)\n"),
)
class Preexec: ...


# ----------------------------------------------------------------------------------------------------------- schema


def refuse(instance: hv.Instance, params: hv.Params) -> Any:
    yield hv.Problem(path="params.motd", what="is never right")


@breaks("schema_self_valid", "its defaults are refused: params.motd: is never right")
class RefusesDefaults(Good):
    plugins = plugins(rule=refuse)


def kind(parse: Any, **schema: Any) -> hv.ParamType:
    return hv.ParamType(kind="own", expects="something", parse=parse, schema=schema)


def text_only(value: object) -> str:
    if isinstance(value, str):
        return value
    raise hv.Reject("is not a text")


@breaks("schema_json_roundtrip", r"own accepts .*, but its JSON Schema does not")
class NarrowSchema(Good):
    plugins = plugins(hv.Param("own", kind(text_only, enum=["a"]), help="Own."))


def to_int(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise hv.Reject("is not a number") from None


@breaks("schema_type_strict", "own is something, but accepts True")
class Lenient(Good):
    plugins = plugins(hv.Param("own", kind(to_int, type="integer"), help="Own."))


@breaks("schema_idempotent_normalise", "own makes '/' of '', and then '//'")
class Growing(Good):
    plugins = plugins(hv.Param("own", kind(lambda value: text_only(value) + "/", type="string"), help="Own."))


@breaks("schema_check_gives_problems", "plan raises KeyError for size = 9")
class Raises(Good):
    def plan(self, instance: hv.Instance, params: hv.Params) -> Any:
        if params["size"] == 9:
            raise KeyError("nine")
        return super().plan(instance, params)


def nowhere(instance: hv.Instance, params: hv.Params) -> Any:
    if params["size"] > 1:
        yield hv.Problem(path="params.width", what="is too large")


@breaks("schema_problem_paths", "a path that does not exist: params.width")
class Nowhere(Good):
    plugins = plugins(rule=nowhere)


@breaks("schema_pure_phase_is_pure", "reads or changes the node: open: '/etc/hostname'")
class Looks(Good):
    def plan(self, instance: hv.Instance, params: hv.Params) -> Any:
        Path("/etc/hostname").exists()
        with open("/etc/hostname", encoding="utf-8") as file:
            return replace(super().plan(instance, params), motd=file.read())


@breaks("schema_host_phase_paths", "verify raises FileNotFoundError for params.kernel")
class Opens(Good):
    def verify(self, spec: Any, host: hv.Host) -> Iterable[hv.Problem]:
        if spec.kernel:
            Path(spec.kernel).read_bytes()
        return ()


def weak_password(instance: hv.Instance, params: hv.Params) -> Any:
    if params["password"]:
        yield hv.Problem(path="params.password", what="is weak", got=repr(params["password"]))


@breaks("schema_secret_redaction", "the value of password is shown in a problem")
class ShowsSecret(Good):
    plugins = plugins(rule=weak_password)


@breaks("schema_cross_field", "accepts refused instance 1 of its subject")
class TakesAll(Good):
    plugins = plugins(rule=None)


# -------------------------------------------------------------------------------------------------------- rendering


def argued(plan: hv.Plan, number: int, argument: hv.Argument) -> hv.Plan:
    """The plan with one argument replaced."""
    arguments = list(plan.arguments)
    arguments[number] = argument
    return replace(plan, arguments=tuple(arguments))


@breaks("argv_deterministic", "differs in another process")
class Unordered(Good):
    def describe(self, spec: Any, host: hv.Host) -> hv.Plan:
        what = " ".join({"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"})
        return replace(super().describe(spec, host), steps=(hv.Step(kind="launch", what=what),))


@breaks("argv_provenance_complete", "follows from colour, which is not a parameter")
class WrongOrigin(Good):
    def describe(self, spec: Any, host: hv.Host) -> hv.Plan:
        origin = hv.Origin(plugin="good", params=("colour",))
        return argued(super().describe(spec, host), 0, hv.Argument(tokens=("timeout",), origin=origin))


@breaks("argv_injection", "becomes a separate option in 'text=kitvalue,kit=on,size=1'")
class Unescaped(Good):
    def describe(self, spec: Spec, host: hv.Host) -> hv.Plan:
        origin = hv.Origin(plugin="good", params=("motd", "size"))
        tokens = ("--say", f"text={spec.motd},size={spec.size}")
        return argued(super().describe(spec, host), 1, hv.Argument(tokens=tokens, origin=origin))


class Exits(Good):
    """Not for a certain check."""

    def plan(self, instance: hv.Instance, params: hv.Params) -> Any:
        raise SystemExit(0)


class UnescapedList(Unescaped):
    """The same mistake with a parameter that accepts several strings."""

    plugins = plugins(hv.Param("words", hv.list_of(hv.text(max_bytes=80)), default=(), help="Texts to print."))

    def plan(self, instance: hv.Instance, params: hv.Params) -> Any:
        return replace(super().plan(instance, params), motd=",".join(params["words"]))


@breaks("argv_min_caps", "without programs plan raises FileNotFoundError")
class NeedsProgram(Good):
    def describe(self, spec: Any, host: hv.Host) -> hv.Plan:
        subprocess.run(["true"], check=True)
        return super().describe(spec, host)


@breaks("argv_monotone_delta", "size changes '--say text=hello,size=1', which does not name it")
class HalfOrigin(Good):
    def describe(self, spec: Any, host: hv.Host) -> hv.Plan:
        plan = super().describe(spec, host)
        origin = hv.Origin(plugin="good", params=("motd",))
        return argued(plan, 1, replace(plan.arguments[1], origin=origin))


@breaks("argv_plan_complete", "its plan has no steps")
class Stepless(Good):
    def describe(self, spec: Any, host: hv.Host) -> hv.Plan:
        return replace(super().describe(spec, host), steps=())


# ------------------------------------------------------------------------------------------------------------- time


def slow_rule(instance: hv.Instance, params: hv.Params) -> Any:
    burn(0.02)
    return ()


@breaks("time_check", "takes .* ms, budget 5 ms")
class SlowCheck(Good):
    plugins = plugins(rule=slow_rule)


@breaks("time_render", "takes .* ms, budget 20 ms")
class SlowRender(Good):
    def describe(self, spec: Any, host: hv.Host) -> hv.Plan:
        burn(0.04)
        return super().describe(spec, host)
