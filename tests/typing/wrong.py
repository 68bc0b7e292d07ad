"""Mistakes that mypy has to find. Each is marked with the error it is: one that is not found is an unused mark.

Never run: mypy --strict reads it with the rest of the tests.
"""

from __future__ import annotations

from typing import ClassVar

import hv_kvm.plugin as kvm
import hvcore
import hvcore.plugin as hv


class Half:
    """A driver without start and stop."""

    name: ClassVar[str] = "half"
    plugins: ClassVar[tuple[tuple[str, object], ...]] = ()
    hookspecs: ClassVar[tuple[object, ...]] = ()


class Odd(Half):
    """One whose stop takes force by position and says nothing."""

    def pause(self, live: hv.Live) -> None: ...

    def resume(self, live: hv.Live, job: hv.Job) -> None: ...


class Extra(Half):
    """A driver whose methods do not match the calls of the core."""

    def plan(self, instance: hvcore.Instance) -> None: ...

    def verify(self, spec: object, host: hv.Host) -> list[str]:
        raise NotImplementedError

    def describe(self, spec: object, host: hv.Host) -> hvcore.Plan:
        raise NotImplementedError

    def start(self, spec: object, job: hv.Job) -> None: ...

    def observe(self, live: hv.Live) -> hv.Observation:
        raise NotImplementedError

    def stop(self, live: hv.Live, job: hv.Job, *, force: bool) -> str:
        raise NotImplementedError


@hv.impl.chek  # type: ignore[attr-defined, untyped-decorator]
def no_such_hook() -> None: ...


@hv.impl.check  # type: ignore[type-var]
def no_such_argument(parameters: hvcore.Params) -> list[hvcore.Problem]:
    raise NotImplementedError


@hv.impl.check  # type: ignore[type-var]
def another_type(params: dict[str, int]) -> list[hvcore.Problem]:
    raise NotImplementedError


@hv.impl.check  # type: ignore[type-var]
def another_result(params: hvcore.Params) -> list[str]:
    raise NotImplementedError


@hv.impl.params  # type: ignore[type-var]
def parameters_as_a_list() -> list[hv.Param]:
    raise NotImplementedError


@hv.impl.before_start  # type: ignore[type-var]
def too_early(outcome: hvcore.Outcome) -> None: ...


@hv.impl.before_stop  # type: ignore[type-var]
async def never_run(instance: hvcore.Instance) -> None: ...


@hv.impl.resource_kinds  # type: ignore[type-var]
def classes_of_resources() -> list[type[hv.Resource[str]]]:
    raise NotImplementedError


@kvm.impl.on_ready  # type: ignore[type-var]
def too_sure_of_facts(facts: kvm.Facts) -> None: ...


@kvm.impl.render  # type: ignore[type-var]
def options_as_text(spec: kvm.KvmSpec) -> list[str]:
    raise NotImplementedError


@kvm.impl.plan  # type: ignore[type-var]
def plan_that_looks(instance: hvcore.Instance, host: hv.Host) -> list[kvm.Device]:
    raise NotImplementedError


def wrong(node: hvcore.Node, instance: hvcore.Instance) -> None:
    driver: hv.Driver = Half()  # type: ignore[assignment]
    another: hv.Driver = Extra()  # type: ignore[assignment]
    pausable: hv.Pausable = Odd()  # type: ignore[assignment]
    del driver, another, pausable
    hv.Param("speed", int, help="Speed.")  # type: ignore[arg-type]
    hv.Param("speed", hv.integer())  # type: ignore[call-arg]
    hv.ParamGroup("audio", "speed")  # type: ignore[arg-type]
    node.stop("web1", True)  # type: ignore[call-arg]
    node.stop(instance)  # type: ignore[arg-type]
    node.driver(instance.name).start("web1")  # type: ignore[arg-type]
    instance.memory_mib = 5  # type: ignore[misc]
    hvcore.Instance("web1", "fake")  # type: ignore[call-arg]
    hvcore.Instance(name="web1")  # type: ignore[call-arg]
    hvcore.Instance(name="web1", driver="fake", memory="512M")  # type: ignore[call-arg]
    hv.Entry("uid")  # type: ignore[call-arg]
    hv.Identity("uid")  # type: ignore[call-arg]
    hv.UnixSocket(key=7)  # type: ignore[arg-type]
    hv.ResourceKind()  # type: ignore[abstract]
    hv.Command(argv=("true",))  # type: ignore[call-arg]
    hv.Sandbox(who=1000)  # type: ignore[arg-type]
    hv.AsCaller(uid=1000)  # type: ignore[call-arg]
    hv.Observation(state="running")  # type: ignore[arg-type]
    number: int = node.info("web1").memory_mib  # type: ignore[assignment]
    del number
