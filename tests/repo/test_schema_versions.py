"""The next version number of a driver covers all changes of its parameters since the last release.

`released/DRIVER-VERSION.json` is the output of `hv params DRIVER --schema` of the last release. Each release writes a new
file, and the record that it writes as `released/records/VERSION.json`. Until the version is raised, a change needs a
changelog fragment of its kind.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Final

import pytest

import hvcore

TOP: Final = Path(__file__).resolve().parents[2]
RELEASED: Final = sorted(Path(__file__).with_name("released").glob("*.json"))
KINDS: Final = {
    hvcore.Bump.NONE: (),
    hvcore.Bump.PATCH: (),
    hvcore.Bump.MINOR: ("added", "changed", "deprecated"),
    hvcore.Bump.MAJOR: ("changed", "removed", "fixed"),
}


def due(before: str, now: str, changes: Sequence[hvcore.ParamChange], fragments: Sequence[str]) -> str | None:
    """The missing version or fragment for these changes, in words; None if nothing is missing.

    Before 1.0, breaking changes raise the second number, as in semantic versioning.
    """
    bump = hvcore.largest(tuple(changes))
    old, new = ([int(part) for part in version.split(".")] for version in (before, now))
    raised = [max(0, after - earlier) for earlier, after in zip(old, new, strict=True)]
    place = {hvcore.Bump.MAJOR: 0, hvcore.Bump.MINOR: 1}.get(bump, 2) + (1 if old[0] == 0 else 0)
    if bump is hvcore.Bump.NONE or any(raised[: place + 1]):
        return None
    if not any(raised) and (not KINDS[bump] or any(kind in name for name in fragments for kind in KINDS[bump])):
        return None
    lines = "\n".join(f"  {change.bump}: {change}" for change in changes if change.bump is bump)
    return f"{bump} changes since {before}; raise the version or add a {' or '.join(KINDS[bump])} fragment:\n{lines}"


@pytest.mark.parametrize("path", RELEASED, ids=lambda path: path.stem)
def test_changes_of_parameters_are_announced(path: Path, tmp_path: Path) -> None:
    driver, _, version = path.stem.partition("-")
    now = hvcore.Node(tmp_path).driver(driver).json_schema()
    changes = hvcore.compare_schemas(json.loads(path.read_text(encoding="utf-8")), now)
    fragments = [found.name for found in (TOP / f"changelog.d/hv-{driver}").glob("*.md")]
    assert due(version, metadata.version(f"hv-{driver}"), changes, fragments) is None


def test_every_driver_has_a_released_schema() -> None:
    ours = {"kvm", "chroot", "fake"} & {entry.name for entry in hvcore.catalogue()}
    assert ours <= {path.stem.partition("-")[0] for path in RELEASED}


GONE: Final = hvcore.ParamChange(key="p", kind="removed", bump=hvcore.Bump.MAJOR, what="gone")
MORE: Final = hvcore.ParamChange(key="p", kind="added", bump=hvcore.Bump.MINOR, what="new")


@pytest.mark.parametrize(
    ("before", "now", "change", "fragments", "is_due"),
    [
        ("0.1.0", "0.1.0", GONE, [], True),
        ("0.1.0", "0.1.0", GONE, ["7.added.md"], True),
        ("0.1.0", "0.1.0", GONE, ["7.removed.md"], False),
        ("0.1.0", "0.1.1", GONE, [], True),
        ("0.1.0", "0.2.0", GONE, [], False),
        ("1.1.0", "1.2.0", GONE, [], True),
        ("1.1.0", "2.0.0", GONE, [], False),
        ("0.1.0", "0.1.0", MORE, [], True),
        ("0.1.0", "0.1.0", MORE, ["7.added.md"], False),
        ("0.1.0", "0.1.1", MORE, [], False),
        ("1.1.0", "1.1.1", MORE, [], True),
        ("1.1.0", "1.2.0", MORE, [], False),
    ],
)
def test_what_is_due_follows_from_the_change(
    before: str, now: str, change: hvcore.ParamChange, fragments: list[str], *, is_due: bool
) -> None:
    assert (due(before, now, [change], fragments) is not None) is is_due
