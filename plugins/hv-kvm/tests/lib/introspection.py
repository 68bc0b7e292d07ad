"""What one QEMU reports about itself: its options, and the devices, objects and properties that they can name."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Final

from hv_kvm.qmp import QmpClient, QmpCommandError, adopt

Keys = Mapping[str, str]
_PATIENCE_S: Final = 300.0
_QUIET: Final[Mapping[str, Any]] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)

# What query-command-line-options calls an option, where it is not its name.
GROUPS: Final = {"smp": "smp-opts", "m": "memory", "boot": "boot-opts"}
# The name that `qemu_syntax` gives to the first word of an option; QEMU's lists have no name for it.
IMPLIED: Final = {"-vnc": "where"}
STRICT: Final = ("-compat", "deprecated-input=crash,deprecated-output=hide")


@dataclass
class Introspection:
    """A session with one binary, and no guest."""

    binary: str
    client: QmpClient

    @classmethod
    @contextmanager
    def of(cls, binary: str) -> Iterator[Introspection]:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            monitor = ("-chardev", f"socket,id=m,fd={theirs.fileno()}", "-qmp", "chardev:m")
            # No `Trial`: that ends after the seconds that a probe may take. All cases take longer on a busy machine.
            argv = ["timeout", "--signal=KILL", "600", binary, *BARE, *monitor]
            process = subprocess.Popen(argv, pass_fds=(theirs.fileno(),), start_new_session=True, **_QUIET)
            try:
                theirs.close()
                with adopt(ours, subject=binary, deadline_s=_PATIENCE_S) as client:
                    yield cls(binary, client)
            finally:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    @cached_property
    def options(self) -> dict[str, set[str]]:
        return {
            row["option"]: {it["name"] for it in row["parameters"]} for row in self.ask("query-command-line-options")
        }

    @cached_property
    def schema(self) -> dict[str, dict[str, Any]]:
        return {row["name"]: row for row in self.ask("query-qmp-schema")}

    @cached_property
    def deprecated(self) -> dict[str, set[str]]:
        """The machines and CPU models that QEMU calls deprecated."""
        asked = {"machine": "query-machines", "cpu": "query-cpu-definitions"}
        return {kind: {row["name"] for row in self.ask(name) if row.get("deprecated")} for kind, name in asked.items()}

    @cached_property
    def known(self) -> dict[str, set[str]]:
        machines = self.ask("query-machines")
        return {
            "machine": {row["name"] for row in machines} | {row["alias"] for row in machines if "alias" in row},
            "cpu": {row["name"] for row in self.ask("query-cpu-definitions")},
        }

    def ask(self, command: str, **arguments: Any) -> Any:
        return self.client.execute(command, arguments, deadline_s=_PATIENCE_S)

    def properties(self, kind: str, typename: str) -> set[str] | None:
        """The properties of a type; None for an unknown type. ``kind`` is qom or device."""
        try:
            return {row["name"] for row in self.ask(f"{kind}-list-properties", typename=typename)}
        except QmpCommandError:
            return None

    def problems(self, option: str, value: Keys | str | None) -> Iterator[str]:
        """The parts of the option that this QEMU does not know, or calls deprecated."""
        if not re.search(rf"^{option}\b", help_of(self.binary), re.MULTILINE):
            yield f"no option {option}"
        elif isinstance(value, Mapping):
            look = LOOKS.get(option, Introspection._listed)
            yield from (f"{option}: {problem}" for problem in look(self, option, value))

    def _listed(self, option: str, keys: Keys) -> Iterator[str]:
        """The keys that QEMU does not list for the option. Options of modules and of QAPI have no list."""
        listed = self.options.get(GROUPS.get(option[1:], option[1:]))
        if listed:
            yield from (f"no parameter {key}" for key in keys if key not in {*listed, "id", IMPLIED.get(option)})

    def _device(self, option: str, keys: Keys) -> Iterator[str]:
        there = self.properties("device", keys["driver"])
        if there is None:
            yield f"no device {keys['driver']}"
        else:
            yield from (f"{keys['driver']} has no {key}" for key in keys if key not in {*there, "driver", "id", "bus"})

    def _global(self, option: str, keys: Keys) -> Iterator[str]:
        yield from self._device(option, {"driver": keys["driver"], keys["property"]: keys["value"]})

    def _object(self, option: str, keys: Keys) -> Iterator[str]:
        there = self.properties("qom", keys["type"])
        if there is None:
            yield f"no object {keys['type']}"
        else:
            yield from (f"{keys['type']} has no {key}" for key in keys if key not in {*there, "type", "id"})
        if "qom-type" in str(self.schema[self.schema["object-add"]["arg-type"]].get("tag")):
            yield from self._command("object-add", {**keys, "qom-type": keys["type"]}, unknown=False)

    def _machine(self, option: str, keys: Keys) -> Iterator[str]:
        name = keys.get("type", "pc")
        yield from self._named("machine", name)
        there = self.properties("qom", f"{name}-machine") if "type" in keys else None
        yield from (f"{name} has no {key}" for key in keys if there and key not in {*there, "type", "accel"})

    def _cpu(self, option: str, keys: Keys) -> Iterator[str]:
        yield from self._named("cpu", keys["model"])

    def _named(self, kind: str, name: str) -> Iterator[str]:
        if name not in self.known[kind]:
            yield f"no {kind} {name}"
        elif name in self.deprecated[kind]:
            yield f"{name} is deprecated"

    def _blockdev(self, option: str, keys: Keys) -> Iterator[str]:
        yield from self._command("blockdev-add", keys)

    def _netdev(self, option: str, keys: Keys) -> Iterator[str]:
        yield from self._command("netdev_add", keys)

    def _command(self, command: str, keys: Keys, *, unknown: bool = True) -> Iterator[str]:
        tree: dict[str, Any] = {}
        for key, value in keys.items():
            *branches, leaf = key.split(".")
            node = tree
            for branch in branches:
                node = node.setdefault(branch, {})
            node[leaf] = value
        found = self._walk(self.schema[command]["arg-type"], tree)
        yield from (problem for problem in found if unknown or problem.endswith("deprecated"))

    def _walk(self, type_name: str, tree: Mapping[str, Any]) -> Iterator[str]:
        entity = self.schema[type_name]
        if entity["meta-type"] == "array":
            members = {key: {"type": entity["element-type"]} for key in tree}
        elif entity["meta-type"] == "alternate":
            kinds = [it["type"] for it in entity["members"] if self.schema[it["type"]]["meta-type"] == "object"]
            yield from self._walk(kinds[0], tree)
            return
        else:
            members = self._members(entity, tree)
        for key, value in tree.items():
            if key not in members:
                yield f"no member {key}"
            elif "deprecated" in members[key].get("features", ()):
                yield f"{key} is deprecated"
            elif isinstance(value, Mapping):
                yield from self._walk(members[key]["type"], value)

    def _members(self, entity: Mapping[str, Any], tree: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        members = {it["name"]: it for it in entity["members"]}
        for variant in entity.get("variants", ()):
            if variant["case"] == tree.get(entity["tag"]):
                members |= self._members(self.schema[variant["type"]], tree)
        return members


BARE: Final = ("-machine", "none", "-nodefaults", "-no-user-config", "-display", "none", "-S")
LOOKS: Final = {
    "-device": Introspection._device,
    "-object": Introspection._object,
    "-machine": Introspection._machine,
    "-cpu": Introspection._cpu,
    "-global": Introspection._global,
    "-blockdev": Introspection._blockdev,
    "-netdev": Introspection._netdev,
}


@cache
def help_of(binary: str) -> str:
    """The text of ``-help``. Each option's name is at the start of a line."""
    return subprocess.run([binary, "-help"], capture_output=True, text=True, check=True).stdout


def strict_of(binary: str) -> tuple[str, ...]:
    """The options that make QEMU exit at everything deprecated; empty before QEMU 6.0."""
    return STRICT if "\n-compat " in help_of(binary) else ()
