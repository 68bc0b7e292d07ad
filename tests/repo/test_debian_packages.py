"""Debian packages are made of wheels: names, versions, relations, and the place of each file."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest
from debian_packages import Wheel, control, debian_version, documents, lay_out, needed, place_of, relations
from packaging.requirements import Requirement

MODULES: Final = "usr/lib/hvcore/lib/python3/site-packages"
METADATA: Final = """\
Metadata-Version: 2.4
Name: Hv_Acme
Version: 1.2rc1
Summary: A driver of another author.
License-Expression: MIT
Requires-Dist: hvcore<0.2,>=0.1
Requires-Dist: pytest; extra == "test"
"""


def wheel(
    folder: Path, files: Mapping[str, str] | None = None, *, name: str = "hv_acme", points: str = "", requires: str = ""
) -> Wheel:
    path = folder / f"{name}-1.2rc1-py3-none-any.whl"
    info = f"{name}-1.2rc1.dist-info"
    texts = {f"{info}/METADATA": METADATA + requires, f"{info}/RECORD": "", f"{info}/entry_points.txt": points}
    with zipfile.ZipFile(path, "w") as archive:
        for place, text in {**texts, **(files or {})}.items():
            archive.writestr(place, text)
    return Wheel.read(path)


@pytest.mark.parametrize(
    ("version", "debian"),
    [
        ("0.1.0", "0.1.0"),
        ("0.2.0rc1", "0.2.0~rc1"),
        ("0.2.0.dev3", "0.2.0~dev3"),
        ("1.0b2", "1.0~b2"),
        ("1.0.post1", "1.0.post1"),
        ("2!1.0", "2:1.0"),
        ("1.0+local.1", "1.0+local.1"),
    ],
)
def test_a_version_sorts_in_debian_as_in_python(version: str, debian: str) -> None:
    assert debian_version(version) == debian


@pytest.mark.parametrize(
    ("requirement", "depends"),
    [
        ("hvcore>=0.1,<0.2", "hvcore (>= 0.1), hvcore (<< 0.2)"),
        ("hvcore", "hvcore"),
        ("hvcore==0.1.0", "hvcore (= 0.1.0)"),
        ("hvcore>0.1", "hvcore (>> 0.1)"),
        ("hvcore>=0.1rc1", "hvcore (>= 0.1~rc1)"),
        ("hvcore!=0.1.1,>=0.1", "hvcore (>= 0.1)"),
    ],
)
def test_a_range_of_hvcore_becomes_a_dependency(requirement: str, depends: str) -> None:
    assert relations(Requirement(requirement)) == depends


def test_a_driver_of_another_author_becomes_a_package(tmp_path: Path) -> None:
    own = wheel(tmp_path, {"hv_acme/plugin.py": "x = 1\n"}, points="[hvcore.drivers]\nacme = hv_acme.plugin:Driver\n")
    tree = tmp_path / "tree"
    lay_out(tree, [own])
    documents(tree, own, [own])
    control(tree, own)
    files = {path.relative_to(tree / MODULES).as_posix() for path in (tree / MODULES).rglob("*") if path.is_file()}
    info = "hv_acme-1.2rc1.dist-info"
    assert files == {"hv_acme/plugin.py", *(f"{info}/{name}" for name in ("METADATA", "INSTALLER", "entry_points.txt"))}
    text = (tree / "DEBIAN/control").read_text(encoding="utf-8")
    assert "Package: hv-acme\nVersion: 1.2~rc1\nArchitecture: all\n" in text
    assert "\nDepends: hvcore (>= 0.1), hvcore (<< 0.2)\n" in text
    assert "' acme " in (tree / "DEBIAN/prerm").read_text(encoding="utf-8"), (
        "it is not removed under a running instance"
    )
    assert "Hv_Acme 1.2rc1: MIT" in (tree / "usr/share/doc/hv-acme/copyright").read_text(encoding="utf-8")
    assert not (tree / "DEBIAN/postrm").exists(), "only hvcore removes the run directory"


def test_a_package_of_an_extension_can_be_removed_at_any_time(tmp_path: Path) -> None:
    own = wheel(tmp_path, {"hv_acme/plugin.py": ""}, points="[hvcore.extensions]\nkvm.acme = hv_acme.plugin\n")
    control(tmp_path / "tree", own)
    script = (tmp_path / "tree/DEBIAN/prerm").read_text(encoding="utf-8")
    assert "hv list" not in script
    assert "dpkg -L hv-acme" in script


def test_an_extension_takes_its_driver_from_the_wheels_that_were_given(tmp_path: Path) -> None:
    own = wheel(tmp_path, requires="Requires-Dist: hv_kvm>=0.1\nRequires-Dist: tomlkit\n")
    assert needed(own, ["hvcore", "hv-kvm"]) == ["hv-kvm"]
    with pytest.raises(SystemExit, match="requires hv-kvm; give the wheel of hv-kvm before this one"):
        needed(own, ["hvcore"])


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("hv_acme/a.py", f"{MODULES}/hv_acme/a.py"),
        ("hv_acme-1.data/purelib/b.py", f"{MODULES}/b.py"),
        ("hv_acme-1.data/data/share/man/man1/a.1", "usr/share/man/man1/a.1"),
        ("hv_acme-1.data/data/etc/a.toml", "usr/lib/hvcore/etc/a.toml"),
    ],
)
def test_each_file_of_a_wheel_has_its_place(tmp_path: Path, name: str, place: str) -> None:
    assert place_of(name, wheel(tmp_path)) == place


@pytest.mark.parametrize(
    "name", ["../etc/passwd", "/etc/passwd", "a/../../b", "x.data/scripts/run", "x.data/headers/a.h"]
)
def test_a_file_without_a_place_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SystemExit, match=r"leads out|has no place"):
        place_of(name, wheel(tmp_path))


def test_two_wheels_with_the_same_file_are_refused(tmp_path: Path) -> None:
    one, two = (wheel(tmp_path, {"shared.py": ""}, name=name) for name in ("hv_acme", "hv_other"))
    with pytest.raises(SystemExit, match="comes with another wheel too"):
        lay_out(tmp_path / "tree", [one, two])


@pytest.mark.parametrize(
    "tags", ["cp311-cp311-linux_x86_64", "cp311-abi3-manylinux_2_28_x86_64", "py3-none-linux_x86_64"]
)
def test_a_wheel_for_one_platform_is_refused(tmp_path: Path, tags: str) -> None:
    path = tmp_path / f"hv_acme-1.0-{tags}.whl"
    path.write_bytes(b"")
    with pytest.raises(SystemExit, match="not pure Python"):
        Wheel.read(path)
