"""A TPM, which the program swtpm emulates beside QEMU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import hvcore.plugin as hv
from hv_kvm.devices.shared.params import lacking, problem
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.resource import Bindings
from hv_kvm.machine.spec import Device, KvmSpec, when_planned
from hvcore.plugin import dataclass

__all__ = ["DEVICES", "PARAMS", "Tpm", "check", "plan", "render", "verify"]

_SWTPM: Final = "/usr/bin/swtpm"

PARAMS: Final = hv.ParamGroup(
    "tpm",
    hv.Param(
        "tpm_version",
        hv.one_of({"2.0": "TPM 2.0, which the guest sees as a CRB device."}),
        help="The version of the guest's TPM.",
        default_means="no TPM",
        example="2.0",
    ),
    hv.Param(
        "tpm_state_path",
        hv.directory(),
        help="The directory in which the TPM keeps its keys. Give each instance its own, empty at first. A user who can read "
        "the directory has the keys.",
        default_means="none, but a TPM needs one",
        example="/srv/tpm/web1",
    ),
    hv.Param(
        "swtpm_path",
        hv.file(),
        help="The program that emulates the TPM.",
        default_means=f"{_SWTPM}, of the package swtpm",
        changes="launch",
        example="/usr/local/bin/swtpm",
    ),
    help="The guest's TPM. The program swtpm emulates it beside QEMU, confined in the same way, and exits with the guest.",
)
_MODEL: Final = "tpm-crb"
_NAME: Final = "tpm"
_LARGEST_BYTES: Final = 4 << 20  # a state has at most a few hundred KiB


@dataclass(frozen=True, slots=True, kw_only=True)
class Tpm(Device):
    """The device, the directory of its keys, and the program that emulates it."""

    state: str
    swtpm: str

    @property
    def program(self) -> hv.Program:
        """swtpm, which exits when QEMU closes the connection (``--terminate``)."""
        state, control = "dir={state},mode=0600", "type=unixio,clientfd={fd}"
        directory = hv.StateDirectory(
            key=f"{_NAME}.state",
            given_by="params.tpm_state_path",
            path=self.state,
            package="swtpm",
            owner=hv.Identity(key=f"{_NAME}.uid"),
            lock=".lock",
            # swtpm renames TMP2-00.permall when it is written; after a kill the file is still there
            keeps=("tpm2-", "TMP"),
        )
        return hv.Program(
            key=_NAME,
            given_by="params.swtpm_path",
            binary=self.swtpm,
            package="swtpm",
            arguments=("socket", "--tpm2", "--tpmstate", state, "--ctrl", control, "--terminate"),
            state=directory,
            seccomp=True,
            largest_file_bytes=_LARGEST_BYTES,
        )

    def resources(self, spec: KvmSpec) -> Iterator[hv.Resource[Any]]:
        """swtpm, which needs its directory and its user."""
        yield self.program


DEVICES: Final = (Tpm,)


@hv.hookimpl
@hv.when_given(*(param.key for param in PARAMS))
def check(params: hv.Params) -> Iterator[hv.Problem]:
    """A TPM needs a directory, and the other parameters need a TPM."""
    if params["tpm_version"] and not params["tpm_state_path"]:
        what = "is not set, but a TPM that loses its keys locks the guest out of its disks"
        yield problem(params, "tpm_state_path", what, "name a directory that only this instance uses")
    for key in ("tpm_state_path", "swtpm_path"):
        if params[key] and not params["tpm_version"]:
            yield problem(params, key, "is set without a TPM", 'set tpm_version = "2.0"')


@hv.hookimpl
@hv.when_given("tpm_version")
def plan(params: hv.Params) -> Iterator[Device]:
    """The TPM, if there is one."""
    if params["tpm_version"]:
        yield Tpm(state=params["tpm_state_path"], swtpm=params["swtpm_path"] or _SWTPM)


@hv.hookimpl
@when_planned(Tpm)
def verify(spec: KvmSpec, facts: Facts) -> Iterator[hv.Problem]:
    """The device must exist in this QEMU."""
    if spec.of(Tpm):
        yield from lacking(facts, _MODEL, "params.tpm_version", "unset it", "'2.0'")


@hv.hookimpl
@when_planned(Tpm)
def render(spec: KvmSpec, bindings: Bindings) -> Iterator[Opt]:
    """The connection to swtpm, and the device."""
    for tpm in spec.of(Tpm):
        socket: Props = {"id": _NAME, "fd": bindings[tpm.program]}
        keys = ("tpm_version", "tpm_state_path", "swtpm_path")
        yield Opt(name="-chardev", head="socket", props=socket, params=keys, why="already connected to swtpm")
        backend: Props = {"id": _NAME, "chardev": _NAME}
        yield Opt(name="-tpmdev", head="emulator", props=backend, params=("tpm_version", "tpm_state_path"))
        device: Props = {"id": "tpm-dev", "tpmdev": _NAME}
        yield Opt(name="-device", head=_MODEL, props=device, params=("tpm_version",))
