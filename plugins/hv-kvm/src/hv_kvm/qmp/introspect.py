"""The monitor commands that show the features of a QEMU binary, one typed function each. Used by the probe only."""

from __future__ import annotations

from collections.abc import Mapping

from hv_kvm.machine.facts import MachineType
from hv_kvm.qmp.client import QmpClient
from hv_kvm.qmp.errors import QmpCommandError
from hv_kvm.qmp.replies import Reply, ask, ask_rows

__all__ = [
    "qom_list_types",
    "query_block_layer",
    "query_command_line_options",
    "query_commands",
    "query_cpu_definitions",
    "query_cpu_features",
    "query_keys",
    "query_kvm",
    "query_machines",
]


def query_commands(client: QmpClient, *, deadline_s: float) -> frozenset[str]:
    """The names of all monitor commands."""
    return frozenset(row.need("name", str) for row in ask_rows(client, "query-commands", deadline_s))


def query_command_line_options(client: QmpClient, *, deadline_s: float) -> dict[str, frozenset[str]]:
    """Option name to the names of its parameters.

    Not listed by QEMU: options without parameters or a group (-chroot, -runas, -usbdevice, -audio); machine
    properties before 10.0.
    """
    return {
        row.need("option", str): frozenset(parameter.need("name", str) for parameter in row.rows("parameters"))
        for row in ask_rows(client, "query-command-line-options", deadline_s)
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
        for row in ask_rows(client, "query-machines", deadline_s)
    ]
    return tuple(sorted(machines, key=lambda machine: machine.name))


def qom_list_types(client: QmpClient, *, deadline_s: float) -> frozenset[str]:
    """The names of all types that can be instantiated: devices, objects, character devices, machines. Loads modules."""
    rows = ask_rows(client, "qom-list-types", deadline_s, {"abstract": False})
    return frozenset(row.need("name", str) for row in rows)


def query_cpu_definitions(client: QmpClient, *, deadline_s: float) -> frozenset[str]:
    """The names of the CPU models for -cpu; empty on targets that do not list them."""
    try:
        return frozenset(row.need("name", str) for row in ask_rows(client, "query-cpu-definitions", deadline_s))
    except QmpCommandError as error:
        if error.error_class == "CommandNotFound":
            return frozenset()
        raise


def query_cpu_features(client: QmpClient, *, deadline_s: float) -> frozenset[str]:
    """The names of all properties that -cpu takes after a model; empty on targets without the model ``max`` of a PC."""
    try:
        rows = ask_rows(client, "device-list-properties", deadline_s, {"typename": "max-x86_64-cpu"})
    except QmpCommandError:
        return frozenset()
    return frozenset(row.need("name", str) for row in rows)


def query_feature_words(client: QmpClient, *, deadline_s: float) -> dict[str, int]:
    """What CPUID tells the guest about its first CPU, by register: ``cpuid 1 ecx``. Empty if the CPU has no such words."""
    cpus = ask_rows(client, "query-cpus-fast", deadline_s)
    path = next((cpu.need("qom-path", str) for cpu in cpus), "")
    try:
        rows = ask_rows(client, "qom-get", deadline_s, {"path": path, "property": "feature-words"})
    except QmpCommandError:
        return {}
    return {_register(row): row.need("features", int) for row in rows}


def _register(row: Reply) -> str:
    leaf, register = f"{row.need('cpuid-input-eax', int):#x}", row.need("cpuid-register", str).lower()
    part = f".{row.need('cpuid-input-ecx', int)}" if "cpuid-input-ecx" in row else ""
    return f"cpuid {leaf}{part} {register}"


def query_kvm(client: QmpClient, *, commands: frozenset[str], deadline_s: float) -> tuple[bool, bool]:
    """Whether KVM is compiled in, and whether this process uses it; both False when QEMU has no command for that.

    This does not prove that KVM works (`hv_kvm.qemu.accelerator` does). ``commands`` are those of `query_commands`:
    query-accelerators (since 11.1) made query-kvm deprecated.
    """
    command = "query-accelerators" if "query-accelerators" in commands else "query-kvm"
    if command not in commands:
        return False, False
    reply = ask(client, command, deadline_s)
    if command == "query-kvm":
        return reply.need("present", bool), reply.need("enabled", bool)
    return "kvm" in reply.names("present"), reply.need("enabled", str) == "kvm"


def query_block_layer(client: QmpClient, *, deadline_s: float) -> tuple[frozenset[str], frozenset[str]]:
    """The drivers of -blockdev, also those with a missing module, and the values of ``aio`` for files.

    From QEMU's description of the protocol (query-qmp-schema). Its types have numbers for names, so they are
    followed from the name of command blockdev-add on.
    """
    entities = {row.need("name", str): row for row in ask_rows(client, "query-qmp-schema", deadline_s)}
    if "blockdev-add" not in entities:
        return frozenset(), frozenset()
    node = entities[entities["blockdev-add"].need("arg-type", str)]
    cases = {row.need("case", str): row.need("type", str) for row in node.rows("variants")}
    aio = _enumeration(entities, entities[cases["file"]], "aio") if "file" in cases else frozenset()
    return _enumeration(entities, node, "driver"), aio


def query_keys(client: QmpClient, *, deadline_s: float) -> frozenset[str]:
    """The names of keys that send-key takes; empty if QEMU does not describe them."""
    entities = {row.need("name", str): row for row in ask_rows(client, "query-qmp-schema", deadline_s)}
    if "send-key" not in entities:
        return frozenset()
    arguments = entities[entities["send-key"].need("arg-type", str)]
    keys = {row.need("name", str): row.need("type", str) for row in arguments.rows("members")}["keys"]
    key = entities[entities[keys].need("element-type", str)]
    cases = {row.need("case", str): row.need("type", str) for row in key.rows("variants")}
    return _enumeration(entities, entities[cases["qcode"]], "data")


def _enumeration(entities: Mapping[str, Reply], holder: Reply, member: str) -> frozenset[str]:
    kinds = {row.need("name", str): row.need("type", str) for row in holder.rows("members")}
    if member not in kinds:
        return frozenset()
    enumeration = entities[kinds[member]]
    if "members" in enumeration:  # since 6.2, when "values" became deprecated (QAPI SchemaInfoEnum)
        return frozenset(row.need("name", str) for row in enumeration.rows("members"))
    return enumeration.names("values")
