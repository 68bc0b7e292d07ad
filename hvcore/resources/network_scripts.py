"""Scripts of the operator that connect the link of a NIC and disconnect it, as Ganeti runs them.

The script to connect must succeed in time, and what it should have done is then read from the kernel: such scripts end
with 0 when the bridge is missing. The script to disconnect runs once, when the instance has ended, also after a crash. Its
failure is reported and keeps nothing reserved. Processes that a script leaves behind are ended with the NIC.
"""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from hvcore.errors import HvError, OperationError, Problem
from hvcore.headline import headline
from hvcore.host.cgroups.hierarchy import program_group_name
from hvcore.host.files import changed_by_others
from hvcore.host.interpreter import executable_problem
from hvcore.host.launching.launch import PATH, reap, run_tool
from hvcore.host.network.links import find_link
from hvcore.host.network.netlink import Netlink
from hvcore.host.network.routes import delete_rules_of
from hvcore.host.processes.launched import launch_files, members
from hvcore.host.programs import is_program
from hvcore.model.limits import NO_LIMITS
from hvcore.model.network.nic_scripts import NetworkScripts
from hvcore.model.plan import Step
from hvcore.model.record import Entry
from hvcore.resources.bridge_port import no_bridge
from hvcore.resources.control_group import end_group
from hvcore.resources.held import Held
from hvcore.resources.instance_process import end_members
from hvcore.resources.kind import ResourceKind, Turn
from hvcore.resources.owner import Owner, Site, report

if TYPE_CHECKING:
    from hvcore.host.cgroups.group import Group

__all__ = ["NetworkScriptsKind"]

_UP_MODES: Final = ("bridged", "routed", "openvswitch")
_HEAD_BYTES: Final = 4096
_END_S: Final = 5.0
_OTHER_PROGRAM: Final = "name a program that only root can change"


class NetworkScriptsKind(ResourceKind[NetworkScripts, None], name="network-scripts", turn=Turn.NETWORK):
    """The ledger has the interface's name as soon as a script may have used it."""

    def verify(self, resource: NetworkScripts, site: Site) -> Iterator[Problem]:
        """The kernel must be able to run each script, only root may be able to change it, and the bridge must exist."""
        for path, where in ((resource.up, resource.where), (resource.down, resource.down_given_by or resource.where)):
            if path is not None and (found := _unusable(path)) is not None:
                yield Problem(path=where, what=found[0], got=repr(path), todo=found[1])
        if resource.mode == "bridged" and resource.bridge is not None:
            with Netlink() as netlink:
                bridge = find_link(netlink, resource.bridge)
            problem = no_bridge(resource.bridge_given_by or resource.where, resource.bridge, bridge)
            if problem is not None:
                yield problem

    def describe(self, resource: NetworkScripts, site: Site) -> Iterator[Step]:
        """The scripts, and when each runs."""
        link, mode = resource.link.key, resource.mode
        if resource.up is not None:
            yield Step(kind="script", what=f"{resource.up} connects {link} (mode {mode})")
        if resource.down is not None:
            yield Step(kind="script", what=f"{resource.down} disconnects {link}, after the instance has ended")

    def entry(self, resource: NetworkScripts, site: Site) -> Mapping[str, Any]:
        """What the script to disconnect needs."""
        environment = dict(resource.environment)
        return {"down": resource.down, "environment": environment, "deadline_s": resource.deadline_s}

    def acquire(self, resource: NetworkScripts, held: Held) -> None:
        """Run the script to connect, and check what it should have done. Raises `OperationError`."""
        owner, name = held.owner, held[resource.link].name
        owner.note(resource.key, name=name)  # from here on the script to disconnect has to run
        if resource.up is None:
            return
        owner.progress(f"running {resource.up} for {name}")
        environment = {**dict(resource.environment), "INTERFACE": name, "ACTION": "up"}
        allowed_s = owner.deadline.left(at_most=resource.deadline_s)
        why = _run((resource.up, name), environment, allowed_s, owner, resource.key)
        if why is None and (missing := _missing(resource, name)) is not None:
            why = f"succeeded, but {missing}"
        if why is not None:
            raise OperationError(f"{owner.name}: {resource.where}: {resource.up} {why}; correct the script")
        owner.note(resource.key, connected=True)

    def prove(self, resource: NetworkScripts, site: Site, owner: Owner) -> None:
        """What the script has done must still be there. Raises `OperationError`."""
        if resource.up is None:
            return
        entry = owner.record.entry(resource.key)
        missing = _missing(resource, entry.data["name"])
        if missing is not None:
            what = f"{owner.name}: {resource.where}: after {resource.up} had connected it, {missing}"
            raise OperationError(f"{what}; another program changed it during the start")

    def release(self, entry: Entry, owner: Owner) -> None:
        """Run the script to disconnect, once; then end what the scripts left behind."""
        data = entry.data
        name = data.get("name")
        if name is None:
            return
        if not data.get("connected"):
            _end(owner, entry.key)  # the script to connect may still run, because its caller was killed
        if data["down"] is not None and not data.get("disconnected"):
            owner.progress(f"running {data['down']} for {name}")
            environment = {**data["environment"], "INTERFACE": name, "ACTION": "down"}
            try:
                why = _run((data["down"], name), environment, data["deadline_s"], owner, entry.key)
            except HvError as error:
                why = f"cannot be run: {error}"
            if why is not None:
                report(owner, f"{data['down']} for {name} {why}")
            owner.note(entry.key, disconnected=True)
        with Netlink() as netlink:
            delete_rules_of(netlink, name)  # Ganeti's scripts leave theirs
        _end(owner, entry.key)


def _unusable(path: str) -> tuple[str, str] | None:
    """Why the script cannot be run or should not be, and what to do. None if it can."""
    head = _head(path)
    try:
        found = os.stat(path)
    except OSError as error:
        return f"cannot be run ({error.strerror})", "name a program of this node"
    if not stat.S_ISREG(found.st_mode):
        return "is not a file", "name a program of this node"
    if head is None:
        return "is not executable", f"use chmod +x {path}"
    if (changed := changed_by_others(found)) is not None:
        return changed, _OTHER_PROGRAM
    if head[:2] != b"#!" and head[:4] != b"\x7fELF":
        return "has no interpreter, because it does not begin with '#!'", "add a first line such as '#!/bin/sh'"
    return executable_problem(head, PATH, _head, of_root=False)


def _head(path: str) -> bytes | None:
    """The first bytes of an executable file; None if it is not one."""
    if not is_program(path):
        return None
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(_HEAD_BYTES)
    except OSError:  # one that may be executed and not read
        return b""


def _run(argv: tuple[str, str], environment: Mapping[str, str], allowed_s: float, owner: Owner, key: str) -> str | None:
    """Run a script, in its own control group: None if it succeeded, else what happened, with its output."""
    if (fault := _unusable(argv[0])) is not None:
        return fault[0]
    life, status = launch_files(owner.dir, key)
    try:
        ended, output = run_tool(
            argv,
            life=life,
            status=status,
            deadline_s=allowed_s,
            group=_group(owner, key),
            environment={**environment, "PATH": PATH},
        )
    except OSError as error:
        return f"cannot be run, got {error.strerror}"
    if ended is not None and ended.code == 0:
        return None
    _end(owner, key)
    said = headline(output)
    how = f"did not end within {allowed_s:.1f} s and was killed" if ended is None else str(ended)
    return f'{how}: "{said}"' if said else f"{how}, without output"


def _missing(resource: NetworkScripts, name: str) -> str | None:
    """What the script to connect has not done; None if nothing is known to be missing."""
    with Netlink() as netlink:
        found = find_link(netlink, name)
        bridge = find_link(netlink, resource.bridge) if resource.bridge is not None else None
    if found is None:
        return f"interface {name} does not exist any more"
    if resource.mode in _UP_MODES and not found.up:
        return f"interface {name} is down"
    if resource.mode == "bridged" and (bridge is None or found.master != bridge.index):
        return f"interface {name} is not a port of bridge {resource.bridge}"
    return None


def _group(owner: Owner, key: str) -> Group | None:
    if not owner.host.cgroups.usable:
        return None
    from hvcore.host.cgroups.group import Group  # noqa: PLC0415 - 3.7 ms, for those that have one

    group = Group(program_group_name(owner.host.run_dir, owner.name, key), owner.host.cgroups)
    group.create(NO_LIMITS)
    return group


def _end(owner: Owner, key: str) -> None:
    """End everything that the scripts of that resource left running: their sessions, their control group, then others."""
    ours = os.getsid(0)
    for process in members(*launch_files(owner.dir, key)):
        with suppress(ProcessLookupError, PermissionError):
            session = os.getsid(process.pid)
            if session != ours:
                os.killpg(session, signal.SIGKILL)
    deadline = owner.deadline.at_least(_END_S)
    end_group(owner.host, program_group_name(owner.host.run_dir, owner.name, key), deadline=deadline)
    end_members(owner.name, owner.dir, key, deadline=deadline)
    reap()
