"""One machine in QEMU twice: from its command line, and with its devices by QMP or as JSON. Then both are compared.

The comparison is of everything that the guest and an operator can see of a device: each scalar property of its object
and of those inside it, its place on the PCI bus, its block nodes, back ends and fdsets.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

from corpus import CASES, Corpus, bindings
from introspection import strict_of
from stage import MissingError, Props, Stage, launched

from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt, QmpCommand, as_command
from hv_kvm.machine.render import render_device
from hv_kvm.machine.spec import Device
from hv_kvm.qmp import QmpClient, QmpCommandError, connect

BY_NAME: Final = ("fd", "fds", "vhostfd", "vhostfds")
"""Properties with descriptors: numbers on the command line, and by QMP names that ``getfd`` has given them."""

AS_JSON: Final = ("-device", "-blockdev", "-object", "-netdev")
"""Options whose argument can be JSON (since QEMU 6.0, -netdev since 7.2)."""

# A device that is there already has passed every check of whether it can be plugged.
THERE_ALREADY: Final = "Duplicate device ID"
Seen = dict[str, Any]
Signature = tuple[object, ...]
Change = Callable[[Opt], Opt]


@dataclass(frozen=True)
class Piece:
    """One device of the machine, by its options."""

    device: Device
    options: tuple[Opt, ...]

    @property
    def pluggable(self) -> bool:
        """Whether each of its options has a form in QMP."""
        return bool(self.options) and all(it.name == "-add-fd" or as_command(it) for it in self.options)

    @property
    def kinds(self) -> tuple[tuple[str, str], ...]:
        """The types of its ``-device`` options, each with the bus that it is on."""
        found = [option for option in self.options if option.name == "-device"]
        return tuple((str(option.head), str(option.props.get("bus", ""))) for option in found)


@dataclass(frozen=True)
class Machine:
    """A case: the options that belong to no device, and the devices. ``order`` has all options as the command line has."""

    pieces: tuple[Piece, ...]
    order: tuple[Opt, ...]

    def signature(self, piece: Piece) -> Signature:
        """The options of a device that have both forms, on this kind of machine. Empty if no option has both."""
        if not any(it.name in AS_JSON and as_command(it) for it in piece.options):
            return ()
        chipset = next(str(it.head) for it in self.order if it.name == "-machine")
        return (chipset, *(it.argv for it in piece.options if it.name == "-add-fd" or as_command(it)))

    @property
    def signatures(self) -> set[Signature]:
        """The signatures of all devices, without the empty one."""
        return {self.signature(piece) for piece in self.pieces} - {()}

    def changed(self, change: Change) -> Machine:
        """The same machine with each option changed."""
        pieces = tuple(replace(piece, options=tuple(map(change, piece.options))) for piece in self.pieces)
        return replace(self, pieces=pieces, order=tuple(map(change, self.order)))


@dataclass
class Twice:
    """The properties of one case in both forms, and for each device whether QEMU plugged it or refused to."""

    cold: Seen = field(default_factory=dict)
    other: Seen = field(default_factory=dict)
    refused: dict[tuple[str, str], str] = field(default_factory=dict)
    plugged: set[tuple[str, str]] = field(default_factory=set)

    @property
    def differences(self) -> dict[str, tuple[Any, Any]]:
        """The properties that differ. Leaves out ``hotplugged``, which differs for each plugged device."""
        names = sorted({*self.cold, *self.other})
        pairs = {name: (self.cold.get(name), self.other.get(name)) for name in names}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1] and not name.endswith("/hotplugged")}

    @property
    def came_later(self) -> set[str]:
        """The paths of the objects that QEMU reports as hot-plugged."""
        return {
            name.removesuffix("/hotplugged")
            for name, value in self.other.items()
            if name.endswith("/hotplugged") and value
        }


def machine_of(corpus: Corpus, case: Path, facts: Facts, stage: Stage | None = None) -> Machine:
    """The machine of the case, with symbols or with the real things of a stage. Always emulated, because no guest code runs."""
    spec = corpus.spec(case, facts)
    bound = replace(bindings(corpus.kvm, case, spec), accel="tcg")
    if stage is not None:
        bound = stage.bind(spec, bound)
    order = tuple(corpus.options(spec, facts, bound))
    pieces = (Piece(device, render_device(corpus.kvm.hooks, spec, facts, bound, device)) for device in spec.devices)
    return Machine(tuple(pieces), order)


def unchanged(option: Opt) -> Opt:
    """The same option."""
    return option


@dataclass(frozen=True)
class Here:
    """The installed QEMU, and its golden cases."""

    corpus: Corpus
    qemu: str
    facts: Facts
    props: Props

    @cached_property
    def machines(self) -> dict[Path, Machine]:
        """The machines of all cases that have a command line, with symbols."""
        answered = (case for case in CASES if self.corpus.answer(case, self.facts).kind == "argv")
        return {case: machine_of(self.corpus, case, self.facts) for case in answered}

    def missing(self, case: Path) -> str:
        """What the case needs and this machine does not have; empty if nothing is missing."""
        try:
            with Stage(self.props, f"{case.parent.name}-{case.stem}") as stage:
                machine_of(self.corpus, case, self.facts, stage)
                return stage.without
        except MissingError as error:
            return str(error)

    def both(self, case: Path, new: Collection[Signature] | None = None, change: Change = unchanged) -> Twice:
        """Start the case in both forms, the second one changed, and read its devices, or only the ``new`` ones."""
        found, symbolic = Twice(), machine_of(self.corpus, case, self.facts)
        look = [new is None or symbolic.signature(piece) in new for piece in symbolic.pieces]
        with self._staged(case) as (machine, stage):
            argv = [token for option in machine.order for token in option.argv]
            with self._session(argv, stage, stage.fds) as client:
                stage.let_go()
                found.cold = _seen(client, machine, stage, look)
                _ask_what_plugs(client, machine, found)
        with self._staged(case) as (staged, stage):
            machine = staged.changed(change)
            hot = [option for piece in machine.pieces if _plugs(piece, found) for option in piece.options]
            later = {fd for option in hot for fd in _fds(option)}
            argv = [token for option in machine.order if option not in hot for token in _json(option)]
            with self._session(argv, stage, [fd for fd in stage.fds if fd not in later]) as client:
                for option in (option for option in machine.order if option in hot):
                    plug(client, option)
                stage.let_go()
                found.other = _seen(client, machine, stage, look)
        return found

    @contextmanager
    def _staged(self, case: Path) -> Iterator[tuple[Machine, Stage]]:
        with Stage(self.props, f"{case.parent.name}-{case.stem}") as stage:
            yield machine_of(self.corpus, case, self.facts, stage), stage

    @contextmanager
    def _session(self, argv: Sequence[str], stage: Stage, fds: Sequence[int]) -> Iterator[QmpClient]:
        with launched([self.qemu, *strict_of(self.qemu), *argv], stage, tuple(fds)):
            try:
                with connect(str(stage.folder / "qmp"), deadline_s=30.0) as client:
                    yield client
            except Exception as error:
                error.add_note((stage.folder / "stderr").read_text("utf-8", "replace"))
                raise


def _ask_what_plugs(client: QmpClient, machine: Machine, found: Twice) -> None:
    """Try to plug each device again: QEMU reports either that it exists already, or that such a device cannot be plugged."""
    for piece in machine.pieces:
        if not piece.pluggable:
            continue
        for option in piece.options:
            if option.name == "-device":
                command = _command(option)
                said = "nothing"
                try:
                    client.execute(command.name, command.arguments)
                except QmpCommandError as error:
                    said = str(error).partition("(GenericError): ")[2]
                kind = (str(option.head), str(option.props.get("bus", "")))
                if THERE_ALREADY in said:
                    found.plugged.add(kind)
                else:
                    found.refused[kind] = said


def _plugs(piece: Piece, found: Twice) -> bool:
    return piece.pluggable and not any(kind in found.refused for kind in piece.kinds)


def plug(client: QmpClient, option: Opt) -> None:
    """Do by QMP what the option does on the command line; its descriptors are sent with the command."""
    if option.name == "-add-fd":
        arguments = {"fdset-id": option.props["set"], "opaque": option.props["opaque"]}
        client.execute("add-fd", arguments, fds=_fds(option))
        return
    for fd in _fds(option):
        client.execute("getfd", {"fdname": f"fd{fd}"}, fds=[fd])
    named = {key: _names(value) if key in BY_NAME else value for key, value in option.props.items()}
    command = _command(replace(option, props=named))
    client.execute(command.name, command.arguments)


def _fds(option: Opt) -> list[int]:
    values = [str(value) for key, value in option.props.items() if key in BY_NAME and value is not None]
    return [int(fd) for value in values for fd in value.split(":")]


def _names(value: object) -> str | None:
    return None if value is None else ":".join(f"fd{fd}" for fd in str(value).split(":"))


def _command(option: Opt) -> QmpCommand:
    command = as_command(option)
    assert command is not None, option
    return command


def _json(option: Opt) -> tuple[str, ...]:
    """The option with a JSON argument if QEMU accepts that, otherwise unchanged."""
    command = as_command(option) if option.name in AS_JSON else None
    return option.argv if command is None else (option.name, json.dumps(command.arguments))


def _seen(client: QmpClient, machine: Machine, stage: Stage, look: Sequence[bool]) -> Seen:
    """Everything that QEMU reports about the devices, by the place of the report. The stage's directory is left out."""
    found: Seen = {}
    with Many(str(stage.folder / "qmp-oob")) as many:
        for piece in (piece for piece, wanted in zip(machine.pieces, look, strict=True) if wanted):
            for option in piece.options:
                place = {"-device": "/machine/peripheral", "-object": "/objects"}.get(option.name)
                if place:
                    found |= _object(many, f"{place}/{option.props['id']}")
    found |= _rows("block", client.execute("query-block"), "qdev")
    found |= _rows("node", client.execute("query-named-block-nodes"), "node-name")
    found |= _rows("chardev", client.execute("query-chardev"), "label")
    found |= _rows("iothread", client.execute("query-iothreads"), "id")
    found |= _pci(client.execute("query-pci"))
    for row in client.execute("query-fdsets"):
        found[f"fdset {row['fdset-id']}"] = sorted(fd.get("opaque", "") for fd in row["fds"])
    network = client.execute("human-monitor-command", {"command-line": "info network"})
    found["network"] = sorted(re.sub(r"\bfds?=\d+", "fd=N", line.strip()) for line in network.splitlines())
    text = json.dumps(found, sort_keys=True).replace(str(stage.folder), "FOLDER")
    text = re.sub(r'("thread-id": )\d+', r'\1"OWN"', re.sub(r"#block\d+|/proc/self/fd/\d+", "OWN", text))
    return dict(json.loads(text))


class Many:
    """A monitor that gets many commands at once, because a device has hundreds of properties."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> Self:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(30.0)
        self._socket.connect(self._path)
        self._lines = self._socket.makefile("rb")
        self._lines.readline()
        self.ask([("qmp_capabilities", {})])
        return self

    def __exit__(self, *raised: object) -> None:
        self._lines.close()
        self._socket.close()

    def ask(self, commands: Sequence[tuple[str, dict[str, Any]]]) -> list[Any]:
        """The result of each command; None for one that QEMU refuses."""
        found: list[Any] = []
        for start in range(0, len(commands), 100):
            some = commands[start : start + 100]
            lines = [json.dumps({"execute": name, "arguments": arguments}) + "\n" for name, arguments in some]
            self._socket.sendall("".join(lines).encode())
            while len(found) < start + len(some):
                reply = json.loads(self._lines.readline())
                if "event" not in reply:
                    found.append(reply.get("return"))
        return found


def _object(many: Many, path: str) -> Seen:
    """The scalar properties of an object and of those inside it."""
    (rows,) = many.ask([("qom-list", {"path": path})])
    assert rows, f"no object {path}"
    found: Seen = {}
    inside = [row["name"] for row in rows if row["type"].startswith("child<")]
    others = [row for row in rows if not row["type"].startswith("child<")]
    values = many.ask([("qom-get", {"path": path, "property": row["name"]}) for row in others])
    for row, value in zip(others, values, strict=True):
        found[f"{path}/{row['name']}"] = _anonymous(value) if row["type"].startswith("link<") else value
    for name in inside:
        found |= _object(many, f"{path}/{name}")
    return found


def _anonymous(link: Any) -> Any:
    """The path without QEMU's own numbers, which depend on the other objects."""
    return re.sub(r"\[\d+\]", "[N]", link) if isinstance(link, str) else link


def _rows(what: str, rows: Sequence[Mapping[str, Any]], key: str) -> Seen:
    return {f"{what} {row[key]}": row for row in rows if key in row and not str(row[key]).startswith("#")}


def _pci(buses: Sequence[Mapping[str, Any]]) -> Seen:
    return {f"pci {bus['bus']}:{row['slot']}.{row['function']}": row for bus in buses for row in bus["devices"]}
