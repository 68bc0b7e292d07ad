"""The user that QEMU runs as, which the launcher sets, and QEMU's own seccomp filter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import hvcore.plugin as hv
from hv_kvm.devices.shared.params import problem
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt
from hv_kvm.machine.resource import GUEST_USER, Bindings, SecurityModel
from hv_kvm.machine.spec import Device, KvmSpec
from hvcore.plugin import dataclass

__all__ = ["DEVICES", "PARAMS", "Security", "assess", "check", "plan", "render", "verify"]

_DENY: Final = ("obsolete", "elevateprivileges", "spawn", "resourcecontrol")

PARAMS: Final = hv.ParamGroup(
    "security",
    hv.Param(
        "security_model",
        hv.one_of(
            {
                "auto": "pool if root starts the instance, else none.",
                "none": "The user who starts the instance, inside a user namespace.",
                "user": "The user in security_domain.",
                "pool": "A uid that no other instance has.",
            }
        ),
        default="auto",
        help="The user of the node as whom QEMU runs.",
        default_means="pool for root, none for other users",
        changes="launch",
        example="user",
    ),
    hv.Param(
        "security_domain",
        hv.name(),
        help="The name of the node's user as whom QEMU runs. Only with security_model user.",
        default_means="none",
        changes="launch",
        example="guest1",
    ),
    hv.Param(
        "use_chroot",
        hv.boolean(),
        default=False,
        help="Whether QEMU must have its own root file system. Every confinement except off gives it one.",
        changes="launch",
        example=True,
    ),
    help="The user of the node as whom QEMU runs.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Security(Device):
    """The identity from the parameters; ``user`` is the name of a user of the node."""

    model: str
    user: str | None

    def resources(self, spec: KvmSpec) -> Iterator[hv.Resource[Any]]:
        """The user, and what security_model needs from the confinement."""
        yield SecurityModel(key="security", given_by="params.security_model", model=self.model)
        yield replace(GUEST_USER, given_by="params.security_domain", user=self.user)


DEVICES: Final = (Security,)


@hv.hookimpl
@hv.when_given(*(param.key for param in PARAMS))
def check(params: hv.Params) -> Iterator[hv.Problem]:
    """Only model user has a user, and the confinement must suit the model."""
    model, domain, confinement = params["security_model"], params["security_domain"], params["confinement"]
    if model == "user" and domain is None:
        yield problem(params, "security_domain", "is required by security_model 'user'", "give the name of a user")
    if model != "user" and domain is not None:
        todo = "unset it, or set security_model = 'user'"
        yield problem(params, "security_domain", f"is set but security_model is {model!r}", todo)
    if model in ("user", "pool") and confinement in ("user", "off"):
        what = f"needs a uid that confinement {confinement!r} does not give"
        yield problem(params, "security_model", what, "set confinement to 'auto' or 'strict'")
    if model == "none" and confinement == "strict":
        what = "keeps the caller's uid, but confinement 'strict' gives the guest its own uid"
        yield problem(params, "security_model", what, "set confinement to 'auto', or security_model to 'pool'")
    if params["use_chroot"] and confinement == "off":
        what = "needs its own file system, which confinement 'off' does not give"
        yield problem(params, "use_chroot", what, "set confinement to 'auto'")


@hv.hookimpl
def assess(params: hv.Params) -> Iterator[hv.Problem]:
    """Guests of one user are not isolated from each other by their uid."""
    if params["security_model"] == "user":
        what = "gives all guests of one user the same rights to each other's files and processes"
        yield problem(params, "security_model", what, "use 'pool'")


@hv.hookimpl
def plan(params: hv.Params) -> Iterator[Device]:
    """One identity."""
    yield Security(model=params["security_model"], user=params["security_domain"])


@hv.hookimpl
def verify(spec: KvmSpec, facts: Facts) -> Iterator[hv.Problem]:
    """Every confinement needs QEMU's seccomp filter."""
    if spec.confinement != "off" and "sandbox" not in facts.options:
        what = f"this QEMU ({facts.version}) was built without its seccomp sandbox"
        todo = 'install a QEMU that has it, or set confinement = "off"'
        yield hv.Problem(path="params.confinement", what=what, todo=todo)


@hv.hookimpl
def render(bindings: Bindings) -> Iterator[Opt]:
    """QEMU denies itself the system calls that it does not need."""
    if bindings.confined:
        props = dict.fromkeys(_DENY, "deny")
        why = "QEMU cannot start programs or gain privileges"
        yield Opt(name="-sandbox", head=True, props=props, params=("confinement",), why=why)
