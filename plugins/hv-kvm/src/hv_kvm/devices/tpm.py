"""A TPM, emulated by swtpm, a program beside QEMU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hv_kvm.bindings import Bindings
from hv_kvm.facts import Facts
from hv_kvm.option import Opt, Props
from hv_kvm.spec import Device, KvmSpec
from hvcore import Param, ParamGroup, Params, Problem, directory, hookimpl, one_of

__all__ = ["PARAMS", "Tpm", "check", "params", "plan", "render", "verify"]

PARAMS: Final = ParamGroup(
    "tpm",
    Param("tpm_version", one_of("2.0"), help="The version of the guest's TPM. Unset: it has none.", example="2.0"),
    Param(
        "tpm_state_path",
        directory(),
        help="The directory in which the instance's TPM keeps its keys.",
        example="/srv/tpm/web1",
    ),
    help="The guest's TPM.",
)
_MODEL: Final = "tpm-crb"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tpm(Device):
    """The device, and where its keys are."""

    state: str

    def refusals(self) -> tuple[Problem, ...]:
        """Nothing starts swtpm yet, and QEMU without it ends at once."""
        what = "needs the program swtpm, which this release of hv-kvm does not start"
        return (Problem(path="params.tpm_version", what=what, got="'2.0'", todo="unset it"),)


@hookimpl
def params() -> ParamGroup:
    """The family's parameters."""
    return PARAMS


@hookimpl
def check(params: Params) -> Iterator[Problem]:
    """Both or none."""
    if params["tpm_version"] and not params["tpm_state_path"]:
        what = "is not set, and a TPM that forgets its keys locks the guest out of its disks"
        yield Problem(path="params.tpm_state_path", what=what, todo="name a directory of this instance alone")
    if params["tpm_state_path"] and not params["tpm_version"]:
        got, todo = repr(params["tpm_state_path"])[:80], 'set tpm_version = "2.0"'
        yield Problem(path="params.tpm_state_path", what="is set without a TPM", got=got, todo=todo)


@hookimpl
def plan(params: Params) -> Iterator[Device]:
    """One, if it is wanted."""
    if params["tpm_version"]:
        yield Tpm(state=params["tpm_state_path"])


@hookimpl
def verify(spec: KvmSpec, facts: Facts) -> Iterator[Problem]:
    """The device must exist in this QEMU."""
    if spec.of(Tpm) and not facts.has_type(_MODEL):
        what = f"this QEMU ({facts.version}) has no {_MODEL}"
        yield Problem(path="params.tpm_version", what=what, got="'2.0'", todo="unset it")


@hookimpl
def render(spec: KvmSpec, bindings: Bindings) -> Iterator[Opt]:
    """The way to swtpm, and the device."""
    for _ in spec.of(Tpm):
        socket: Props = {"id": "tpm", "path": f"{bindings.guest_dir}/swtpm.sock"}
        yield Opt(name="-chardev", head="socket", props=socket, params=("tpm_version",))
        backend: Props = {"id": "tpm", "chardev": "tpm"}
        yield Opt(name="-tpmdev", head="emulator", props=backend, params=("tpm_version", "tpm_state_path"))
        device: Props = {"id": "tpm-dev", "tpmdev": "tpm"}
        yield Opt(name="-device", head=_MODEL, props=device, params=("tpm_version",))
