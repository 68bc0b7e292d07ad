"""QEMU's own seccomp filter. Privileges are dropped by the launcher, before QEMU starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import hvcore.plugin as hv
from hv_kvm.machine.bindings import Bindings
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt
from hv_kvm.machine.spec import KvmSpec

__all__ = ["render", "verify"]

_DENY: Final = ("obsolete", "elevateprivileges", "spawn", "resourcecontrol")


@hv.hookimpl
def verify(spec: KvmSpec, facts: Facts) -> Iterator[hv.Problem]:
    """A QEMU built without seccomp cannot be confined as asked."""
    if spec.confinement != "off" and "sandbox" not in facts.options:
        what = f"this QEMU ({facts.version}) was built without its seccomp sandbox"
        yield hv.Problem(
            path="params.confinement", what=what, todo='install one that has it, or set confinement = "off"'
        )


@hv.hookimpl
def render(bindings: Bindings) -> Iterator[Opt]:
    """Everything is denied that QEMU itself knows how to do without."""
    if bindings.confined:
        props = dict.fromkeys(_DENY, "deny")
        yield Opt(name="-sandbox", head=True, props=props, params=("confinement",), why="no new programs or privileges")
