"""Usage of the public API that has to type-check, as a host application and a driver author write it.

Never run: mypy --strict reads it with the rest of the tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, assert_type

import hv_kvm.plugin as kvm
import hvcore
import hvcore.plugin as hv


def host_application() -> None:
    node = hvcore.Node(run_dir="/run/hvcore", uid_pool=range(100, 200), progress=print)
    fake = node.driver("fake")
    assert_type(fake, hvcore.DriverHandle)
    instance = hvcore.load_instance("web1.toml")
    assert_type(instance, hvcore.Instance)
    assert_type(fake.check(instance), hvcore.Params)
    assert_type(fake.plan(instance).explain(), str)
    outcome = fake.start(instance, paused=True, deadline_s=30)
    assert_type(outcome, hvcore.Outcome)
    assert_type(outcome.state, hvcore.State)
    assert_type(outcome.stopped_by, str | None)
    for info in node.instances():
        assert_type(info.memory_mib, int | None)
        assert_type(info.to_json(), dict[str, Any])
    assert_type(node.stop("web1", force=True, deadline_s=60.0).notes, tuple[str, ...])
    assert_type([result.what for result in node.recover()], list[str])
    assert_type(node.console("web1").socket, str | None)
    assert_type([entry.verdict for entry in hvcore.catalogue()], list[hvcore.Verdict])
    try:
        node.pause("web1")
    except hvcore.ParamsError as error:
        assert_type(error.problems, tuple[hvcore.Problem, ...])
    except hvcore.HvError as error:
        assert_type(error.exit_code, int)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    loud: bool


@hv.hookimpl
def params() -> hv.ParamGroup:
    return hv.ParamGroup("audio", hv.Param("loud", hv.boolean(), default=False, help="Loudness."))


@hv.hookimpl
def check(instance: hvcore.Instance, params: hvcore.Params) -> Iterator[hvcore.Problem]:
    if params["loud"] and instance.vcpus > 1:
        yield hvcore.Problem(path="vcpus", what="are too many for this", got=str(instance.vcpus))


# The same, in decorators that a type checker understands: some of a hook's arguments, in any order, under any name.


@hv.impl.params
def loudness() -> hv.ParamGroup:
    return params()


@hv.impl.check
def not_too_loud(params: hvcore.Params, instance: hvcore.Instance) -> list[hvcore.Problem]:
    return list(check(instance, params))


@hv.impl.assess
def rarely(params: hvcore.Params) -> Iterator[hvcore.Problem]:
    yield from ()


@hv.impl.before_start
def refuse() -> None: ...


@hv.impl.after_start
def note(outcome: hvcore.Outcome, instance: hvcore.Instance) -> None: ...


@hv.impl.before_stop
def drain(instance: hvcore.Instance, force: bool) -> None: ...  # noqa: FBT001 - hooks are called by name


@hv.impl.after_stop
def forget(outcome: hvcore.Outcome) -> None: ...


@kvm.impl.plan
def devices(params: hvcore.Params) -> Iterator[kvm.Device]:
    yield from ()


@kvm.impl.verify
def lacks(facts: kvm.Facts) -> Iterator[hvcore.Problem]:
    yield from ()


@kvm.impl.render
def options(bindings: kvm.Bindings, spec: kvm.KvmSpec) -> Iterator[kvm.Opt]:
    yield from ()


@kvm.impl.on_ready
def set_up(job: hv.Job, client: kvm.QmpClient) -> None: ...


class Loud:
    """A driver with every ability."""

    name: ClassVar[str] = "loud"
    plugins: ClassVar[tuple[tuple[str, object], ...]] = ()
    hookspecs: ClassVar[tuple[object, ...]] = ()

    def __init__(self, hooks: hv.Hooks) -> None:
        self._hooks = hooks

    def plan(self, instance: hvcore.Instance, params: hvcore.Params) -> Spec:
        return Spec(loud=params["loud"])

    def verify(self, spec: Spec, host: hv.Host) -> Iterable[hvcore.Problem]:
        return ()

    def describe(self, spec: Spec, host: hv.Host) -> hvcore.Plan:
        origin = hvcore.Origin(plugin=self.name, params=("loud",), why="it was asked for")
        argument = hvcore.Argument(tokens=("--loud",), origin=origin)
        return hvcore.Plan(name="x", driver=self.name, steps=(), arguments=(argument,))

    def start(self, spec: Spec, job: hv.Job) -> None:
        user, socket = hv.Identity(key="uid"), hv.UnixSocket(key="monitor")
        seat = Seat(key="seat", at=3)
        handles = job.acquire(user, socket, seat, level=hv.Level.STRICT)
        assert_type(handles, hv.Held)
        assert_type(handles[user], hv.AsUser | None)
        assert_type(handles[socket], str)
        assert_type(handles[seat], float)
        assert_type(handles[hv.UidRange(key="users")], range)
        assert_type(handles[hv.ControlGroup(key="cgroup")], bool)
        assert_type(handles[hv.DiskClaim(key="disk", path="/srv/a.img", write=True)], tuple[str, ...])
        job.release("monitor", "seat")
        sandbox = hv.Sandbox(who=handles[user] or hv.AsCaller())
        child = job.launch(hv.Command(argv=("sleep", "1"), sandbox=sandbox))
        assert_type(child.ended(), hv.Ended | None)
        child.close()

    def observe(self, live: hv.Live) -> hv.Observation:
        assert_type(live.record.spec, dict[str, Any])
        return hv.Observation(state=hvcore.State.RUNNING)

    def stop(self, live: hv.Live, job: hv.Job, *, force: bool) -> str:
        return "kill" if force else "powerdown"

    def pause(self, live: hv.Live, job: hv.Job) -> None: ...

    def resume(self, live: hv.Live, job: hv.Job) -> None: ...

    def console(self, live: hv.Live) -> hvcore.Console:
        return hvcore.Console(name=live.record.name, argv=("cat",))

    def adopt(self, live: hv.Live, job: hv.Job) -> bool:
        return False


def right(hooks: hv.Hooks) -> None:
    driver: hv.Driver = Loud(hooks)
    pausable: hv.Pausable = Loud(hooks)
    console: hv.HasConsole = Loud(hooks)
    adopts: hv.Adopts = Loud(hooks)
    del driver, pausable, console, adopts


# A resource of the author's own, with a handle of the type that its class says, and the loops over all of them.


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat(hv.Resource[float]):
    at: int


class SeatKind(hv.ResourceKind[Seat, float]):
    name: ClassVar[str] = "seat"
    resource: ClassVar[type[Seat]] = Seat
    turn: ClassVar[hv.Turn] = hv.Turn.FILE

    def verify(self, resource: Seat, site: hv.Site) -> Iterator[hvcore.Problem]:
        if resource.at > 9:
            yield hvcore.Problem(path=resource.where, what="is not there", got=site.name)

    def acquire(self, resource: Seat, held: hv.Held) -> float:
        return resource.at / 2

    def release(self, entry: hv.Entry, owner: hv.Owner) -> None:
        assert_type(entry.key, str)
        owner.progress(owner.name)


@hv.impl.resource_kinds
def kinds_of_seats() -> list[hv.ResourceKind[Any, Any]]:
    return [SeatKind()]


@hv.impl.resource_kinds
def by_their_class() -> Iterator[SeatKind]:
    yield SeatKind()


def loops(hooks: hv.Hooks, host: hv.Host) -> None:
    site, seat = hv.Site(name="web1", host=host, level=hv.Level.USER), Seat(key="seat", at=3)
    assert_type(list(hooks.kinds.problems([seat], site)), list[hvcore.Problem])
    assert_type(list(hooks.kinds.steps([seat], site)), list[hvcore.Step])
    assert_type(hooks.kinds.placeholders([seat], site)[seat], float)
