"""A small program beside an instance that keeps the end of its output, in bounded space."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

from hvcore.errors import OperationError
from hvcore.host import output_reader
from hvcore.model.plan import Step
from hvcore.model.record import Entry
from hvcore.model.resource import OutputHistory, Program
from hvcore.model.sandbox import Level
from hvcore.resources.held import Held
from hvcore.resources.kind import ResourceKind, Turn
from hvcore.resources.owner import Owner, Site
from hvcore.resources.program import end_program, launch_program, prove_program

__all__ = ["OutputHistoryKind"]

_PYTHON: Final = "/usr/bin/python3"


class OutputHistoryKind(ResourceKind[OutputHistory, str], name="output-history", turn=Turn.PROGRAM, runs=True):
    """Without this program an instance only loses its history, so no start fails for it."""

    def describe(self, resource: OutputHistory, site: Site) -> Iterator[Step]:
        """One step: the program is launched."""
        own = ", with the uid of the guest" if site.level is Level.STRICT else ""
        keeps = f"keeps the last {resource.keep_bytes >> 10} KiB of output in {resource.file or resource.also}"
        yield Step(kind="launch", what=f"a reader beside the instance{own}, which {keeps}; it ends with the guest")

    def entry(self, resource: OutputHistory, site: Site) -> Mapping[str, Any]:
        """The name that its files in the instance's directory begin with."""
        return {"name": resource.key}

    def acquire(self, resource: OutputHistory, held: Held) -> str:
        """Launch the reader; the writing end of its pipe."""
        return launch_program(_program(resource), held, held.site.level)

    def prove(self, resource: OutputHistory, site: Site, owner: Owner) -> None:
        """Record its process, and check how it is confined. A reader that has ended is reported in a note."""
        try:
            prove_program(_program(resource), owner, site.level)
        except OperationError as error:
            owner.remarks.append(f"its output is not kept ({error})")

    def release(self, entry: Entry, owner: Owner) -> None:
        """Wait for the reader, which exits at the end of the output; then kill it."""
        end_program(entry, owner)


def _program(resource: OutputHistory) -> Program:
    script = os.path.realpath(output_reader.__file__)
    return Program(
        key=resource.key,
        given_by=resource.given_by,
        binary=os.path.realpath(sys.executable or _PYTHON),
        package="python3",
        arguments=(
            "-I",
            "-S",
            script.replace("{", "{{").replace("}", "}}"),
            "{fd}",
            "-1" if resource.file is None else "{output}",
            str(resource.keep_bytes),
            *(() if resource.also is None else ("{also}",)),
        ),
        owner=resource.owner,
        reads=(script,),
        pipe=True,
        output=resource.file,
        also=resource.also,
    )
