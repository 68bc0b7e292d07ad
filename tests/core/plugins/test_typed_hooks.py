"""There is a typed decorator for each hook, with the hook's arguments."""

from __future__ import annotations

import inspect
import itertools
import types
import typing
from pathlib import Path
from typing import Any

import pytest

import hv_kvm.hookspecs
import hv_kvm.typed_hooks
from hvcore import Instance
from hvcore.plugin import impl
from hvcore.plugins import hookspecs
from hvcore.plugins.loader import load

PAIRS = [(hookspecs, impl), (hv_kvm.hookspecs, hv_kvm.typed_hooks)]


def specs_in(module: types.ModuleType) -> dict[str, Any]:
    return {name: item for name, item in vars(module).items() if hasattr(item, f"{hookspecs.PROJECT}_spec")}


@pytest.mark.parametrize(("specs", "typed"), PAIRS, ids=["core", "kvm"])
def test_there_is_one_for_each_hook(specs: types.ModuleType, typed: types.ModuleType) -> None:
    assert set(typed.__all__) == set(specs_in(specs))


@pytest.mark.parametrize(("specs", "typed"), PAIRS, ids=["core", "kvm"])
def test_each_takes_any_choice_of_the_hooks_arguments(specs: types.ModuleType, typed: types.ModuleType) -> None:
    stub = types.ModuleType(f"{typed.__name__}_stub")
    exec(Path(str(typed.__file__)).with_suffix(".pyi").read_text(encoding="utf-8"), vars(stub))  # what mypy reads
    for name, spec in specs_in(specs).items():
        bound = typing.get_type_hints(getattr(stub, name))["function"].__bound__
        found = {tuple(sorted(_arguments(choice))) for choice in typing.get_args(bound) or (bound,)}
        known = sorted(inspect.signature(spec).parameters)
        wanted = itertools.chain.from_iterable(itertools.combinations(known, size) for size in range(len(known) + 1))
        assert found == set(wanted), name


def _arguments(choice: Any) -> list[str]:
    return [name for name in inspect.signature(choice.__call__).parameters if name != "self"]


def test_the_function_may_have_any_name(install: Any) -> None:
    source = """
    import hvcore.plugin as hv

    @hv.impl.check
    def a_rule(params: hv.Params, instance: hv.Instance) -> list[hv.Problem]:
        return [hv.Problem(path="name", what=f"is {instance.name} and says {params['motd']}")]
    """
    install("hv-plus", "[hvcore.extensions]\nfake.plus = hv_plus\n", source)
    found = load("fake").problems(Instance(name="w", driver="fake"))[1]
    assert [str(problem) for problem in found] == ["name: is w and says hello"]
