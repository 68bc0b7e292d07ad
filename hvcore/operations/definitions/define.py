"""Changes of definitions. Each is checked first, made in one step, and undone or finished after a crash by the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from hvcore.config import file_text, parse_instance_file
from hvcore.deadline import Deadline
from hvcore.errors import HvError, InputError, InstanceFileError, NotFoundError, ParamsError, Problem, StateError
from hvcore.frozen import dataclass
from hvcore.host.definition_files import DefinitionFiles
from hvcore.model.definitions.definition import Definition, DefinitionOutcome
from hvcore.model.definitions.toml_text import TomlTextError, with_value
from hvcore.model.instance import Instance, read_instance
from hvcore.model.instance_keys import definition_values
from hvcore.model.names import name_problem
from hvcore.model.state import TRANSITIONS, Op, State
from hvcore.operations.context import Context
from hvcore.operations.inspection.observe import observed

__all__ = [
    "Checks",
    "Source",
    "autostart",
    "change",
    "define",
    "definition",
    "instance_of",
    "read_text",
    "remove",
    "rename",
    "starts",
]

_AUTOSTART: Final = "autostart"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """The checks of a `Node`: ``check`` gives the instance in data whose paths begin at a directory, or raises.

    Without a directory it refuses relative paths. ``absolute`` gives the data with absolute paths.
    """

    check: Callable[[Mapping[str, Any], str | None], Instance]
    absolute: Callable[[Mapping[str, Any], str], dict[str, Any]]


def read_text(files: DefinitionFiles, name: str) -> str:
    """The text of the definition. Raises `NotFoundError` and `InstanceFileError`."""
    path = files.path(name)
    if (wrong := name_problem(name)) is not None and files.exists(name):
        raise InstanceFileError(f"{str(path)!r:.300}: the name of its file {wrong.what}; rename the file")
    if wrong is not None or not files.exists(name):
        shown = name if wrong is None else repr(name)[:80]
        raise NotFoundError(shown, hint=f"{str(path)!r:.300} does not exist; hv define FILE makes a definition")
    return file_text(path, protected=True)


def definition(files: DefinitionFiles, name: str, checks: Checks) -> Definition:
    """The definition, with its problem if it has one. Raises `NotFoundError`, and nothing else for any content of the file."""
    path = str(files.path(name))
    if (wrong := name_problem(name)) is not None and files.exists(name):
        return Definition(name=name, file=path, problem=f"the name of its file {wrong.what}; rename the file")
    try:
        data = parse_instance_file(read_text(files, name).encode(), repr(path))
    except NotFoundError:
        raise
    except HvError as error:
        return Definition(name=name, file=path, problem=str(error))
    driver = data.get("driver")
    instance, problem = _usable(name, data, files, checks)
    return Definition(
        name=name,
        file=path,
        driver=driver if isinstance(driver, str) else None,
        autostart=definition_values(data)[_AUTOSTART],
        instance=instance,
        problem=problem,
    )


def _usable(
    name: str, data: Mapping[str, Any], files: DefinitionFiles, checks: Checks
) -> tuple[Instance | None, str | None]:
    """The instance in the data of that definition, or None; and why it cannot be started, or None."""
    try:
        return _checked(name, data, files, checks), None
    except ParamsError as error:
        more = len(error.problems) - 1
        problem = f"{error.problems[0]}{f', and {more} more' if more else ''}"
    except HvError as error:
        problem = str(error)
    return read_instance(checks.absolute(data, str(files.directory)))[0], problem


def starts(files: DefinitionFiles, name: str) -> bool | None:
    """Whether the node's boot starts the instance, as `definition` has it. Raises `NotFoundError`."""
    if name_problem(name) is not None and files.exists(name):
        return None
    try:
        return _starts(read_text(files, name), str(files.path(name)))
    except NotFoundError:
        raise
    except HvError:
        return None


def _starts(text: str, subject: str) -> bool:
    return bool(definition_values(parse_instance_file(text.encode(), subject))[_AUTOSTART])


@contextmanager
def _about(subject: str) -> Iterator[None]:
    """In the block, every problem with parameters is one of that subject."""
    try:
        yield
    except ParamsError as error:
        raise ParamsError(subject, error.problems) from None


def instance_of(files: DefinitionFiles, name: str, checks: Checks) -> Instance:
    """The instance that the definition defines, checked with its driver. Raises `NotFoundError` and `InputError`."""
    subject = repr(str(files.path(name)))
    data = parse_instance_file(read_text(files, name).encode(), subject)
    with _about(subject):
        return _checked(name, data, files, checks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The text of an instance file. ``subject`` names it in errors; its relative paths begin at ``directory``."""

    text: str
    subject: str
    directory: str | None


def define(
    context: Context, files: DefinitionFiles, checks: Checks, source: Source, *, replace: bool, autostart: bool | None
) -> DefinitionOutcome:
    """Make or replace the definition with that text. Relative paths in it become absolute.

    Raises `InputError` with every problem, if it would replace another one without ``replace``, and if a path cannot be
    made absolute in the text.
    """
    text, subject = source.text, source.subject
    data = parse_instance_file(text.encode(), subject)
    with _about(subject):
        instance = checks.check(data, source.directory)
    if source.directory is not None:
        text = _with_absolute_paths(text, data, checks.absolute(data, source.directory), subject)
    if autostart is not None and definition_values(data)[_AUTOSTART] is not autostart:
        text = _edited(subject, text, lambda old: with_value(old, (_AUTOSTART,), autostart))
    name = instance.name
    with files.writing():
        before = read_text(files, name) if files.exists(name) else None
        if before is not None and before != text and not replace:
            what = f"{name}: is defined in {str(files.path(name))!r}, and differently"
            raise InputError(f"{what}; 'hv define --replace' replaces it, 'hv edit {name}' changes it")
        if before != text:
            files.write(name, text.encode())
    at_boot = _starts(text, subject)
    notes = [*_replaced(before, at_boot=at_boot), *_while_running(context, files, name)] if before != text else []
    if at_boot:
        notes += _if_not_at_boot(context)
    return _outcome(files, name, "define", changed=before != text, autostart=at_boot, notes=tuple(notes))


def change(
    context: Context,
    files: DefinitionFiles,
    checks: Checks,
    name: str,
    edit: Callable[[str], str],
    *,
    action: str = "edit",
) -> DefinitionOutcome:
    """Replace the text of the definition by ``edit`` of it, if the result passes every check.

    No other writer can change the definition meanwhile, so ``edit`` has to be fast. Raises `NotFoundError`, `InputError`.
    """
    path = str(files.path(name))
    with files.writing():
        before = read_text(files, name)
        text = _edited(repr(path), before, edit)
        data = parse_instance_file(text.encode(), repr(path))
        if text != before:
            with _about(repr(path)):
                _checked(name, data, files, checks)
            files.write(name, text.encode())
    notes = _while_running(context, files, name) if text != before else ()
    at_boot = definition_values(data)[_AUTOSTART]
    return _outcome(files, name, action, changed=text != before, autostart=at_boot, notes=notes)


def autostart(context: Context, files: DefinitionFiles, checks: Checks, name: str, *, on: bool) -> DefinitionOutcome:
    """Set key ``autostart`` of the definition, also if the rest of it no longer passes.

    A note says what keeps the instance from being started.
    """
    path = repr(str(files.path(name)))
    with files.writing():
        before = text = read_text(files, name)
        if _starts(before, path) is not on:
            text = _edited(path, before, lambda old: with_value(old, (_AUTOSTART,), on))
            files.write(name, text.encode())
    notes = (*_if_unusable(files, name, checks), *_if_not_at_boot(context)) if on else ()
    return _outcome(files, name, _AUTOSTART, changed=text != before, autostart=on, notes=notes)


def remove(context: Context, files: DefinitionFiles, name: str) -> DefinitionOutcome:
    """Remove the definition. An instance that runs goes on. Raises `NotFoundError`."""
    with files.writing():
        if name_problem(name) is not None or not files.exists(name):
            raise NotFoundError(repr(name)[:80] if name_problem(name) else name, hint="it has no definition")
        files.remove(name)
    seen = observed(context, name)
    notes: tuple[str, ...] = ()
    if seen.state is not State.STOPPED:
        notes = (f"it is {seen.state} and stays so; 'hv stop {name}' stops it",)
    return _outcome(files, name, "undefine", changed=True, autostart=False, notes=notes)


def rename(
    context: Context, files: DefinitionFiles, checks: Checks, old: str, new: str, *, deadline: Deadline
) -> DefinitionOutcome:
    """Give the definition another name, and the uuid that it has now: what the guest sees of itself stays.

    Raises `NotFoundError`, `InputError`, and `StateError` while an instance of one of the names is on the node.
    """
    if (wrong := name_problem(new)) is not None:
        raise ParamsError(f"instance {new!r:.80}", [wrong])
    first, second = sorted((old, new))
    wait_s = deadline.left(at_most=context.busy_s)
    with context.store.lock(first, "rename", wait_s=wait_s):
        if old == new:
            read_text(files, old)
            return _outcome(files, old, "rename", changed=False, autostart=False)
        with context.store.lock(second, "rename", wait_s=wait_s), files.writing():
            for name in (old, new):
                _refuse_unless_stopped(context, name)
            if files.exists(new):
                raise InputError(f"{new}: is defined in {str(files.path(new))!r}; choose another name, or undefine it")
            before = read_text(files, old)
            data = parse_instance_file(before.encode(), repr(str(files.path(old))))
            text = _renamed(repr(str(files.path(old))), before, data, old, new)
            files.rename(old, new, before.encode(), text.encode())
    notes = _if_unusable(files, new, checks)
    at_boot = definition_values(data)[_AUTOSTART]
    return _outcome(files, new, "rename", changed=True, autostart=at_boot, notes=notes)


def _if_not_at_boot(context: Context) -> tuple[str, ...]:
    """A note if no unit of systemd starts the definitions of this user."""
    if context.host.privileged:
        return ()
    return ("the units of hvcore start root's definitions only; run 'hv start --autostart' from your own unit",)


def _if_unusable(files: DefinitionFiles, name: str, checks: Checks) -> tuple[str, ...]:
    """A note if the definition cannot be started."""
    problem = definition(files, name, checks).problem
    return () if problem is None else (f"it cannot be started: {problem}",)


def _renamed(subject: str, text: str, data: Mapping[str, Any], old: str, new: str) -> str:
    instance, _ = read_instance(data)
    uuid = Instance(name=old, driver="none").uuid if instance is None else instance.uuid

    def edit(text: str) -> str:
        text = with_value(text, ("name",), new)
        return text if data.get("uuid") else with_value(text, ("uuid",), uuid)

    return _edited(subject, text, edit)


def _refuse_unless_stopped(context: Context, name: str) -> None:
    seen = observed(context, name)
    if seen.state is not State.STOPPED:
        allowed = [str(op) for op in Op if (seen.state, op) in TRANSITIONS]
        raise StateError(name=name, state=str(seen.state), operation="rename", allowed=allowed)


def _checked(name: str, data: Mapping[str, Any], files: DefinitionFiles, checks: Checks) -> Instance:
    """The instance in the data of that definition. Raises `ParamsError` with every problem, and errors of its driver."""
    given = data.get("name")
    wrong = None
    if given is not None and given != name:
        todo = f"write {name!r}; hv rename gives a definition another name"
        wrong = Problem(path="name", what=f"is not the name of the file, {name!r}", got=repr(given)[:80], todo=todo)
    try:
        instance = checks.check(data, str(files.directory))
    except ParamsError as error:
        raise ParamsError(error.subject, [*([wrong] if wrong else []), *error.problems]) from None
    if wrong is not None:
        raise ParamsError(name, [wrong])
    return instance


def _edited(subject: str, text: str, edit: Callable[[str], str]) -> str:
    try:
        return edit(text)
    except TomlTextError as error:
        raise InputError(f"{subject}: {error}; change the file with an editor") from error


def _with_absolute_paths(text: str, data: Mapping[str, Any], absolute: Mapping[str, Any], subject: str) -> str:
    """The text, with each relative path replaced: the definition is in another directory."""
    places: list[tuple[tuple[str | int, ...], object]] = []
    for index, (own, other) in enumerate(zip(data.get("disks", ()), absolute.get("disks", ()), strict=True)):
        places += [(("disks", index, key), other[key]) for key in own if own[key] != other[key]]
    own, other = data.get("params", {}), absolute.get("params", {})
    places += [(("params", key), other[key]) for key in own if own[key] != other[key]]
    for place, value in places:
        try:
            text = with_value(text, place, value)
        except TomlTextError as error:
            shown = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).lstrip(".")
            what = f"{subject}: {shown}: is a relative path, and the file {error}"
            raise InputError(f"{what}; write {value!r}") from error
    return text


def _replaced(before: str | None, *, at_boot: bool) -> list[str]:
    """A note if the definition that was replaced was started by the node's boot, and this one is not."""
    if before is None or at_boot:
        return []
    try:
        was = _starts(before, "before")
    except HvError:
        return []
    return ["autostart was on, and the new definition has it off"] if was else []


def _while_running(context: Context, files: DefinitionFiles, name: str) -> tuple[str, ...]:
    seen = observed(context, name)
    if seen.state is State.STOPPED or seen.record is None:
        return ()
    if seen.record.source == str(files.path(name)):
        return (f"it is {seen.state}; 'hv changes {name}' shows when the changes take effect",)
    origin = f"from {seen.record.source!r}" if seen.record.source else "without a file"
    return (f"it was started {origin}; the definition counts from its next start on",)


def _outcome(
    files: DefinitionFiles, name: str, action: str, *, changed: bool, autostart: bool, notes: tuple[str, ...] = ()
) -> DefinitionOutcome:
    file = str(files.path(name))
    return DefinitionOutcome(name=name, action=action, changed=changed, file=file, autostart=autostart, notes=notes)
