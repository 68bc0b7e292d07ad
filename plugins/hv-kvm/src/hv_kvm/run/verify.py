"""What keeps this node from running a spec: what it lacks of the guest's resources, and what its QEMU lacks."""

from __future__ import annotations

from collections.abc import Iterator

from hv_kvm.confinement import site_of
from hv_kvm.machine.spec import KvmSpec
from hv_kvm.qemu.accelerator import kvm_works
from hv_kvm.qemu.choose import facts_of
from hv_kvm.qemu.probe import ProbeError
from hvcore.plugin import Hooks, Host, Problem

__all__ = ["problems_on"]


def problems_on(hooks: Hooks, spec: KvmSpec, host: Host) -> Iterator[Problem]:
    """Everything that keeps this node from running the spec. Acquires nothing."""
    yield from hooks.kinds.problems(spec.resources, site_of(spec, host))
    try:
        facts = facts_of(spec, host)
    except ProbeError as error:
        yield Problem(path="params.kvm_path", what="is not a usable QEMU", got=repr(spec.qemu), todo=str(error))
        return
    for _, problem in hooks.items("verify", Problem, spec=spec, facts=facts):
        yield problem
    if spec.kvm == "enabled":
        verdict = kvm_works(spec.qemu, cache_dir=str(host.cache_dir))
        if not verdict.usable:
            todo = 'unset kvm_flag, or set kvm_flag = "disabled" for software emulation'
            yield Problem(path="params.kvm_flag", what=verdict.reason, got="'enabled'", todo=todo)
