"""Editing a definition: a draft in a file beside it, the user's editor, and a check before it is saved."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import click

import hvcore
from hvcore.cli.output import is_terminal, results
from hvcore.cli.whole_file import write_whole

__all__ = ["edited"]

_EDITORS: Final = ("sensible-editor", "editor", "vi", "nano")


def edited(node: hvcore.Node, name: str) -> hvcore.DefinitionOutcome:
    """What became of the definition. Raises the error of a text that the user did not correct; the draft is then kept.

    Raises `OperationError` if the editor fails, and `BusyError` while the definition is edited elsewhere.
    """
    before = node.definitions.text(name)
    editor = _editor()
    draft = node.definitions.directory / f".{name}.edit.toml"
    with _alone(node.definitions.directory / f".{name}.editing", name):
        kept = _read(draft)
        if not kept or kept == before or not _confirmed(_offer(name, draft, node.definitions.path(name))):
            _write(name, draft, before)
        while True:
            _run(editor, draft, name)
            text = _read(draft)
            if text == before or not (text and text.strip()):  # an empty text is a way to give up
                draft.unlink(missing_ok=True)
                return node.definitions.change(name, lambda old: old)
            try:
                outcome = node.definitions.change(name, partial(_swapped, name, before, text))
            except hvcore.HvError as error:
                if _confirmed(f"{error}\n{name}: edit it again?"):
                    continue
                kept_at = f"the text is kept in {str(draft)!r}, and 'hv edit {name}' offers it"
                error.add_note(f"{name}: the definition is as before; {kept_at}")
                raise
            draft.unlink(missing_ok=True)
            return outcome


def _swapped(name: str, before: str, text: str, now: str) -> str:
    """The new text. Raises `InputError` if the definition is no longer the one that was edited."""
    if now != before:
        raise hvcore.InputError(f"{name}: another program has changed the definition meanwhile; edit it again")
    return text


@contextmanager
def _alone(path: Path, name: str) -> Iterator[None]:
    """Keep a second editor away for the block."""
    fd = _locked(path, name)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(fd)


def _locked(path: Path, name: str) -> int:
    """A descriptor with a lock on the file at that path: not on one that an editor which has just ended has removed."""
    while True:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            what = (
                f"{name}: the definition cannot be edited, {str(path.parent)!r} cannot be written, got {error.strerror}"
            )
            raise hvcore.NodeError(f"{what}; become its owner, or free some space there") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False)):
                return fd
        except BlockingIOError:
            os.close(fd)
            raise hvcore.BusyError(f"{name}: the definition is being edited elsewhere; finish that first") from None
        except FileNotFoundError:
            pass
        os.close(fd)


def _read(draft: Path) -> str | None:
    try:
        return draft.read_bytes().decode("utf-8", "backslashreplace")
    except FileNotFoundError:
        return None


def _offer(name: str, draft: Path, definition: Path) -> str:
    """The question whether to go on with the text of an earlier edit."""
    question = f"{name}: continue with the text of the last edit?"
    if draft.stat().st_mtime_ns < definition.stat().st_mtime_ns:
        return f"{name}: the definition was changed after the last edit, and its text does not have that.\n{question}"
    return question


def _write(name: str, draft: Path, text: str) -> None:
    """Write the whole draft, or leave the old one: a part of it would be offered by the next edit."""
    try:
        write_whole(draft, text.encode(), mode=0o600)
    except OSError as error:
        what = f"{name}: the definition cannot be edited, {str(draft)!r} cannot be written, got {error.strerror}"
        raise hvcore.NodeError(f"{what}; free some space there") from error


def _run(editor: list[str], draft: Path, name: str) -> None:
    """Let the user edit the draft, on this terminal. Raises `OperationError` if the editor fails."""
    stdout: int | None = None
    with suppress(AttributeError, OSError, ValueError):  # an object in place of the stream, without a descriptor
        stdout = results().fileno()  # type: ignore[union-attr]
    try:
        ended = subprocess.run([*editor, str(draft)], stdout=stdout, check=False)
    except OSError as error:
        what = f"{name}: editor {editor[0]!r} cannot be run, got {error.strerror}"
        raise hvcore.OperationError(f"{what}; set EDITOR to an editor") from error
    if ended.returncode:
        what = f"{name}: editor {editor[0]!r} ended with {ended.returncode}, so the definition is as before"
        raise hvcore.OperationError(f"{what}; a text that it saved is offered by the next 'hv edit {name}'")


def _confirmed(question: str) -> bool:
    """The answer on a terminal, where Enter means yes. Without one, no."""
    if not is_terminal(sys.stdin):
        return False
    return click.confirm(question, default=True, err=True)


def _editor() -> list[str]:
    for variable in ("VISUAL", "EDITOR"):
        given = os.environ.get(variable, "").strip()
        if given:
            try:
                return shlex.split(given)
            except ValueError as error:
                raise hvcore.InputError(f"{variable}: is not a command ({error}), got {given!r}; correct it") from error
    found = next(filter(None, map(shutil.which, _EDITORS)), None)
    if found is None:
        raise hvcore.NodeError("hv edit: found no editor; set EDITOR, such as EDITOR=nano")
    return [found]
