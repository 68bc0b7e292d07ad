"""Driver ``fake``: instances that exist only in their records, without processes, files and privileges.

It has every ability, and it can fail at any step on purpose. So the core's tests can use each ability, and prove that
a failure leaves nothing behind.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import field
from typing import Any, ClassVar, Final

import hvcore.plugin as hv
from hv_fake import buttons
from hv_fake.disks import AttachesDisks, FakeDisk, bound, disks_of, seats
from hv_fake.display import ShowsDisplay
from hv_fake.moves import Moves
from hv_fake.tuned import Tuned
from hvcore.plugin import dataclass

__all__ = ["PARAMS", "RESOURCE_KINDS", "FakeDriver", "FakeSpec"]

PARAMS: Final = hv.ParamGroup(
    "fake",
    hv.Param(
        "fail_at",
        hv.one_of(
            {
                "verify": "A check of the node reports a problem.",
                "acquire": "A start fails after the ledger is written.",
                "start": "A start fails after all resources are acquired.",
                "stop": "Every stop fails.",
                "attach": "Every attach fails after the resources are acquired.",
                "observe": "Every reading of the state fails.",
                "offer": "It cannot move to another node.",
                "land": "It fails where it lands, after the resources are acquired.",
                "send": "Its state does not arrive.",
                "run": "It does not run where it has landed.",
            }
        ),
        default_means="no failure",
        help="The step that fails on purpose.",
    ),
    hv.Param(
        "ignores_powerdown",
        hv.boolean(),
        default=False,
        help="Whether the guest ignores a powerdown, so that a stop has to kill it.",
    ),
    hv.Param(
        "motd",
        hv.text(max_bytes=80),
        default="hello",
        help="The message that the guest prints on its console.",
        example="good morning",
    ),
)


_USER: Final = hv.Identity(key="uid")
_LEVEL: Final = hv.Level.STRICT  # its own uid, for every caller


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeSpec:
    """Everything that a guest of this driver can see, as `FakeDriver.plan` decides it."""

    memory_mib: int
    vcpus: int
    motd: str
    fail_at: str | None
    ignores_powerdown: bool
    disks: tuple[FakeDisk, ...] = ()
    balloon_mib: int | None = None
    pins: dict[str, str] = field(default_factory=dict)

    @property
    def resources(self) -> tuple[hv.Resource[Any], ...]:
        """The resources of the guest: a uid, a seat for each disk, and before them a `Snag` if acquiring is to fail."""
        held: tuple[hv.Resource[Any], ...] = (_USER, *seats(self.disks))
        return (Snag(key="snag", given_by="params.fail_at"), *held) if self.fail_at == "acquire" else held


@dataclass(frozen=True, slots=True, kw_only=True)
class Snag(hv.Resource[None]):
    """A resource that cannot be acquired."""


class SnagKind(hv.ResourceKind[Snag, None], name="snag", turn=hv.Turn.WHO, in_ledger=True):
    """The kind of `Snag`. Kinds that succeed have the same form."""

    def acquire(self, resource: Snag, held: hv.Held) -> None:
        """Raises `OperationError`."""
        raise hv.OperationError(f"{held.owner.name}: fails on purpose after the ledger; unset {resource.where}")


RESOURCE_KINDS: Final = (SnagKind(),)


@hv.hookimpl
def check(instance: hv.Instance, params: hv.Params) -> Iterator[hv.Problem]:
    """An example of a rule between two values."""
    if params["ignores_powerdown"] and instance.vcpus > 64:
        yield hv.Problem(path="vcpus", what="at most 64 if the guest ignores a powerdown", got=str(instance.vcpus))


@hv.hookimpl
def assess(params: hv.Params) -> Iterator[hv.Problem]:
    """An example of a warning."""
    if params["ignores_powerdown"]:
        yield hv.Problem(path="params.ignores_powerdown", what="only a forced stop ends the guest soon")


class FakeDriver(AttachesDisks, Moves, ShowsDisplay, Tuned):
    """The driver class that the entry point names."""

    name: ClassVar[str] = "fake"
    plugins: ClassVar[tuple[tuple[str, object], ...]] = (("fake", sys.modules[__name__]),)
    hookspecs: ClassVar[tuple[object, ...]] = ()

    def __init__(self, hooks: hv.Hooks) -> None:
        self._hooks = hooks

    def plan(self, instance: hv.Instance, params: hv.Params) -> FakeSpec:
        """The spec, from the instance and its parameters only."""
        return FakeSpec(
            memory_mib=instance.memory_mib,
            vcpus=instance.vcpus,
            motd=params["motd"],
            fail_at=params["fail_at"],
            ignores_powerdown=params["ignores_powerdown"],
            disks=disks_of(instance),
        )

    def read_spec(self, data: object) -> FakeSpec:
        """The spec in a record."""
        return hv.decode(FakeSpec, data, "spec")

    def verify(self, spec: FakeSpec, host: hv.Host) -> Iterable[hv.Problem]:
        """The problems of its resources, and one more if it is to fail here."""
        yield from self._hooks.kinds.problems(spec.resources, _site(host))
        if spec.fail_at == "verify":
            yield hv.Problem(path="params.fail_at", what="fails on purpose here", got="'verify'")

    def describe(self, spec: FakeSpec, host: hv.Host) -> hv.Plan:
        """Two steps and two arguments, as an example of their origins."""
        acquired = self._hooks.kinds.steps(spec.resources, _site(host))
        origin = hv.Origin(plugin="fake", params=("motd",), why="the guest prints it on its console")
        always = hv.Origin(plugin="fake", why="the program")
        return hv.Plan(
            name="fake",
            driver=self.name,
            steps=(*acquired, hv.Step(kind="remember", what="the guest as running")),
            arguments=(
                hv.Argument(tokens=("fake-guest",), origin=always),
                hv.Argument(tokens=("--motd", spec.motd), origin=origin),
            ),
        )

    def start(self, spec: FakeSpec, job: hv.Job) -> None:
        """Acquire the resources, and record the guest as running."""
        user = job.acquire(*spec.resources, level=_LEVEL)[_USER]
        job.bind(uid=None if user is None else user.uid)
        if spec.fail_at == "start":
            raise hv.OperationError(f"{job.name}: fails on purpose half-way; unset params.fail_at")
        job.bind(guest="paused" if job.record.paused else "running", **bound(spec.disks))

    _start_paused = start

    def observe(self, live: hv.Live) -> hv.Observation:
        """The state in the record."""
        if live.record.spec["fail_at"] == "observe":
            raise hv.OperationError(f"{live.record.name}: fails on purpose; unset params.fail_at")
        state = hv.State(live.record.bindings.get("guest", "crashed"))
        instance = live.record.instance
        by = {hv.State.CRASHED: hv.EndedBy.CRASH, hv.State.SHUTDOWN: hv.EndedBy.POWERDOWN}.get(state)
        return hv.Observation(state=state, ended_by=by, memory_mib=instance.memory_mib, vcpus=instance.vcpus)

    def stop(self, live: hv.Live, job: hv.Job, *, force: bool) -> str:
        """By a powerdown, or a kill if forced or the guest ignores the powerdown."""
        if live.record.spec["fail_at"] == "stop":
            raise hv.OperationError(f"{job.name}: fails on purpose; unset params.fail_at")
        job.bind(guest="shutdown")
        return "kill" if force or live.record.spec["ignores_powerdown"] else "powerdown"

    def pause(self, live: hv.Live, job: hv.Job) -> None:
        """Record it as paused."""
        job.bind(guest="paused")

    def resume(self, live: hv.Live, job: hv.Job) -> None:
        """Record it as running."""
        job.bind(guest="running")

    reset = staticmethod(buttons.reset)
    powerdown = staticmethod(buttons.powerdown)
    send_keys = staticmethod(buttons.send_keys)
    nmi = staticmethod(buttons.nmi)

    def execution(self, live: hv.Live, argv: tuple[str, ...], *, terminal: bool) -> tuple[str, ...]:
        """The command itself: it runs on the node."""
        return argv

    def console(self, live: hv.Live) -> hv.Console:
        """A command that prints the guest's message."""
        return hv.Console(name=live.record.name, argv=("printf", "%s\\n", live.record.spec["motd"]))


def _site(host: hv.Host) -> hv.Site:
    return hv.Site(name="fake", host=host, level=_LEVEL)
