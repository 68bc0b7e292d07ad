"""The layers of parameter values: the driver's default, the node, the profile, the instance. A later one wins.

The layers are plain data here; `hvcore.config` reads them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field, replace
from typing import Any, Final

from hvcore.errors import Problem
from hvcore.frozen import dataclass
from hvcore.params.values import DEFAULT, INSTANCE, Params

__all__ = ["NODE", "NO_LAYERS", "Layer", "Layers", "profile_layer"]

NODE: Final = "node"
"""The layer of the values that this node sets for all its instances."""


def profile_layer(name: str) -> str:
    """The name of that profile's layer: ``profile db``."""
    return f"profile {name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Values for one driver's parameters: the layer's name, its file, and the table as read."""

    name: str
    file: str
    values: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """The layers between the driver's defaults and the instance, lowest first; ``problems`` are those of their files."""

    layers: tuple[Layer, ...] = ()
    problems: tuple[Problem, ...] = field(default=())

    @property
    def below(self) -> tuple[tuple[str, Any], ...]:
        """The layers as `Schema.problems` takes them."""
        return tuple((layer.name, layer.values) for layer in self.layers)

    def placed(self, problems: Iterable[Problem], params: Params | None = None) -> tuple[Problem, ...]:
        """The problems, with layer and file for those about a value that another layer set."""
        return tuple(self._placed(problem, params) for problem in problems)

    def _placed(self, problem: Problem, params: Params | None) -> Problem:
        if problem.where is not None:
            return problem
        for layer in self.layers:
            # `Schema.problems` found it in the layer itself; below, `params` knows the layer.
            if problem.path.startswith((f"{layer.name}.params.", f"{layer.name}.params[")) or (
                problem.path == f"{layer.name}.params"
            ):
                return replace(problem, where=layer.file)
        key = problem.path.removeprefix("params.")
        if params is not None and key in params and problem.path != key:
            name = params.layer(key)
            files = [layer.file for layer in self.layers if layer.name == name]
            if name not in (DEFAULT, INSTANCE) and files:
                return replace(problem, where=f"{name}, {files[0]}")
        return problem


NO_LAYERS: Final = Layers()
"""Nothing between the driver's defaults and the instance."""
