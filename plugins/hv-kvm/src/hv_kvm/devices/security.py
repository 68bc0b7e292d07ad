"""As whom the guest's process runs. How it is confined beyond that is ``confinement``; the launcher does both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from hv_kvm.machine.resource import GUEST_USER, SecurityModel
from hv_kvm.machine.spec import Device, KvmSpec
from hvcore.plugin import (
    Instance,
    Param,
    ParamGroup,
    Params,
    Problem,
    Resource,
    boolean,
    hookimpl,
    name,
    one_of,
    when_given,
)

__all__ = ["DEVICES", "PARAMS", "Security", "assess", "check", "plan"]

PARAMS: Final = ParamGroup(
    "security",
    Param(
        "security_model",
        one_of("auto", "none", "user", "pool"),
        default="auto",
        help="As whom the guest runs: pool (a uid that no other guest has), user (security_domain), none (the caller, in "
        "a user namespace); auto is pool for root and none for others.",
        changes="launch",
        example="user",
    ),
    Param(
        "security_domain",
        name(),
        help="The user of the node that the guest runs as, with security_model user.",
        changes="launch",
        example="guest1",
    ),
    Param(
        "use_chroot",
        boolean(),
        default=False,
        help="Whether the guest's process must have a file system of its own. Every confinement but off has one.",
        changes="launch",
        example=True,
    ),
    help="Under which identity a guest runs on the node.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Security(Device):
    """The identity that was asked for; ``user`` is a name, and what it means is the node's."""

    model: str
    user: str | None

    def resources(self, spec: KvmSpec) -> Iterator[Resource[Any]]:
        """The user that it runs as, and what that asks of its confinement."""
        del spec
        yield SecurityModel(key="security", given_by="params.security_model", model=self.model)
        yield replace(GUEST_USER, given_by="params.security_domain", user=self.user)


DEVICES: Final = (Security,)


@hookimpl
@when_given(*(param.key for param in PARAMS))
def check(params: Params) -> Iterator[Problem]:
    """A user for model user and for no other, and a confinement that can do what the model asks for."""
    model, domain, confinement = params["security_model"], params["security_domain"], params["confinement"]
    path = "params.security_domain"
    if model == "user" and domain is None:
        yield Problem(path=path, what="is required by security_model 'user'", todo="give the name of a user")
    if model != "user" and domain is not None:
        todo = "unset it, or set security_model = 'user'"
        yield Problem(path=path, what=f"is set but security_model is {model!r}", got=repr(domain), todo=todo)
    path = "params.security_model"
    if model in ("user", "pool") and confinement in ("user", "off"):
        what = f"needs a uid that confinement {confinement!r} does not give"
        yield Problem(path=path, what=what, got=repr(model), todo="set confinement to 'auto' or 'strict'")
    if model == "none" and confinement == "strict":
        what = "keeps the caller's uid, and confinement 'strict' gives the guest one of its own"
        yield Problem(path=path, what=what, got="'none'", todo="set confinement to 'auto', or security_model to 'pool'")
    if params["use_chroot"] and confinement == "off":
        what = "needs a file system of its own, which confinement 'off' does not give"
        yield Problem(path="params.use_chroot", what=what, got="True", todo="set confinement to 'auto'")


@hookimpl
def assess(params: Params) -> Iterator[Problem]:
    """What separates guests less than their own uids do."""
    if params["security_model"] == "user":
        what = "gives all guests of one user the same rights to each other's files and processes"
        yield Problem(path="params.security_model", what=what, got="'user'", todo="use 'pool'")


@hookimpl
def plan(instance: Instance, params: Params) -> Iterator[Device]:
    """One identity."""
    del instance
    yield Security(model=params["security_model"], user=params["security_domain"])
