"""Driver ``fake``: instances that exist only in their records. No process, no file, no privilege.

It has every ability, so that the core's own tests can exercise all of them, and it can be told to fail
at any step, so that they can prove what is undone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import hvcore.plugin as hv

__all__ = ["PARAMS", "RESOURCE_KINDS", "FakeDriver", "FakeSpec"]

PARAMS: Final = hv.ParamGroup(
    "fake",
    hv.Param(
        "fail_at",
        hv.one_of("verify", "acquire", "start", "stop", "observe"),
        help="The step at which the driver fails on purpose.",
    ),
    hv.Param(
        "ignores_powerdown",
        hv.boolean(),
        default=False,
        help="Whether the guest ignores a polite stop, so that it takes a forced one.",
    ),
    hv.Param("motd", hv.text(max_bytes=80), default="hello", help="What the guest says on its console."),
)


_USER: Final = hv.Identity(key="uid")
_LEVEL: Final = hv.Level.STRICT  # a uid of its own, whoever starts it


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeSpec:
    """What a guest of this driver would see. Everything in it is decided by `FakeDriver.plan`."""

    memory_mib: int
    vcpus: int
    motd: str
    fail_at: str | None
    ignores_powerdown: bool

    @property
    def resources(self) -> tuple[hv.Resource[Any], ...]:
        """What the guest holds of its node: a uid, and first what cannot be had, if acquiring is to fail."""
        return (Snag(key="snag", given_by="params.fail_at"), _USER) if self.fail_at == "acquire" else (_USER,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snag(hv.Resource[None]):
    """Something that cannot be acquired, so that tests can prove what is undone."""


class SnagKind(hv.ResourceKind[Snag, None], name="snag", turn=hv.Turn.WHO, in_ledger=True):
    """What the node does about a `Snag`. Every other kind of resource looks the same and succeeds."""

    def acquire(self, resource: Snag, held: hv.Held) -> None:
        """Raises `OperationError`."""
        what = f"{held.owner.name}: was told to fail after the ledger was written"
        raise hv.OperationError(f"{what}; unset {resource.where}")


RESOURCE_KINDS: Final = (SnagKind(),)


@hv.hookimpl
def check(instance: hv.Instance, params: hv.Params) -> Iterator[hv.Problem]:
    """One rule across two values, to show how."""
    if params["ignores_powerdown"] and instance.vcpus > 64:
        yield hv.Problem(path="vcpus", what="a stubborn guest has at most 64", got=str(instance.vcpus))


@hv.hookimpl
def assess(params: hv.Params) -> Iterator[hv.Problem]:
    """One warning, to show how: it fails nothing."""
    if params["ignores_powerdown"]:
        yield hv.Problem(path="params.ignores_powerdown", what="only a forced stop ends it soon")


class FakeDriver:
    """The driver class that the entry point names."""

    name: ClassVar[str] = "fake"
    plugins: ClassVar[tuple[tuple[str, object], ...]] = (("fake", sys.modules[__name__]),)
    hookspecs: ClassVar[tuple[object, ...]] = ()

    def __init__(self, hooks: hv.Hooks) -> None:
        self._hooks = hooks

    def plan(self, instance: hv.Instance, params: hv.Params) -> FakeSpec:
        """The spec, from values alone."""
        return FakeSpec(
            memory_mib=instance.memory_mib,
            vcpus=instance.vcpus,
            motd=params["motd"],
            fail_at=params["fail_at"],
            ignores_powerdown=params["ignores_powerdown"],
        )

    def verify(self, spec: FakeSpec, host: hv.Host) -> Iterable[hv.Problem]:
        """Every node can run it that has what it holds, unless it was told to fail."""
        yield from self._hooks.kinds.problems(spec.resources, _site(host))
        if spec.fail_at == "verify":
            yield hv.Problem(path="params.fail_at", what="was told to fail here", got="'verify'")

    def describe(self, spec: FakeSpec, host: hv.Host) -> hv.Plan:
        """Two steps and two arguments, to show how origins are told."""
        acquired = self._hooks.kinds.steps(spec.resources, _site(host))
        origin = hv.Origin(plugin="fake", params=("motd",), why="the guest says it on its console")
        always = hv.Origin(plugin="fake", why="the program")
        return hv.Plan(
            name="fake",
            driver=self.name,
            steps=(*acquired, hv.Step(kind="remember", what="that the guest runs")),
            arguments=(
                hv.Argument(tokens=("fake-guest",), origin=always),
                hv.Argument(tokens=("--motd", spec.motd), origin=origin),
            ),
        )

    def start(self, spec: FakeSpec, job: hv.Job) -> None:
        """Acquire what it holds, and run."""
        user = job.acquire(*spec.resources, level=_LEVEL)[_USER]
        job.bind(uid=None if user is None else user.uid)
        if spec.fail_at == "start":
            raise hv.OperationError(f"{job.name}: was told to fail half-way; unset params.fail_at")
        job.bind(guest="paused" if job.record.paused else "running")

    def observe(self, live: hv.Live) -> hv.Observation:
        """What the record says."""
        if live.record.spec["fail_at"] == "observe":
            raise hv.OperationError(f"{live.record.name}: was told to fail; unset params.fail_at")
        state = hv.State(live.record.bindings.get("guest", "crashed"))
        instance = live.record.instance
        return hv.Observation(state=state, memory_mib=instance.memory_mib, vcpus=instance.vcpus)

    def stop(self, live: hv.Live, job: hv.Job, *, force: bool) -> str:
        """Politely if the guest listens, else the hard way."""
        if live.record.spec["fail_at"] == "stop":
            raise hv.OperationError(f"{job.name}: was told to fail; unset params.fail_at")
        job.bind(guest="shutdown")
        return "kill" if force or live.record.spec["ignores_powerdown"] else "powerdown"

    def pause(self, live: hv.Live, job: hv.Job) -> None:
        """Remember that its cpus stand still."""
        job.bind(guest="paused")

    def resume(self, live: hv.Live, job: hv.Job) -> None:
        """Remember that they run."""
        job.bind(guest="running")

    def execution(self, live: hv.Live, argv: tuple[str, ...], *, terminal: bool) -> tuple[str, ...]:
        """The command itself: there is no inside but the node."""
        return argv

    def console(self, live: hv.Live) -> hv.Console:
        """A command that prints what the guest says."""
        return hv.Console(name=live.record.name, argv=("printf", "%s\\n", live.record.spec["motd"]))


def _site(host: hv.Host) -> hv.Site:
    return hv.Site(name="fake", host=host, level=_LEVEL)
