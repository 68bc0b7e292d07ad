"""A new distribution from a template: a driver or an extension that works without changes.

Templates are the files below ``hvcore/templates``. ``{{word}}`` is replaced by a name, ``MODULE`` in paths by the name of
the package, and ``dot_`` by a leading dot. Every inserted name is checked before.
"""

from __future__ import annotations

import keyword
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from packaging.version import Version

from hvcore._version import __version__
from hvcore.errors import NodeError, ParamsError, Problem
from hvcore.plugins.catalogue import DRIVERS_GROUP, EXTENSIONS_GROUP, catalogue

__all__ = ["new_driver", "new_extension"]

_NAME: Final = re.compile("[a-z](?:[a-z0-9]|-(?=[a-z0-9])){0,31}")
_WORD: Final = re.compile(r"\{\{(\w+)\}\}")
_HOW: Final = (
    "use at most 32 lower-case letters, digits and '-'; begin with a letter, and put '-' only between two others"
)


def new_driver(directory: Path, *, name: str | None = None) -> tuple[Path, ...]:
    """Write a distribution with a driver into ``directory`` and return its files. Default of ``name``: the directory's.

    Raises `ParamsError` with all problems before it writes a file, and `NodeError` if it cannot write.
    """
    chosen = _default(directory) if name is None else name
    todo = "two distributions with one name are both refused: give another"
    problems = [*_name_problems("name", chosen), *_taken(DRIVERS_GROUP, "driver", chosen, todo)]
    return _write("driver", directory, chosen, problems, {})


def new_extension(directory: Path, *, driver: str, name: str | None = None) -> tuple[Path, ...]:
    """Write a distribution with an extension of ``driver`` into ``directory``, like `new_driver`."""
    chosen = _default(directory) if name is None else name
    problems = [*_name_problems("name", chosen), *_name_problems("for", driver)]
    problems += _taken(EXTENSIONS_GROUP, "extension", f"{driver}.{chosen}", "give another")
    homes = [entry.distribution for entry in catalogue() if entry.name == driver]
    words = {"driver": driver, "driver_distribution": homes[0] if homes else f"hv-{driver}"}
    return _write("extension", directory, chosen, problems, words)


def _default(directory: Path) -> str:
    return Path(os.path.abspath(directory)).name.removeprefix("hv-")


def _name_problems(path: str, name: str) -> Iterator[Problem]:
    if _NAME.fullmatch(name) is None:
        yield Problem(path=path, what="is not a name", got=repr(name[:80]), todo=_HOW)
    elif keyword.iskeyword(name):
        yield Problem(path=path, what="is a word of Python", got=repr(name), todo="give another")


def _taken(group: str, kind: str, name: str, todo: str) -> Iterator[Problem]:
    for entry in catalogue(group):
        if entry.name == name:
            yield Problem(path="name", what=f"{kind} {name} is installed ({entry.distribution})", todo=todo)


def _directory_problems(directory: Path) -> Iterator[Problem]:
    try:
        there = os.listdir(directory)
    except FileNotFoundError:
        return
    except OSError as error:
        yield Problem(path=str(directory), what=f"cannot be used ({error.strerror})", todo="give a new directory")
        return
    if there:
        todo = "give a new or an empty directory: nothing is overwritten"
        yield Problem(path=str(directory), what=f"is not empty, {min(there)!r} is in it", todo=todo)


def _write(kind: str, directory: Path, name: str, problems: list[Problem], more: Mapping[str, str]) -> tuple[Path, ...]:
    problems = [*problems, *_directory_problems(directory)]
    if problems:
        raise ParamsError(f"new {kind}", problems)
    words = {**_words(name), **more}
    template = sorted(_below(resources.files("hvcore") / "templates" / kind, ""))
    files = {_path(path, words): _WORD.sub(lambda found: words[found[1]], text) for path, text in template}
    try:
        with _all_or_nothing(directory) as place:
            for path, text in files.items():
                target = place / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise NodeError(f"{directory}: cannot be written, got {error.strerror}; give another directory") from error
    return tuple(directory / path for path in files)


@contextmanager
def _all_or_nothing(directory: Path) -> Iterator[Path]:
    """A new directory whose files move to ``directory`` if the block succeeds, and are removed if it fails."""
    there = directory.is_dir()  # an empty directory is kept: it may be the caller's working directory
    above = directory if there else directory.parent
    above.mkdir(parents=True, exist_ok=True)
    place = above / f".hv-new.{os.urandom(8).hex()}"
    place.mkdir()
    try:
        yield place
        if there:
            for entry in place.iterdir():
                entry.rename(directory / entry.name)
            place.rmdir()
        else:
            place.rename(directory)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise


def _words(name: str) -> dict[str, str]:
    camel = "".join(part.capitalize() for part in name.split("-"))
    ours = Version(__version__)
    major, minor = ours.major, ours.minor
    above = f"0.{minor + 1}" if major == 0 else str(major + 1)
    oldest = __version__ if ours.is_prerelease else f"{major}.{minor}"  # 0.2 does not allow 0.2.0rc1
    return {
        "name": name,
        "distribution": f"hv-{name}",
        "module": f"hv_{name.replace('-', '_')}",
        "key": name.replace("-", "_"),
        "class": f"{camel}Driver",
        "spec": f"{camel}Spec",
        "oldest": f"{major}.{minor}",
        "range": f">={oldest},<{above}",
    }


def _below(folder: Traversable, prefix: str) -> Iterator[tuple[str, str]]:
    """Path and text of each file of a template below the folder."""
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _below(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".in"):
            yield f"{prefix}{entry.name.removesuffix('.in')}", entry.read_text(encoding="utf-8")


def _path(path: str, words: Mapping[str, str]) -> str:
    parts = (part.replace("MODULE", words["module"]) for part in path.split("/"))
    return "/".join(re.sub("^dot_", ".", part) for part in parts)
