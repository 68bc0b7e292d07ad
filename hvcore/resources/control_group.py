"""The control group of an instance, with its limits and its processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from hvcore.deadline import Deadline
from hvcore.errors import NodeError, Problem
from hvcore.host.cgroups.group import Group, expect_entry
from hvcore.host.cgroups.hierarchy import group_name
from hvcore.host.environment import Host
from hvcore.model.plan import Step
from hvcore.model.record import Entry
from hvcore.model.resource import ControlGroup
from hvcore.resources.held import Held
from hvcore.resources.kind import ResourceKind, Turn
from hvcore.resources.owner import Owner, Site

__all__ = ["ControlGroupKind", "end_group"]

_KILL_S: Final = 5.0
_END_TRIES: Final = 100


class ControlGroupKind(ResourceKind[ControlGroup, bool], name="cgroup", turn=Turn.WHO, runs=True):  # its processes
    """A group in every hierarchy of use. Programs launched afterwards start in it."""

    def verify(self, resource: ControlGroup, site: Site) -> Iterator[Problem]:
        """The node must be able to set the limits."""
        for what in site.host.cgroups.problems(resource.limits):
            yield Problem(path=resource.where, what=f"the limits cannot be set, {what}", todo="unset them")

    def describe(self, resource: ControlGroup, site: Site) -> Iterator[Step]:
        """The group and its limits."""
        limits = resource.limits
        values = {
            "{} MiB of memory": None if limits.memory_bytes is None else limits.memory_bytes >> 20,
            "{:g} % of one cpu": None if limits.cpus is None else limits.cpus * 100,
            "{} processes": None if limits.processes is None else limits.processes - limits.own_processes,
        }
        found = [text.format(value) for text, value in values.items() if value is not None]
        limited = f"with at most {', '.join(found)}" if found else "without limits"
        otherwise = "otherwise the instance stays in the caller's group and ends with it"
        yield Step(kind="group", what=f"its own control group, if the node allows one, {limited}; {otherwise}")

    def placeholder(self, resource: ControlGroup, site: Site) -> bool:
        """Whether this node has control groups."""
        return site.host.cgroups.usable

    def entry(self, resource: ControlGroup, site: Site) -> Mapping[str, Any] | None:
        """The group's name; None where the instance gets no group.

        Raises `NodeError` when the limits cannot be set, and when a foreign process is in a group of that name: with an
        entry for the group, a release would end that process.
        """
        groups = site.host.cgroups
        if not groups.usable and not resource.limits.controllers():
            return None
        problems = groups.problems(resource.limits)
        if problems:
            raise NodeError(f"{site.name}: the limits cannot be set, {'; '.join(problems)}")
        group = _group(site)
        if foreign := group.holders():
            what = (
                f"{site.name}: its control group {group.directories[0]} is in use by pid {', '.join(map(str, foreign))}"
            )
            raise NodeError(f"{what}, which no instance has started; end that process first")
        return {"name": group.name}

    def acquire(self, resource: ControlGroup, held: Held) -> bool:
        """Make the group, if the node has control groups. The instance's process enters it soon."""
        if not held.site.host.cgroups.usable:
            return False
        group = _group(held.site)
        group.create(resource.limits)
        held.at_end(expect_entry(group))
        return True

    def release(self, entry: Entry, owner: Owner) -> None:
        """End its processes and remove the group."""
        end_group(owner.host, entry.data["name"], deadline=owner.deadline.at_least(_KILL_S))


def _group(site: Site) -> Group:
    return Group(group_name(site.host.run_dir, site.name), site.host.cgroups)


def end_group(host: Host, name: str, *, deadline: Deadline | None = None) -> list[int]:
    """End the processes in the control group and remove it; their pids. Does nothing if there is no such group."""
    if not host.cgroups.usable:
        return []
    group, deadline = Group(name, host.cgroups), deadline or Deadline(_KILL_S)
    pids = group.pids()
    for _ in range(_END_TRIES):
        group.kill(deadline.left())
        with suppress(NodeError):  # a process was entering it: a stop script, whose caller was killed
            group.remove()
            break
    else:
        group.remove()
    return pids
