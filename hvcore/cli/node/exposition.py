"""Metrics of the node and its instances as text for Prometheus: the text format, version 0.0.4."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import hvcore

__all__ = ["exposition"]

_MIB: Final = 1024 * 1024
_Row = tuple[Mapping[str, object], float | None]  # labels and value; None: not known, so there is no line


def exposition(
    node: hvcore.NodeFacts, instances: Sequence[hvcore.InstanceInfo], usages: Sequence[hvcore.InstanceUsage]
) -> str:
    """All metrics. A figure that is not known has no line."""
    parts = [*_of_node(node), *_of_instances(instances), *_of_usage(usages), *_of_devices(usages)]
    return "".join(parts)


def _metric(name: str, kind: str, text: str, rows: Iterable[_Row]) -> str:
    """One metric with its help, or nothing if it has no value."""
    known = [(labels, value) for labels, value in rows if value is not None]
    if not known:
        return ""
    lines = [f"# HELP hvcore_{name} {text}", f"# TYPE hvcore_{name} {kind}"]
    lines += [f"hvcore_{name}{_labels(labels)} {_number(value)}" for labels, value in known]
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, object]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{key}="{_escaped(str(value))}"' for key, value in labels.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _mib(value: int | None) -> int | None:
    return None if value is None else value * _MIB


def _of_node(node: hvcore.NodeFacts) -> Iterator[str]:
    gauges = (
        ("node_memory_bytes", "Memory of the node.", node.memory_total_mib * _MIB),
        ("node_memory_free_bytes", "Memory that programs can still get.", node.memory_free_mib * _MIB),
        ("node_cpus", "Online CPUs of the node.", node.cpus),
        ("node_instances", "Running and paused instances.", node.instances),
        ("node_instances_vcpus", "vCPUs of these instances.", node.instances_vcpus),
        ("node_instances_memory_bytes", "Memory that these instances may use.", node.instances_memory_mib * _MIB),
    )
    for name, text, value in gauges:
        yield _metric(name, "gauge", text, [({}, value)])
    rows: list[_Row] = [({"numa": each.number}, each.memory_free_mib * _MIB) for each in node.numa]
    yield _metric("node_numa_memory_free_bytes", "gauge", "Free memory of a NUMA node.", rows)
    yield _metric("node_info", "gauge", "Versions.", [({"version": node.hvcore, "kernel": node.kernel}, 1)])


def _of_instances(instances: Sequence[hvcore.InstanceInfo]) -> Iterator[str]:
    def rows(running: bool) -> Iterator[_Row]:  # noqa: FBT001 - which of the two metrics
        for one in instances:
            labels = {"instance": one.name, "driver": one.driver}
            up = one.state in (hvcore.State.RUNNING, hvcore.State.PAUSED)
            yield (labels, float(up)) if running else ({**labels, "state": str(one.state)}, 1.0)

    yield _metric("instance_up", "gauge", "1 while the instance runs or is paused.", rows(True))
    yield _metric("instance_state", "gauge", "The state of the instance, as a label.", rows(False))


def _of_usage(usages: Sequence[hvcore.InstanceUsage]) -> Iterator[str]:
    def rows(values: Iterable[float | None]) -> list[_Row]:
        return [({"instance": one.name}, value) for one, value in zip(usages, values, strict=True)]

    problems = rows(float(one.problem is not None) for one in usages)
    yield _metric("instance_usage_problem", "gauge", "1 if the instance could not be measured completely.", problems)
    cpu = rows(one.cpu_seconds for one in usages)
    yield _metric("instance_cpu_seconds_total", "counter", "CPU time of the node since the start.", cpu)
    yield _metric("instance_uptime_seconds", "gauge", "Time since the start.", rows(one.uptime_s for one in usages))
    yield _metric("instance_vcpus", "gauge", "vCPUs.", rows(one.vcpus for one in usages))
    memory = rows(_mib(one.memory_mib) for one in usages)
    yield _metric("instance_memory_bytes", "gauge", "Memory that the guest has now.", memory)
    resident = rows(_mib(one.resident_mib) for one in usages)
    yield _metric("instance_resident_memory_bytes", "gauge", "Memory of its processes on the node.", resident)
    charged = rows(_mib(one.group_mib) for one in usages)
    yield _metric("instance_group_memory_bytes", "gauge", "Memory of its control group, with page cache.", charged)
    yield _metric("instance_processes", "gauge", "Its processes and threads.", rows(one.processes for one in usages))
    kills = rows(one.oom_kills for one in usages)
    yield _metric("instance_oom_kills_total", "counter", "Processes killed at its memory limit.", kills)
    reported: list[_Row] = [
        ({"instance": one.name, "figure": key.removesuffix("_mib")}, _mib(value))
        for one in usages
        for key, value in one.guest.items()
        if key.endswith("_mib")
    ]
    yield _metric("instance_guest_memory_bytes", "gauge", "What the guest reports of its memory.", reported)


def _of_devices(usages: Sequence[hvcore.InstanceUsage]) -> Iterator[str]:
    disks = (("reads", "Finished reads."), ("writes", "Finished writes."), ("read_bytes", "Bytes read."))
    for key, text in (*disks, ("written_bytes", "Bytes written.")):
        rows: list[_Row] = [
            ({"instance": one.name, "disk": disk.disk}, getattr(disk, key)) for one in usages for disk in one.disks
        ]
        yield _metric(f"instance_disk_{key}_total", "counter", text, rows)
    for key in ("received_bytes", "sent_bytes", "received_packets", "sent_packets"):
        rows = [
            ({"instance": one.name, "nic": nic.nic, "interface": nic.interface}, getattr(nic, key))
            for one in usages
            for nic in one.nics
        ]
        yield _metric(f"instance_nic_{key}_total", "counter", f"{key.replace('_', ' ').capitalize()}.", rows)
