"""The definitions of a node: the instances that it should have, each in a file under its name."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hvcore.config import file_text
from hvcore.deadline import Deadline
from hvcore.errors import InputError
from hvcore.host.definition_files import DefinitionFiles
from hvcore.model.definitions.definition import Definition, DefinitionOutcome
from hvcore.model.definitions.toml_text import TomlTextError, toml_of
from hvcore.model.instance import Instance
from hvcore.operations.context import Context
from hvcore.operations.definitions import define as definitions

__all__ = ["Definitions"]


class Definitions:
    """The files NAME.toml in directory ``instances`` of the node's configuration. Get it as ``node.definitions``.

    Nothing is cached, and the files may be changed by other programs too. Each change here is checked with the driver
    first. A crash at any point leaves the old or the new definition.
    """

    def __init__(self, context: Context, directory: Path, checks: definitions.Checks) -> None:
        self.directory = directory
        self._context = context
        self._files = DefinitionFiles(directory)
        self._checks = checks

    def names(self) -> list[str]:
        """The names of all definitions, sorted, also of those that cannot be used. Raises `NodeError`."""
        return self._files.names()

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._files.names()

    def path(self, name: str) -> Path:
        """The file of the definition of that name, which does not have to exist."""
        return self._files.path(name)

    def entries(self) -> list[Definition]:
        """Every definition, sorted by name. One that cannot be used is among them, with its problem. Raises `NodeError`."""
        return [definitions.definition(self._files, name, self._checks) for name in self.names()]

    def get(self, name: str) -> Definition:
        """One definition, with its problem if it has one. Raises `NotFoundError`."""
        return definitions.definition(self._files, name, self._checks)

    def text(self, name: str) -> str:
        """The text of the definition, as it is in its file. Raises `NotFoundError`, `InstanceFileError`."""
        return definitions.read_text(self._files, name)

    def instance(self, name: str) -> Instance:
        """The instance that the definition defines, checked with its driver, with its secrets.

        Raises `NotFoundError`, and `InputError` with every problem. Start it with ``source=definitions.path(name)``.
        """
        return definitions.instance_of(self._files, name, self._checks)

    def define(
        self,
        source: str | os.PathLike[str] | Mapping[str, Any] | Instance,
        *,
        replace: bool = False,
        autostart: bool | None = None,
    ) -> DefinitionOutcome:
        """Make a definition of a file, of plain data or of an instance. Its name is the one inside.

        Comments in the file are kept, and relative paths become absolute. With ``autostart`` that key is set. Raises
        `InputError` with every problem, and if another definition has the name, unless it may ``replace`` it.
        """
        if isinstance(source, str | os.PathLike):
            path = os.fspath(source)
            return self.define_text(
                file_text(path, protected=False),
                subject=repr(path),
                directory=os.path.dirname(os.path.abspath(path)),
                replace=replace,
                autostart=autostart,
            )
        data = source.to_json() if isinstance(source, Instance) else source
        try:
            text = toml_of(data)
        except TomlTextError as error:
            raise InputError(f"instance: {error}; give values that a TOML file can have") from error
        return self.define_text(text, subject="instance", directory=None, replace=replace, autostart=autostart)

    def define_text(
        self, text: str, *, subject: str, directory: str | None, replace: bool = False, autostart: bool | None = None
    ) -> DefinitionOutcome:
        """Like `define`, for the text of an instance file; ``subject`` names it in errors, its paths begin at ``directory``.

        Without a directory, relative paths are refused.
        """
        source = definitions.Source(text=text, subject=subject, directory=directory)
        return definitions.define(
            self._context, self._files, self._checks, source, replace=replace, autostart=autostart
        )

    def change(self, name: str, edit: Callable[[str], str]) -> DefinitionOutcome:
        """Replace the text of a definition by ``edit`` of its text, if the result passes every check.

        ``edit`` has to be fast: it excludes other writers. Raises `NotFoundError`, `InputError`, and what ``edit`` raises.
        """
        return definitions.change(self._context, self._files, self._checks, name, edit)

    def autostart(self, name: str, *, on: bool = True) -> DefinitionOutcome:
        """Whether the node's boot starts the instance. Raises `NotFoundError`, `InputError`."""
        return definitions.autostart(self._context, self._files, self._checks, name, on=on)

    def rename(self, old: str, new: str, *, deadline_s: float = 10.0) -> DefinitionOutcome:
        """Give a definition another name. The uuid is kept, and so are MAC addresses that follow from it.

        Raises `NotFoundError`, `InputError`, and `StateError` unless both instances are stopped.
        """
        deadline = Deadline(deadline_s)
        return definitions.rename(self._context, self._files, self._checks, old, new, deadline=deadline)

    def remove(self, name: str) -> DefinitionOutcome:
        """Remove a definition. An instance that runs goes on, and a note says so. Raises `NotFoundError`."""
        return definitions.remove(self._context, self._files, name)
