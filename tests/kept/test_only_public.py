"""The tests in this folder use no private name, so they stay valid when the private code changes."""

from __future__ import annotations

import ast
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import hvcore

FOLDER: Final = Path(__file__).parent
PACKAGES: Final = ("hvcore", "hv_kvm", "hv_chroot", "hv_fake")


def private(tree: ast.AST) -> Iterator[str]:
    """What the module imports of the inside, or reaches by way of ``hvcore``."""
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or "."]
        yield from (name for name in names if name.split(".")[0] in PACKAGES and name != "hvcore")
        if isinstance(node, ast.ImportFrom) and node.module == "hvcore":
            yield from (f"hvcore.{alias.name}" for alias in node.names if not public(alias.name))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "hvcore":
            yield from (f"hvcore.{name}" for name in (node.attr,) if not public(name))


def public(name: str) -> bool:
    return not isinstance(getattr(hvcore, name, types), types.ModuleType)


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.py")), ids=lambda path: path.name)
def test_nothing_private_is_used(path: Path) -> None:
    assert list(private(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "text", ["import hvcore.store", "from hv_kvm.spec import KvmSpec", "from hvcore import store", "hvcore.host.launch"]
)
def test_a_private_name_is_found(text: str) -> None:
    assert list(private(ast.parse(text))) != []
