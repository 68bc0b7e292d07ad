"""hvcore: run instances with drivers that are loaded by name, and write such drivers.

Everything that host applications and drivers may use is here; other modules are private.
"""

import typing as _typing

from hvcore._version import __version__
from hvcore.errors import (
    BusyError,
    ConfinementError,
    DeadlineError,
    DiskInUseError,
    DriverError,
    DriverLoadError,
    HookError,
    HvError,
    InputError,
    InstanceFileError,
    LaunchError,
    LeftoverError,
    NodeError,
    NotFoundError,
    OperationError,
    ParamsError,
    Problem,
    RecordError,
    StateError,
    UnknownDriverError,
    UnsupportedError,
    VerifyError,
)
from hvcore.moved import by_home as _by_home
from hvcore.moved import moved_names as _moved_names

__all__ = [
    "CAPABILITIES",
    "CGROUP",
    "COMPANION",
    "DISK",
    "LIFE_LOCK",
    "LINK",
    "LOG",
    "MOUNT",
    "PROCESS",
    "STATUS",
    "UID",
    "UID_RANGE",
    "UID_RANGE_SIZE",
    "Adopts",
    "Argument",
    "AsCaller",
    "AsRoot",
    "AsUser",
    "Bump",
    "BusyError",
    "CatalogueEntry",
    "Change",
    "Child",
    "Command",
    "ConfinementError",
    "Console",
    "ControlGroups",
    "DeadlineError",
    "Disk",
    "DiskInUseError",
    "Driver",
    "DriverError",
    "DriverHandle",
    "DriverLoadError",
    "Ended",
    "Entry",
    "Examines",
    "Executes",
    "Execution",
    "Figures",
    "Finding",
    "Group",
    "GroupFigures",
    "GroupLimits",
    "HasConsole",
    "HasLog",
    "Held",
    "HookError",
    "Hooks",
    "Host",
    "HvError",
    "InputError",
    "Instance",
    "InstanceFileError",
    "InstanceInfo",
    "Job",
    "LaunchError",
    "LeftoverError",
    "Level",
    "Live",
    "Log",
    "Nic",
    "Node",
    "NodeError",
    "NotFoundError",
    "Observation",
    "Op",
    "OperationError",
    "Origin",
    "Outcome",
    "OwesStop",
    "Param",
    "ParamChange",
    "ParamGroup",
    "ParamType",
    "Params",
    "ParamsError",
    "Pausable",
    "Plan",
    "Problem",
    "ProcessId",
    "ReadsSpec",
    "Record",
    "RecordError",
    "Reject",
    "ReleaseFunction",
    "Releases",
    "Sandbox",
    "Schema",
    "Severity",
    "State",
    "StateError",
    "Step",
    "UnknownDriverError",
    "UnsupportedError",
    "Value",
    "Verdict",
    "VerifyError",
    "View",
    "__version__",
    "address",
    "address_or_path",
    "alive",
    "as_schema",
    "boolean",
    "boot_id",
    "capability_mask",
    "catalogue",
    "claim_mount",
    "compare_schemas",
    "cpu_mask",
    "decode",
    "differences",
    "directory",
    "encode",
    "examine",
    "exit_code",
    "figures",
    "file",
    "file_or_url",
    "hold_namespaces",
    "hookimpl",
    "hookspec",
    "how_to_install",
    "identify",
    "identify_disk",
    "impl",
    "integer",
    "kill_and_wait",
    "largest",
    "launch",
    "launched_for",
    "life_lock",
    "list_of",
    "load_instance",
    "log_pieces",
    "name",
    "new_driver",
    "new_extension",
    "one_of",
    "parse_instance_file",
    "pidfile_lock_holder",
    "port",
    "processes_in_pid_namespace",
    "program",
    "read_instance_file",
    "read_status",
    "regexp",
    "run_tool",
    "sandboxed",
    "seconds",
    "size_mib",
    "strict",
    "system_view",
    "tail",
    "text",
    "uid_ranges",
    "unmet_limits",
    "verified_pidfd",
    "wait_gone",
    "wait_readable",
    "weaknesses",
    "with_own_root",
]

# Imported when somebody first asks for it: a program that lists instances needs a small part of all this.
if _typing.TYPE_CHECKING:
    from hvcore.api.doctor import examine
    from hvcore.api.driver_handle import DriverHandle
    from hvcore.api.node import Node
    from hvcore.config.instance_file import load_instance, parse_instance_file, read_instance_file
    from hvcore.config.node_config import strict
    from hvcore.host.abilities import how_to_install, program
    from hvcore.host.cgroups.controllers import GroupFigures
    from hvcore.host.cgroups.group import Group
    from hvcore.host.cgroups.hierarchy import ControlGroups, GroupLimits
    from hvcore.host.confinement.bubblewrap import sandboxed, system_view
    from hvcore.host.confinement.capabilities import CAPABILITIES, capability_mask
    from hvcore.host.confinement.namespaces import UID_RANGE_SIZE, Held, hold_namespaces, uid_ranges
    from hvcore.host.confinement.own_root import with_own_root
    from hvcore.host.confinement.proof import weaknesses
    from hvcore.host.confinement.sandbox import AsCaller, AsRoot, AsUser, Level, Sandbox, View
    from hvcore.host.disks.identity import identify_disk
    from hvcore.host.environment import Host
    from hvcore.host.files import tail
    from hvcore.host.follow import log_pieces
    from hvcore.host.launching.launch import Child, Command, launch, life_lock, run_tool
    from hvcore.host.launching.rlimits import unmet_limits
    from hvcore.host.mounts.mount_claims import claim_mount
    from hvcore.host.processes.launch_notes import launched_for
    from hvcore.host.processes.launched import Ended, read_status
    from hvcore.host.processes.process import (
        Figures,
        alive,
        boot_id,
        exit_code,
        figures,
        identify,
        kill_and_wait,
        pidfile_lock_holder,
        processes_in_pid_namespace,
        verified_pidfd,
        wait_gone,
        wait_readable,
    )
    from hvcore.model.codec import decode, encode
    from hvcore.model.finding import Finding, Severity
    from hvcore.model.info import InstanceInfo, Observation
    from hvcore.model.instance import Disk, Instance, Nic
    from hvcore.model.outcome import Console, Execution, Log, Outcome
    from hvcore.model.plan import Argument, Origin, Plan, Step, Value
    from hvcore.model.plan_diff import Change, differences
    from hvcore.model.record import Entry, ProcessId, Record
    from hvcore.model.state import Op, State
    from hvcore.params import (
        Bump,
        Param,
        ParamChange,
        ParamGroup,
        Params,
        ParamType,
        Reject,
        Schema,
        address,
        address_or_path,
        as_schema,
        boolean,
        compare_schemas,
        cpu_mask,
        directory,
        file,
        file_or_url,
        integer,
        largest,
        list_of,
        name,
        one_of,
        port,
        regexp,
        seconds,
        size_mib,
        text,
    )
    from hvcore.plugins import typed_hooks as impl
    from hvcore.plugins.catalogue import CatalogueEntry, Verdict, catalogue
    from hvcore.plugins.hooks import Hooks
    from hvcore.plugins.hookspecs import hookimpl, hookspec
    from hvcore.plugins.new_project import new_driver, new_extension
    from hvcore.plugins.protocols import (
        Adopts,
        Driver,
        Examines,
        Executes,
        HasConsole,
        HasLog,
        OwesStop,
        Pausable,
        ReadsSpec,
        ReleaseFunction,
        Releases,
    )
    from hvcore.state.job import (
        COMPANION,
        DISK,
        LIFE_LOCK,
        LINK,
        LOG,
        MOUNT,
        PROCESS,
        STATUS,
        UID,
        UID_RANGE,
        Job,
    )
    from hvcore.state.live import CGROUP, Live
else:  # for a type checker there would be no unknown name any more
    _LATE = {
        "hvcore.config.node_config": "strict",
        "hvcore.plugins.catalogue": "CatalogueEntry Verdict catalogue",
        "hvcore.plugins.protocols": (
            "Adopts Driver Examines Executes HasConsole HasLog OwesStop Pausable ReadsSpec ReleaseFunction Releases"
        ),
        "hvcore.api.driver_handle": "DriverHandle",
        "hvcore.plugins.hooks": "Hooks",
        "hvcore.plugins.hookspecs": "hookimpl hookspec",
        "hvcore.host.confinement.capabilities": "CAPABILITIES capability_mask",
        "hvcore.host.cgroups.hierarchy": "ControlGroups GroupLimits",
        "hvcore.host.confinement.bubblewrap": "sandboxed system_view",
        "hvcore.host.cgroups.group": "Group",
        "hvcore.host.cgroups.controllers": "GroupFigures",
        "hvcore.host.disks.identity": "identify_disk",
        "hvcore.host.files": "tail",
        "hvcore.host.follow": "log_pieces",
        "hvcore.host.environment": "Host",
        "hvcore.host.launching.launch": "Child Command launch life_lock run_tool",
        "hvcore.host.processes.launched": "Ended read_status",
        "hvcore.host.processes.launch_notes": "launched_for",
        "hvcore.host.launching.rlimits": "unmet_limits",
        "hvcore.host.mounts.mount_claims": "claim_mount",
        "hvcore.host.confinement.namespaces": "UID_RANGE_SIZE Held hold_namespaces uid_ranges",
        "hvcore.host.confinement.own_root": "with_own_root",
        "hvcore.host.processes.process": (
            "Figures alive boot_id exit_code figures identify kill_and_wait pidfile_lock_holder processes_in_pid_namespace "
            "verified_pidfd wait_gone wait_readable"
        ),
        "hvcore.host.confinement.proof": "weaknesses",
        "hvcore.host.confinement.sandbox": "AsCaller AsRoot AsUser Level Sandbox View",
        "hvcore.config.instance_file": "load_instance parse_instance_file read_instance_file",
        "hvcore.state.job": "COMPANION DISK LIFE_LOCK LINK LOG MOUNT PROCESS STATUS UID UID_RANGE Job",
        "hvcore.state.live": "CGROUP Live",
        "hvcore.model.codec": "decode encode",
        "hvcore.model.finding": "Finding Severity",
        "hvcore.model.info": "InstanceInfo Observation",
        "hvcore.model.outcome": "Console Execution Log Outcome",
        "hvcore.model.instance": "Disk Instance Nic",
        "hvcore.model.plan": "Argument Origin Plan Step Value",
        "hvcore.model.plan_diff": "Change differences",
        "hvcore.model.record": "Entry ProcessId Record",
        "hvcore.model.state": "Op State",
        "hvcore.api.node": "Node",
        "hvcore.params": (
            "Bump Param ParamChange ParamGroup Params ParamType Reject Schema address address_or_path as_schema "
            "boolean compare_schemas cpu_mask directory file file_or_url integer largest list_of name one_of port "
            "regexp seconds size_mib text"
        ),
        "hvcore.api.doctor": "examine",
        "hvcore.host.abilities": "how_to_install program",
        "hvcore.plugins.new_project": "new_driver new_extension",
    }
    # No name has moved so far.
    __getattr__ = _moved_names(__name__, {}, late={"impl": "hvcore.plugins.typed_hooks", **_by_home(_LATE)})
