"""More arguments for QEMU, unchanged, after all others."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Final

import hvcore.plugin as hv
from hv_kvm.devices.shared.params import problem
from hv_kvm.machine.option import Opt
from hv_kvm.machine.spec import Device, KvmSpec, when_planned
from hvcore.plugin import dataclass

__all__ = ["DEVICES", "PARAMS", "Extra", "assess", "check", "plan", "render"]

PARAMS: Final = hv.ParamGroup(
    "extra",
    hv.Param(
        "kvm_extra",
        hv.text(max_bytes=8192),
        help="More arguments for QEMU, with quotes as in a shell. Arguments that hv itself controls are refused; only QEMU "
        "checks the others.",
        default_means="none",
        example="-device pvpanic",
        changes="launch",
    ),
)
_OURS: Final = "hv itself uses to manage the guest"
_MONITOR: Final = "opens a monitor with full control of QEMU"
_PROCESS: Final = "hv refuses, because it prepares and confines the process of QEMU itself"
_ELSEWHERE: Final = {
    "m": "set memory_mib of the instance",
    "smp": "set vcpus of the instance",
    "M": "set machine_version",
    "machine": "set machine_version",
    "accel": "set kvm_flag",
    "enable-kvm": "set kvm_flag",
}
_NEVER: Final = {
    **dict.fromkeys(("name", "uuid", "pidfile", "qmp", "qmp-pretty", "S", "daemonize", "incoming", "add-fd"), _OURS),
    **dict.fromkeys(("preconfig", "no-shutdown", "loadvm"), _OURS),
    **dict.fromkeys(("monitor", "mon", "gdb", "s"), _MONITOR),
    **dict.fromkeys(("sandbox", "runas", "run-with", "chroot", "D", "readconfig", "writeconfig"), _PROCESS),
    **dict.fromkeys(("h", "help", "version"), "makes QEMU exit at once"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Extra(Device):
    """The arguments, split."""

    words: tuple[str, ...]


DEVICES: Final = (Extra,)


@hv.hookimpl
@hv.when_given("kvm_extra")
def check(params: hv.Params) -> Iterator[hv.Problem]:
    """The quotes must match, and arguments that hv controls are refused."""
    try:
        words = shlex.split(params["kvm_extra"] or "")
    except ValueError as error:
        what = f"cannot be split into arguments ({str(error).lower()})"
        yield problem(params, "kvm_extra", what, "close the quotes")
        return
    for word in dict.fromkeys(words):
        # QEMU takes two dashes for one (system/vl.c, lookup_opt).
        option = word[2:] if word.startswith("--") else word[1:] if word.startswith("-") else ""
        todo = _ELSEWHERE.get(option)
        reason = "has its own parameter or field" if todo else _NEVER.get(option)
        if reason is not None:
            what = f"contains {word}, which {reason}"
            yield hv.Problem(path="params.kvm_extra", what=what, got=repr(word), todo=todo or "leave it out")


@hv.hookimpl
def assess(params: hv.Params) -> Iterator[hv.Problem]:
    """Another QEMU may not accept the arguments."""
    if params["kvm_extra"]:
        yield problem(params, "kvm_extra", "is not checked, and may stop working with the next QEMU")


@hv.hookimpl
@hv.when_given("kvm_extra")
def plan(params: hv.Params) -> Iterator[Device]:
    """The arguments, if there are any."""
    words = tuple(shlex.split(params["kvm_extra"] or ""))
    if words:
        yield Extra(words=words)


@hv.hookimpl
@when_planned(Extra)
def render(spec: KvmSpec) -> Iterator[Opt]:
    """One token for each argument."""
    for extra in spec.of(Extra):
        for word in extra.words:
            yield Opt(name=word, params=("kvm_extra",), why="copied from kvm_extra")
