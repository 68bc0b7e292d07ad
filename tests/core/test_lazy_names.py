"""The public names by role: each stub is the one list, which type checkers read and the module too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import hv_kvm.plugin
import hvcore
import hvcore.plugin
from hvcore.lazy_names import lazy_names

ROLES = pytest.mark.parametrize("role", [hvcore, hvcore.plugin, hv_kvm.plugin], ids=lambda role: role.__name__)


@ROLES
def test_every_name_of_the_list_can_be_had(role: ModuleType) -> None:
    assert dir(role)
    assert [name for name in dir(role) if getattr(role, name, None) is None] == []


@ROLES
def test_every_name_is_written_down_once_and_says_what_it_is(role: ModuleType) -> None:
    lines = Path(str(role.__file__)).with_suffix(".pyi").read_text("utf-8").splitlines()
    names = [line.split()[-1] for line in lines if line.startswith("from ")]
    assert len(names) == len(set(names))
    assert sorted("impl" if name == "_typed_hooks" else name for name in names) == dir(role)


@ROLES
def test_any_other_name_is_an_error_as_always(role: ModuleType) -> None:
    with pytest.raises(AttributeError, match=f"module '{role.__name__}' has no attribute 'nothing'"):
        role.nothing  # noqa: B018 - the access is what is tested
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        exec(f"from {role.__name__} import nothing")


def test_a_name_is_imported_when_it_is_first_used() -> None:
    code = (
        "import sys, hvcore.plugin; before = set(sys.modules); hvcore.plugin.Problem; print(*set(sys.modules) - before)"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "hvcore.errors" in found
    assert {name for name in found if name.startswith("hvcore.")} == {
        "hvcore.errors",
        "hvcore.frozen",
        "hvcore.headline",
        "hvcore.plain",
    }


def test_both_roles_have_the_same_thing_by_one_name() -> None:
    both = {*dir(hvcore)} & {*dir(hvcore.plugin)}
    assert {"Instance", "Params", "Problem", "State", "HvError"} <= both
    assert [name for name in both if getattr(hvcore, name) is not getattr(hvcore.plugin, name)] == []


def test_a_list_has_names_of_modules_and_a_module_under_another_name(tmp_path: Path) -> None:
    (tmp_path / "mine.pyi").write_text(
        "# Words.\n\nfrom hvcore.units import parse_mib as parse_mib\nfrom hvcore import units as _units\n\nsizes = _units\n"
    )
    module = sys.modules["mine"] = ModuleType("mine")
    try:
        get, names = lazy_names("mine", str(tmp_path / "mine.py"))
        assert names() == ["parse_mib", "sizes"]
        assert get("parse_mib") is get("sizes").parse_mib
        assert {"parse_mib", "sizes"} <= vars(module).keys()
    finally:
        del sys.modules["mine"]
