"""The stubs of the typed decorators, ``typed_hooks.pyi``: what a type checker accepts as an implementation of a hook.

A function may take any choice of a hook's arguments. No type says that, so the stub has a protocol for each choice. Its
arguments are keywords, so their order in the function does not matter.
"""

from __future__ import annotations

import ast
import importlib.util
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["hook_types"]


def hook_types(module: str) -> str:
    """The stub for the hook specifications in that module."""
    found = importlib.util.find_spec(module)
    body = ast.parse(Path(str(found and found.origin)).read_text(encoding="utf-8")).body
    functions = [node for node in body if isinstance(node, ast.FunctionDef)]
    hooks = [node for node in functions if [ast.unparse(mark) for mark in node.decorator_list] == ["hookspec"]]
    parts = [part for hook in hooks for part in _parts(hook)]
    return "\n".join([*_imports(body, "\n".join(parts)), *parts])


def _imports(body: list[ast.stmt], text: str) -> Iterator[str]:
    """The specifications' own imports, as far as the stub needs them: of the standard library, then of others."""
    named = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    found = {"typing": {"Protocol", "TypeVar"} & named}
    for node in body:
        if isinstance(node, ast.ImportFrom):
            found.setdefault(str(node.module), set()).update({item.name for item in node.names} & named)
    for standard in (True, False):
        for source, names in sorted(found.items()):
            if names and (source.split(".")[0] in sys.stdlib_module_names) is standard:
                yield f"from {source} import {', '.join(sorted(names))}"
        yield ""


def _parts(hook: ast.FunctionDef) -> Iterator[str]:
    """A protocol for each choice of arguments, a type variable for any of them, the decorator."""
    arguments = [ast.unparse(argument) for argument in hook.args.args]
    result = ast.unparse(hook.returns or ast.Constant(None))
    result += " | None" if result.startswith("Iterable[") else ""  # an implementation may have nothing to say
    choices = [some for size in range(len(arguments) + 1) for some in itertools.combinations(arguments, size)]
    kind = f"_{hook.name.title().replace('_', '')}"
    for number, choice in enumerate(choices):
        taken = ", ".join(["self", *(["*"] if choice else []), *choice])
        yield f"class {kind}{number}(Protocol):\n    def __call__({taken}) -> {result}: ...\n"
    bound = " | ".join(f"{kind}{number}" for number in range(len(choices)))
    yield f'{kind} = TypeVar("{kind}", bound={bound})\n'
    yield f"def {hook.name}(function: {kind}) -> {kind}: ...\n"
