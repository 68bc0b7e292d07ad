"""The catalogue lists installed drivers with their verdicts, without importing any of them."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from distributions import installed

from hvcore import CatalogueEntry, DriverLoadError, Verdict, catalogue
from hvcore.plugins.loader import load

ENTRY = "[hvcore.drivers]\n{0} = {1}:Driver\n"


def found(name: str) -> list[CatalogueEntry]:
    return [entry for entry in catalogue() if entry.name == name]


def test_an_installed_driver_is_listed_with_its_distribution(install) -> None:  # type: ignore[no-untyped-def]
    install("hv-acme", ENTRY.format("acme", "hv_acme"), version="3.1")
    (entry,) = found("acme")
    assert entry.to_json() == {
        "name": "acme",
        "target": "hv_acme:Driver",
        "distribution": "hv-acme",
        "version": "3.1",
        "requires": ">=0.1,<0.2" if ">=0.1,<0.2" in entry.requires else "<0.2,>=0.1",
        "verdict": "ok",
        "reason": None,
    }


@pytest.mark.heavy
def test_listing_imports_no_driver_and_loading_one_imports_only_that_one() -> None:
    code = (
        "import sys, hvcore\n"
        "names = {entry.name for entry in hvcore.catalogue()}\n"
        "assert {'fake', 'kvm', 'chroot'} <= names, names\n"
        "assert not {'hv_fake', 'hv_kvm', 'hv_chroot'} & set(sys.modules)\n"
        "hvcore.Node('/nonexistent/run').driver('fake')\n"
        "assert {'hv_fake', 'hv_kvm', 'hv_chroot'} & set(sys.modules) == {'hv_fake'}\n"
    )
    run = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("between", [False, True], ids=["adjacent", "apart"])
def test_two_distributions_with_one_name_are_both_named(install, between: bool) -> None:  # type: ignore[no-untyped-def]  # noqa: FBT001
    install("hv-one", ENTRY.format("acme", "hv_one"))
    if between:
        install("hv-other", ENTRY.format("other", "hv_other"))
    install("hv-two", ENTRY.format("acme", "hv_two"), version="2.0")
    entries = found("acme")
    assert [entry.verdict for entry in entries] == [Verdict.DUPLICATE] * 2
    assert {entry.reason for entry in entries} == {"declared by hv-one 1.0 and hv-two 2.0; uninstall all but one"}
    assert found("fake")[0].verdict is Verdict.OK


@pytest.mark.parametrize(
    ("requires", "verdict", "todo"),
    [
        ("hvcore>=99", Verdict.TOO_NEW, "upgrade hvcore"),
        ("hvcore<0.1", Verdict.TOO_OLD, "upgrade the driver"),
        ("hvcore (>=99)", Verdict.TOO_NEW, "upgrade hvcore"),
        ("hvcore[cli]~=0.0.1", Verdict.TOO_OLD, "upgrade the driver"),
    ],
)
def test_a_driver_for_another_hvcore_has_a_verdict(install, requires: str, verdict: Verdict, todo: str) -> None:  # type: ignore[no-untyped-def]
    install("hv-acme", ENTRY.format("acme", "hv_acme"), requires=requires)
    (entry,) = found("acme")
    assert entry.verdict is verdict
    assert str(entry.reason).endswith(todo)


def test_a_requirement_whose_marker_does_not_hold_here_is_ignored(install) -> None:  # type: ignore[no-untyped-def]
    install("hv-acme", ENTRY.format("acme", "hv_acme"), requires='hvcore>=99; python_version < "3"')
    (entry,) = found("acme")
    assert (entry.requires, entry.verdict) == ("", Verdict.OK)


def test_an_invalid_requirement_refuses_only_its_own_driver(install) -> None:  # type: ignore[no-untyped-def]
    install("hv-acme", ENTRY.format("acme", "hv_acme"), requires="hvcore>=0.1,<zwei")
    install("hv-other", ENTRY.format("other", "hv_other"), requires="hvcore>=0.1\nRequires-Dist: ???")
    assert [entry.verdict for entry in found("other") + found("fake")] == [Verdict.OK, Verdict.OK]
    (entry,) = found("acme")
    assert entry.verdict is Verdict.BROKEN
    assert entry.reason == "its requirement 'hvcore>=0.1,<zwei' is not valid; report this to its authors"
    with pytest.raises(DriverLoadError, match="is not valid; report this to its authors"):
        load("acme")


@pytest.mark.parametrize("version", ["one", "2021-may", "1.0-", ""])
def test_an_invalid_version_is_listed_and_hides_no_other_driver(install, driver_source: str, version: str) -> None:  # type: ignore[no-untyped-def]
    install("hv-acme", ENTRY.format("acme", "hv_acme"), driver_source.format(name="acme"), version=version)
    install("other", "", version=version)
    (entry,) = found("acme")
    assert (entry.version, entry.verdict) == (version, Verdict.OK)
    assert found("fake")[0].verdict is Verdict.OK
    assert load("acme").name == "acme"


def test_an_operator_can_block_all_but_some_drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HVCORE_DRIVERS", "fake, other")
    verdicts = {entry.name: entry.verdict for entry in catalogue()}
    assert verdicts["fake"] is Verdict.OK
    assert verdicts["kvm"] is Verdict.BLOCKED
    assert "not in HVCORE_DRIVERS='fake, other'; add it there" in str(found("kvm")[0].reason)
    monkeypatch.setenv("HVCORE_DRIVERS", "")
    assert {entry.verdict for entry in catalogue()} == {Verdict.BLOCKED}


@pytest.mark.heavy
@pytest.mark.parametrize("line", ["acme", "acme = hv_torn:Driver\nno equals sign here"])
def test_damaged_entry_points_are_listed_as_broken_and_break_no_other_driver(install, line: str) -> None:  # type: ignore[no-untyped-def]
    """Python's own scan fails for all distributions then. Damage in another project must not affect drivers."""
    install("hv-torn", f"[hvcore.drivers]\n{line}\n[hvcore.extensions]\nfake.plus = hv_torn\n")
    install("other", "[console_scripts]\nbroken\n")
    assert found("fake")[0].verdict is Verdict.OK
    (entry,) = found("acme")
    assert (entry.verdict, entry.distribution) == (Verdict.BROKEN, "hv-torn")
    assert "hv_torn-1.0.dist-info cannot be read" in str(entry.reason)
    assert [(one.name, one.verdict) for one in catalogue("hvcore.extensions") if one.name.startswith("fake.")] == [
        ("fake.plus", Verdict.BROKEN)
    ]
    assert "broken" not in {one.name for one in catalogue()}


def test_entry_points_that_are_not_utf_8_break_no_other_driver(install) -> None:  # type: ignore[no-untyped-def]
    path: Path = install("hv-torn", ENTRY.format("acme", "hv_torn"))
    next(path.parent.glob("*.dist-info/entry_points.txt")).write_bytes(b"[hvcore.drivers]\nacme = hv_\xff:Driver\n")
    assert found("fake")[0].verdict is Verdict.OK
    assert [entry.verdict for entry in found("acme")] == [Verdict.BROKEN]


def test_a_distribution_with_damaged_metadata_breaks_no_other_driver(install) -> None:  # type: ignore[no-untyped-def]
    for name in ("hv-torn", "hv-good"):
        path: Path = install(name, ENTRY.format("acme", name.replace("-", "_")))
        if name == "hv-torn":
            next(path.parent.glob("*.dist-info/METADATA")).write_text("")
    assert found("fake")[0].verdict is Verdict.OK
    assert {entry.verdict for entry in found("acme")} == {Verdict.DUPLICATE}


@pytest.mark.parametrize("name", ["Bad Name/../x", "UPPER", "1st", "-x", "a" * 65])
def test_an_entry_point_that_is_not_named_like_a_driver_is_refused(install: Any, name: str) -> None:
    install("hv-odd", f"[hvcore.drivers]\n{name} = hv_odd:Driver\n")
    (entry,) = [one for one in catalogue() if one.distribution == "hv-odd"]
    assert entry.verdict is Verdict.BROKEN
    assert f"its entry point is not named like a driver, got {name!r}; use a-z" in str(entry.reason)


@pytest.mark.parametrize("entry_points", ["", "[console_scripts]\nacme = hv_acme:main\n"], ids=["none", "others"])
def test_the_first_of_a_name_on_the_path_counts_also_if_it_has_no_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry_points: str
) -> None:
    for folder, points in (("second", ENTRY.format("acme", "hv_acme")), ("first", entry_points)):
        installed(tmp_path / folder, "HV.acme" if points else "hv-acme", points)
        monkeypatch.syspath_prepend(str(tmp_path / folder))
    assert found("acme") == []


class _InMemory(metadata.Distribution):
    """A distribution without files, as other finders than that of the path have."""

    def __init__(self, **texts: str) -> None:
        self.texts = texts

    def read_text(self, filename: str) -> str | None:
        return self.texts.get(filename.removesuffix(".txt"))

    def locate_file(self, path: Any) -> Any:
        raise FileNotFoundError(path)


class _Unreadable(_InMemory):
    def read_text(self, filename: str) -> str | None:
        raise OSError(5, "Input/output error", filename)


@pytest.mark.parametrize("other", [_InMemory(), _Unreadable()], ids=["empty", "unreadable"])
def test_a_driver_without_files_is_found_beside_a_distribution_that_says_nothing(
    monkeypatch: pytest.MonkeyPatch, other: metadata.Distribution
) -> None:
    text = {"METADATA": "Metadata-Version: 2.1\nName: hv-acme\nVersion: 1.0\nRequires-Dist: hvcore>=0.1\n"}
    here = _InMemory(**text, entry_points=ENTRY.format("acme", "hv_acme"))

    class Finder(metadata.DistributionFinder):
        def find_distributions(self, context: Any = None) -> list[metadata.Distribution]:
            return [other, here]

        def find_spec(self, *_: object) -> None:
            return None

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder()])
    (entry,) = found("acme")
    assert (entry.distribution, entry.version, entry.verdict) == ("hv-acme", "1.0", Verdict.OK)
    assert found("fake")[0].verdict is Verdict.OK
