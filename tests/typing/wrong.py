"""Mistakes that mypy has to find. Each is marked with the error it is: one that is not found is an unused mark.

Never run: mypy --strict reads it with the rest of the tests.
"""

from __future__ import annotations

from typing import ClassVar

import hv_kvm.machine.bindings
import hv_kvm.machine.facts
import hv_kvm.machine.option
import hv_kvm.machine.spec
import hv_kvm.typed_hooks
import hvcore


class Half:
    """A driver without start and stop."""

    name: ClassVar[str] = "half"
    plugins: ClassVar[tuple[tuple[str, object], ...]] = ()
    hookspecs: ClassVar[tuple[object, ...]] = ()


class Odd(Half):
    """One whose stop takes force by position and says nothing."""

    def pause(self, live: hvcore.Live) -> None: ...

    def resume(self, live: hvcore.Live, job: hvcore.Job) -> None: ...


class Extra(Half):
    """One whose methods would not be called as they are written."""

    def plan(self, instance: hvcore.Instance) -> None: ...

    def verify(self, spec: object, host: hvcore.Host) -> list[str]:
        raise NotImplementedError

    def describe(self, spec: object, host: hvcore.Host) -> hvcore.Plan:
        raise NotImplementedError

    def start(self, spec: object, job: hvcore.Job) -> None: ...

    def observe(self, live: hvcore.Live) -> hvcore.Observation:
        raise NotImplementedError

    def stop(self, live: hvcore.Live, job: hvcore.Job, *, force: bool) -> str:
        raise NotImplementedError


@hvcore.impl.chek  # type: ignore[attr-defined, untyped-decorator]
def no_such_hook() -> None: ...


@hvcore.impl.check  # type: ignore[type-var]
def no_such_argument(parameters: hvcore.Params) -> list[hvcore.Problem]:
    raise NotImplementedError


@hvcore.impl.check  # type: ignore[type-var]
def another_type(params: dict[str, int]) -> list[hvcore.Problem]:
    raise NotImplementedError


@hvcore.impl.check  # type: ignore[type-var]
def another_result(params: hvcore.Params) -> list[str]:
    raise NotImplementedError


@hvcore.impl.params  # type: ignore[type-var]
def parameters_as_a_list() -> list[hvcore.Param]:
    raise NotImplementedError


@hvcore.impl.before_start  # type: ignore[type-var]
def too_early(outcome: hvcore.Outcome) -> None: ...


@hvcore.impl.before_stop  # type: ignore[type-var]
async def never_run(instance: hvcore.Instance) -> None: ...


@hv_kvm.typed_hooks.render  # type: ignore[type-var]
def options_as_text(spec: hv_kvm.machine.spec.KvmSpec) -> list[str]:
    raise NotImplementedError


@hv_kvm.typed_hooks.plan  # type: ignore[type-var]
def plan_that_looks(instance: hvcore.Instance, host: hvcore.Host) -> list[hv_kvm.machine.spec.Device]:
    raise NotImplementedError


def wrong(node: hvcore.Node, instance: hvcore.Instance) -> None:
    driver: hvcore.Driver = Half()  # type: ignore[assignment]
    another: hvcore.Driver = Extra()  # type: ignore[assignment]
    pausable: hvcore.Pausable = Odd()  # type: ignore[assignment]
    del driver, another, pausable
    hvcore.Param("speed", int, help="Speed.")  # type: ignore[arg-type]
    hvcore.Param("speed", hvcore.integer())  # type: ignore[call-arg]
    hvcore.ParamGroup("audio", "speed")  # type: ignore[arg-type]
    node.stop("web1", True)  # type: ignore[call-arg]
    node.stop(instance)  # type: ignore[arg-type]
    node.driver(instance.name).start("web1")  # type: ignore[arg-type]
    instance.memory_mib = 5  # type: ignore[misc]
    hvcore.Instance("web1", "fake")  # type: ignore[call-arg]
    hvcore.Instance(name="web1")  # type: ignore[call-arg]
    hvcore.Instance(name="web1", driver="fake", memory="512M")  # type: ignore[call-arg]
    hvcore.Entry(hvcore.UID)  # type: ignore[call-arg]
    hvcore.Command(argv=("true",))  # type: ignore[call-arg]
    hvcore.Sandbox(who=1000)  # type: ignore[arg-type]
    hvcore.AsCaller(uid=1000)  # type: ignore[call-arg]
    hvcore.Observation(state="running")  # type: ignore[arg-type]
    number: int = node.info("web1").memory_mib  # type: ignore[assignment]
    del number
