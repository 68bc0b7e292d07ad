"""A contract for import-linter: the whole list of what a package may import, so that what is new is refused."""

from __future__ import annotations

import sys
from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output

__all__ = ["MayUse"]


class MayUse(Contract):
    """``modules`` import only each other, the standard library, and what ``allowed`` names.

    In both lists ``a.b`` is that module alone and ``a.b.*`` also what is below it. Of third-party packages the name
    of the top is given. Imports inside functions count.
    """

    type_name = "may_use"

    modules = fields.ListField(subfield=fields.StringField())
    allowed = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: FBT001 - import-linter's signature
        """Whether it holds; in the metadata each import that is not allowed, as ``a.b (line 3): imports c.d``."""
        options: dict[str, list[str]] = self.contract_options
        sources = _matching(options["modules"], graph.modules)
        allowed = sources | _matching(options["allowed"], graph.modules)
        found = [
            f"{importer} (line {detail['line_number']}): imports {imported}"
            for importer in sorted(sources)
            for imported in sorted(graph.find_modules_directly_imported_by(importer) - allowed)
            if imported not in sys.stdlib_module_names
            for detail in graph.get_import_details(importer=importer, imported=imported)
        ]
        return ContractCheck(kept=not found, metadata={"found": found})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """One line for each import that is not allowed."""
        found: list[Any] = check.metadata["found"]
        for line in found:
            output.print(line)


def _matching(patterns: list[str], modules: set[str]) -> set[str]:
    tops = {pattern.removesuffix(".*") for pattern in patterns}
    below = tuple(pattern.removesuffix("*") for pattern in patterns if pattern.endswith(".*"))
    return {module for module in modules if module in tops or (below and module.startswith(below))}
