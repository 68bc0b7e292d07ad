"""Every hook is specified with an example, and every example runs."""

from __future__ import annotations

import doctest
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import hv_kvm.hookspecs
import hvcore.plugins.hookspecs
from hvcore.plugins.hookspecs import PROJECT

MODULES = [hvcore.plugins.hookspecs, hv_kvm.hookspecs]


def specified() -> Iterator[tuple[str, Callable[..., Any]]]:
    for module in MODULES:
        for name, value in vars(module).items():
            if hasattr(value, f"{PROJECT}_spec"):
                yield f"{module.__name__}.{name}", value


HOOKS = dict(specified())


def test_the_hooks_are_found() -> None:
    assert {"hvcore.plugins.hookspecs.check", "hv_kvm.hookspecs.render"} <= set(HOOKS)


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_has_an_example_and_it_runs(name: str) -> None:
    hook = HOOKS[name]
    (example,) = doctest.DocTestFinder(recurse=False).find(hook, name, globs={})
    assert example.examples, f"{name} has no example"
    words: list[str] = []
    result = doctest.DocTestRunner(verbose=False).run(example, out=words.append)
    assert result.failed == 0, "".join(words)


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_can_be_called_with_its_arguments(name: str) -> None:
    """Arguments are passed by name, so none may be positional-only, variable, or have a default."""
    import inspect

    for parameter in inspect.signature(HOOKS[name]).parameters.values():
        assert parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        assert parameter.default is inspect.Parameter.empty
