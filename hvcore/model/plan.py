"""Everything a start would do, as a value that can be shown before anything is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Argument", "Origin", "Plan", "Step"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Why an argument is there: which plugin put it, which parameters it follows from, and the reason in words."""

    plugin: str
    params: tuple[str, ...] = ()
    why: str = ""

    def __str__(self) -> str:
        params = ", ".join(self.params) or "always"
        return f"{self.plugin} <- {params}" + (f": {self.why}" if self.why else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One option of a command with its value (one or two argv tokens), and where it came from.

    Values that exist only during a start (file descriptors, a uid) are shown as ``{name}``.
    """

    tokens: tuple[str, ...]
    origin: Origin

    def to_json(self) -> dict[str, Any]:
        """The argument as plain JSON types."""
        origin = {"plugin": self.origin.plugin, "params": list(self.origin.params), "why": self.origin.why}
        return {"tokens": list(self.tokens), **origin}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing a start does to the node, in the order it is done: ``claim``, ``mount``, ``launch``, ..."""

    kind: str
    what: str

    def to_json(self) -> dict[str, str]:
        """The step as plain JSON types."""
        return {"kind": self.kind, "what": self.what}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a start of ``name`` would do. Nothing was acquired, written or started to make it."""

    name: str
    driver: str
    steps: tuple[Step, ...]
    arguments: tuple[Argument, ...] = ()

    @property
    def argv(self) -> tuple[str, ...]:
        """The command that would be run, token by token."""
        return tuple(token for argument in self.arguments for token in argument.tokens)

    def explain(self) -> str:
        """The plan in words: the steps, then one line per argument with the reason it is there."""
        lines = [f"{self.name} ({self.driver})", "", "steps"]
        lines += [f"  {number}. {step.kind}: {step.what}" for number, step in enumerate(self.steps, 1)]
        if self.arguments:
            lines += ["", "arguments"]
            width = min(72, max(len(" ".join(argument.tokens)) for argument in self.arguments))
            for argument in self.arguments:
                text = " ".join(argument.tokens)
                lines.append(f"  {text:<{width}}  # {argument.origin}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The plan as plain JSON types."""
        return {
            "name": self.name,
            "driver": self.driver,
            "steps": [step.to_json() for step in self.steps],
            "arguments": [argument.to_json() for argument in self.arguments],
        }
