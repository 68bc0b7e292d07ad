"""A loaded driver at work: the parameters of all its plugins, and what it says for itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hvcore.errors import ParamsError, Problem
from hvcore.host.environment import Host
from hvcore.host.node_checks import node_problems
from hvcore.model.finding import Finding, Severity
from hvcore.model.instance import Instance
from hvcore.model.layers import NO_LAYERS, Layers
from hvcore.params.schema import Schema
from hvcore.params.values import Params
from hvcore.plugins.catalogue import CatalogueEntry
from hvcore.plugins.driver_calls import AskedDriver
from hvcore.plugins.hooks import Hooks
from hvcore.plugins.protocols import Driver

__all__ = ["LoadedDriver"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedDriver(AskedDriver):
    """A driver ready for use: itself, its hooks, and the schema of all its parameters."""

    entry: CatalogueEntry
    driver: Driver
    hooks: Hooks
    schema: Schema
    extensions: tuple[CatalogueEntry, ...]
    skipped: tuple[str, ...] = ()

    def problems(self, instance: Instance, layers: Layers = NO_LAYERS) -> tuple[Params | None, tuple[Problem, ...]]:
        """The instance's parameters with the layers below and the defaults filled in, and everything that is wrong.

        Pure: the layers are given.
        """
        found: Sequence[Problem]
        params, found = self.schema.problems(instance.params, below=layers.below)
        if params is not None:
            found = self.hooks.gathered("check", Problem, instance=instance, params=params)
        problems = (*layers.problems, *layers.placed(found, params)) if found or layers.problems else ()
        return (None if problems else params), problems

    def check(self, instance: Instance, layers: Layers = NO_LAYERS) -> Params:
        """The instance's parameters, complete and typed. Raises `ParamsError` with every problem at once."""
        if instance.driver != self.name:
            wrong = Problem(path="driver", what=f"is not {self.name}", got=repr(instance.driver))
            raise ParamsError(instance.name, [wrong])
        params, problems = self.problems(instance, layers)
        if params is None:
            raise ParamsError(instance.name, problems)
        return params

    def warnings(self, instance: Instance, params: Params, layers: Layers = NO_LAYERS) -> tuple[Problem, ...]:
        """What works and is rarely wanted. Pure, and fails for nothing: a plugin's own failure is a warning too."""
        found = [
            item
            if isinstance(item, Problem)
            else Problem(path=f"plugin {plugin}", what=f"its warnings could not be had ({item})")
            for plugin, item in self.hooks.attempts("assess", Problem, instance=instance, params=params)
        ]
        found += [
            Problem(path=f"params.{key}", what=str(farewell))
            for key, param in self.schema.params.items()
            if key in params.given and (farewell := param.farewell) is not None
        ]
        return layers.placed(found, params)

    def without_secrets(self, instance: Instance) -> Instance:
        """The instance as it may be written down: secret parameters are left out."""
        secret = {key for key, param in self.schema.params.items() if param.secret}
        kept = {key: value for key, value in instance.params.items() if key not in secret}
        return instance if len(kept) == len(instance.params) else replace(instance, params=kept)

    def verify(self, spec: object, params: Params, host: Host) -> tuple[Problem, ...]:
        """Everything that keeps this node from running it: parameters that name files, then what the driver finds.

        Of a file that is refused as a parameter already, the driver's finding is no news.
        """
        found = self.found_by_driver(spec, host)
        refused = tuple(node_problems(self.schema, params))
        told = {problem.got for problem in refused}
        return (*refused, *(problem for problem in found if problem.got is None or problem.got not in told))

    def examine(self, host: Host) -> tuple[Finding, ...]:
        """What the driver says of this node, and which of its hooks' implementations are to go."""
        found = [
            Finding(subject=where, severity=Severity.NOTE, what=f"is deprecated: {words}")
            for where, words in self.hooks.deprecated()
        ]
        found += self.told_by_driver(host)
        return tuple(found)
