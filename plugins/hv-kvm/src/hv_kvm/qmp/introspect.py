"""The monitor commands that ask what a QEMU binary can do, one typed function each. Used by the probe only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hv_kvm.machine.facts import MachineType
from hv_kvm.qmp.client import QmpClient
from hv_kvm.qmp.errors import QmpCommandError
from hv_kvm.qmp.replies import Reply, as_list, as_reply

__all__ = [
    "BlockLayer",
    "KvmSupport",
    "qom_list_types",
    "query_block_layer",
    "query_command_line_options",
    "query_commands",
    "query_cpu_definitions",
    "query_kvm",
    "query_machines",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class KvmSupport:
    """``present``: compiled in. ``enabled``: this process uses it."""

    present: bool
    enabled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockLayer:
    """``drivers`` that -blockdev knows, modules that may be missing among them, and the ``aio`` that files can have."""

    drivers: frozenset[str]
    aio: frozenset[str]


def query_commands(client: QmpClient, *, deadline_s: float) -> frozenset[str]:
    """The names of all monitor commands."""
    return frozenset(row.need("name", str) for row in _rows(client, "query-commands", deadline_s))


def query_command_line_options(client: QmpClient, *, deadline_s: float) -> dict[str, frozenset[str]]:
    """Option name to the names of its parameters.

    Not listed by QEMU: options without parameters or a group (-chroot, -runas, -usbdevice, -audio); machine
    properties before 10.0.
    """
    return {
        row.need("option", str): frozenset(parameter.need("name", str) for parameter in row.rows("parameters"))
        for row in _rows(client, "query-command-line-options", deadline_s)
    }


def query_machines(client: QmpClient, *, deadline_s: float) -> tuple[MachineType, ...]:
    """The machine types, ordered by name."""
    machines = [
        MachineType(
            name=row.need("name", str),
            alias=row.maybe("alias", str, "") or None,
            deprecated=row.maybe("deprecated", bool, default=False),
            is_default=row.maybe("is-default", bool, default=False),
            cpu_max=row.need("cpu-max", int),
        )
        for row in _rows(client, "query-machines", deadline_s)
    ]
    return tuple(sorted(machines, key=lambda machine: machine.name))


def qom_list_types(client: QmpClient, *, deadline_s: float) -> frozenset[str]:
    """The names of all types that can be instantiated: devices, objects, character devices, machines. Loads modules."""
    command = "qom-list-types"
    body = client.execute(command, {"abstract": False}, deadline_s=deadline_s)
    return frozenset(row.need("name", str) for row in as_list(body, command=command, subject=client.subject))


def query_cpu_definitions(client: QmpClient, *, deadline_s: float) -> frozenset[str]:
    """The names of the CPU models for -cpu; empty on targets that do not list them."""
    try:
        return frozenset(row.need("name", str) for row in _rows(client, "query-cpu-definitions", deadline_s))
    except QmpCommandError as error:
        if error.error_class == "CommandNotFound":
            return frozenset()
        raise


def query_kvm(client: QmpClient, *, commands: frozenset[str], deadline_s: float) -> KvmSupport:
    """What QEMU says of KVM, which proves nothing (`hv_kvm.qemu.accelerator` does); all false when no command tells.

    ``commands`` are those of `query_commands`: query-accelerators (since 11.1) made query-kvm deprecated.
    """
    command = "query-accelerators" if "query-accelerators" in commands else "query-kvm"
    if command not in commands:
        return KvmSupport(present=False, enabled=False)
    reply = as_reply(client.execute(command, deadline_s=deadline_s), command=command, subject=client.subject)
    if command == "query-kvm":
        return KvmSupport(present=reply.need("present", bool), enabled=reply.need("enabled", bool))
    return KvmSupport(present="kvm" in reply.names("present"), enabled=reply.need("enabled", str) == "kvm")


def query_block_layer(client: QmpClient, *, deadline_s: float) -> BlockLayer:
    """What the arguments of blockdev-add can be, from QEMU's description of its own protocol (query-qmp-schema).

    Types there have numbers for names, so they are followed from the command's name on.
    """
    entities = {row.need("name", str): row for row in _rows(client, "query-qmp-schema", deadline_s)}
    node = entities[entities["blockdev-add"].need("arg-type", str)] if "blockdev-add" in entities else None
    if node is None:
        return BlockLayer(drivers=frozenset(), aio=frozenset())
    cases = {row.need("case", str): row.need("type", str) for row in node.rows("variants")}
    drivers = _enumeration(entities, node, "driver")
    aio = _enumeration(entities, entities[cases["file"]], "aio") if "file" in cases else frozenset()
    return BlockLayer(drivers=drivers, aio=aio)


def _enumeration(entities: Mapping[str, Reply], holder: Reply, member: str) -> frozenset[str]:
    kinds = {row.need("name", str): row.need("type", str) for row in holder.rows("members")}
    if member not in kinds:
        return frozenset()
    enumeration = entities[kinds[member]]
    if "members" in enumeration:  # since 6.2, when "values" became deprecated (QAPI SchemaInfoEnum)
        return frozenset(row.need("name", str) for row in enumeration.rows("members"))
    return enumeration.names("values")


def _rows(client: QmpClient, command: str, deadline_s: float) -> list[Reply]:
    return as_list(client.execute(command, deadline_s=deadline_s), command=command, subject=client.subject)
