"""A name that is to go warns the one who uses it, with the release that removes it."""

from __future__ import annotations

import ast
import warnings
from pathlib import Path
from types import ModuleType

import pytest

import hvcore
import hvcore.params
from hvcore.moved import Moved, by_home, moved_names

OLD = moved_names(
    "hvcore", {"Machine": Moved(target="hvcore:Instance", removed_in="0.4")}, late={"Late": "hvcore.errors:HvError"}
)


def test_an_old_name_works_and_says_until_when() -> None:
    with pytest.warns(DeprecationWarning, match="goes in hvcore 0.4") as caught:
        assert OLD("Machine") is hvcore.Instance
    (warning,) = caught
    assert str(warning.message) == "hvcore.Machine: is deprecated and goes in hvcore 0.4; use hvcore.Instance"
    assert warning.filename == __file__


def test_a_late_name_is_had_when_it_is_asked_for() -> None:
    assert OLD("Late") is hvcore.HvError
    assert [name for name in hvcore.__all__ if not hasattr(hvcore, name)] == []


def test_any_other_name_is_an_error_as_always() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(AttributeError, match="module 'hvcore' has no attribute 'nothing'"):
            hvcore.nothing  # type: ignore[attr-defined]  # noqa: B018 - the access is what is tested


@pytest.mark.parametrize("package", [hvcore, hvcore.params], ids=lambda package: package.__name__)
def test_what_a_type_checker_reads_is_where_late_names_come_from(package: ModuleType) -> None:
    tree = ast.parse(Path(str(package.__file__)).read_text(encoding="utf-8"))
    (told,) = (node for node in tree.body if isinstance(node, ast.If))
    homes = {
        alias.name: f"{node.module}:{alias.name}"
        for node in told.body
        if isinstance(node, ast.ImportFrom) and node.module != package.__name__
        for alias in node.names
        if alias.asname is None
    }
    assert by_home(package._LATE) == homes
    assert set(homes) <= set(package.__all__)
