"""Everything a start would do, as a value that can be shown before anything is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from typing import Any

from hvcore.errors import Problem
from hvcore.frozen import dataclass
from hvcore.params.values import REDACTED, Params

__all__ = ["Argument", "Origin", "Plan", "Step", "Value", "on_one_line", "with_params"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """The value of a parameter as it is shown (``<secret>`` for a secret), and the layer that set it."""

    value: Any
    layer: str

    def __str__(self) -> str:
        shown = "unset" if self.value is None else repr(self.value)
        return f"{shown} ({self.layer})"

    def to_json(self) -> dict[str, Any]:
        """The value as plain JSON types."""
        return {"value": self.value, "layer": self.layer}


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Why an argument is there: the plugin that added it, the parameters that it follows from, and the reason in words.

    ``capability`` names the feature of the program that decided the argument's form; empty if it has only one form.
    ``layers`` has the layer of each parameter; the core fills it in.
    """

    plugin: str
    params: tuple[str, ...] = ()
    why: str = ""
    capability: str = ""
    layers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        params = ", ".join(f"{key} ({self.layers[key]})" if key in self.layers else key for key in self.params)
        reasons = [*([self.why] if self.why else []), *([f"[{self.capability}]"] if self.capability else [])]
        return f"{self.plugin} <- {params or 'always'}" + (f": {' '.join(reasons)}" if reasons else "")

    def to_json(self) -> dict[str, Any]:
        """The origin as plain JSON types."""
        facts = {"plugin": self.plugin, "params": list(self.params), "layers": dict(self.layers)}
        return {**facts, "why": self.why, "capability": self.capability}


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One option of a command with its value (one or two argv tokens), and where it came from.

    Values that exist only during a start (file descriptors, a uid) are shown as ``{name}``.
    """

    tokens: tuple[str, ...]
    origin: Origin

    def to_json(self) -> dict[str, Any]:
        """The argument as plain JSON types."""
        return {"tokens": list(self.tokens), **self.origin.to_json()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that a start does to the node, in its order: ``claim``, ``mount``, ``launch``, ..."""

    kind: str
    what: str

    def to_json(self) -> dict[str, str]:
        """The step as plain JSON types."""
        return {"kind": self.kind, "what": self.what}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a start of ``name`` would do. To make it, nothing was acquired, written or started.

    ``params`` are all parameters of the driver, secrets redacted. ``warnings`` name settings that are slow, unsafe or
    hard to move. The core fills both in.
    """

    name: str
    driver: str
    steps: tuple[Step, ...]
    arguments: tuple[Argument, ...] = ()
    params: Mapping[str, Value] = field(default_factory=dict)
    warnings: tuple[Problem, ...] = ()

    @property
    def argv(self) -> tuple[str, ...]:
        """The command that would be run, token by token."""
        return tuple(token for argument in self.arguments for token in argument.tokens)

    def explain(self) -> str:
        """The plan in words: the steps, then one line per argument with the reason it is there."""
        lines = [f"{self.name} ({self.driver})", "", "steps"]
        lines += [f"  {number}. {step.kind}: {on_one_line(step.what)}" for number, step in enumerate(self.steps, 1)]
        if self.arguments:
            lines += ["", "arguments"]
            commands = [on_one_line(" ".join(argument.tokens)) for argument in self.arguments]
            width = min(72, max(map(len, commands)))
            for argument, command in zip(self.arguments, commands, strict=True):
                lines.append(f"  {command:<{width}}  # {on_one_line(str(argument.origin))}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The plan as plain JSON types."""
        return {
            "name": self.name,
            "driver": self.driver,
            "steps": [step.to_json() for step in self.steps],
            "arguments": [argument.to_json() for argument in self.arguments],
            "params": {key: value.to_json() for key, value in self.params.items()},
            "warnings": [warning.to_json() for warning in self.warnings],
        }


def on_one_line(text: str) -> str:
    r"""The text with every character that is not printable as an escape: ``\n``, ``\x1b``."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def with_params(plan: Plan, params: Params) -> Plan:
    """The plan with the parameters that it was made from, and without their secrets, even if a plugin shows one."""
    hidden = sorted({form for secret in params.secrets for form in (secret, secret.replace(",", ",,"))}, key=len)

    def shown(text: str) -> str:
        for secret in reversed(hidden):
            text = text.replace(secret, REDACTED)
        return text

    def without_secrets(origin: Origin) -> Origin:
        layers = {key: params.layer(key) for key in origin.params if key in params}
        return replace(origin, layers=layers, why=shown(origin.why), capability=shown(origin.capability))

    arguments = tuple(
        Argument(tokens=tuple(map(shown, argument.tokens)), origin=without_secrets(argument.origin))
        for argument in plan.arguments
    )
    steps = tuple(replace(step, what=shown(step.what)) for step in plan.steps)
    values = {key: Value(value=value, layer=params.layer(key)) for key, value in params.redacted().items()}
    return replace(plan, steps=steps, arguments=arguments, params=values)
