"""The contract that lists the allowed imports of a package finds imports that are not in the list."""

from __future__ import annotations

from grimp import ImportGraph
from may_use import MayUse


def found(graph: ImportGraph, *allowed: str) -> list[str]:
    options = {"modules": ["mine.*"], "allowed": list(allowed)}
    check = MayUse(name="mine", session_options={}, contract_options=options).check(graph, verbose=False)
    lines: list[str] = check.metadata["found"]
    assert check.kept is not bool(lines)
    return lines


def graph(*imported: str) -> ImportGraph:
    made = ImportGraph()
    for line, name in enumerate(imported, 1):
        made.add_import(importer="mine.work", imported=name, line_number=line, line_contents=f"import {name}")
    return made


def test_only_what_is_listed_may_be_used() -> None:
    made = graph("core", "core.inside", "json", "click", "yaml", "mine.other")
    assert found(made, "core", "click") == [
        "mine.work (line 2): imports core.inside",
        "mine.work (line 5): imports yaml",
    ]


def test_what_is_below_a_module_is_another_entry() -> None:
    assert found(graph("core", "core.inside"), "core.*") == []
    assert found(graph("core.inside"), "core") == ["mine.work (line 1): imports core.inside"]
