"""The processors: how many, of which model, in which topology."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hv_kvm.facts import Facts
from hv_kvm.option import Opt, Props
from hv_kvm.spec import Device, KvmSpec
from hvcore import Instance, Param, ParamGroup, Params, Problem, hookimpl, integer, regexp

__all__ = ["PARAMS", "Cpu", "check", "params", "plan", "render", "verify"]

_MODEL: Final = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_FEATURES: Final = r"(,([+-][a-z0-9_.-]+|[a-z0-9_.-]+(=[A-Za-z0-9_.+-]+)?))*"

PARAMS: Final = ParamGroup(
    "cpu",
    Param(
        "cpu_type",
        regexp(_MODEL + _FEATURES, "a cpu model, with features such as 'qemu64,+ssse3'"),
        help="The cpu model, with features after it. Unset: QEMU's default.",
        example="qemu64",
    ),
    Param("cpu_cores", integer(minimum=0, maximum=4096), default=0, help="Cores per socket; 0 leaves it to QEMU."),
    Param("cpu_threads", integer(minimum=0, maximum=4096), default=0, help="Threads per core; 0 leaves it to QEMU."),
    Param("cpu_sockets", integer(minimum=0, maximum=4096), default=0, help="Sockets; 0 leaves it to QEMU."),
    help="The guest's processors; how many is the instance's vcpus.",
)
_TOPOLOGY: Final = ("cpu_sockets", "cpu_cores", "cpu_threads")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu(Device):
    """Model and topology; 0 is for QEMU to decide."""

    model: str | None
    sockets: int
    cores: int
    threads: int


@hookimpl
def params() -> ParamGroup:
    """The family's parameters."""
    return PARAMS


@hookimpl
def check(instance: Instance, params: Params) -> Iterator[Problem]:
    """A topology that is given in full has to be that of the instance's vcpus."""
    features = [_feature(text)[0] for text in (params["cpu_type"] or "").split(",")[1:]]
    twice = sorted({key for key in features if features.count(key) > 1})
    if twice:
        what = f"gives {', '.join(twice)} more than once"
        yield Problem(path="params.cpu_type", what=what, got=repr(params["cpu_type"]), todo="give each feature once")
    sockets, cores, threads = (params[key] for key in _TOPOLOGY)
    product = sockets * cores * threads
    if product and product != instance.vcpus:
        what = f"{sockets} sockets x {cores} cores x {threads} threads are {product}, the instance has {instance.vcpus}"
        yield Problem(path="params.cpu_sockets", what=what, todo="change vcpus or the topology")
    elif any(value > instance.vcpus for value in (sockets, cores, threads)):
        largest = max(_TOPOLOGY, key=lambda key: int(params[key]))
        what = f"is more than the instance's {instance.vcpus} vcpus"
        yield Problem(path=f"params.{largest}", what=what, got=str(params[largest]), todo="lower it")


@hookimpl
def plan(instance: Instance, params: Params) -> Iterator[Device]:
    """One set of processors."""
    del instance
    sockets, cores, threads = (params[key] for key in _TOPOLOGY)
    yield Cpu(model=params["cpu_type"], sockets=sockets, cores=cores, threads=threads)


@hookimpl
def verify(spec: KvmSpec, facts: Facts) -> Iterator[Problem]:
    """The model must exist in this QEMU."""
    for cpu in spec.of(Cpu):
        model = (cpu.model or "").split(",")[0]
        if model and facts.cpu_models and model not in facts.cpu_models:
            todo = f"'{spec.qemu} -cpu help' lists them"
            yield Problem(path="params.cpu_type", what="no such cpu model in this QEMU", got=repr(model), todo=todo)


@hookimpl
def render(spec: KvmSpec) -> Iterator[Opt]:
    """Model and number."""
    for cpu in spec.of(Cpu):
        if cpu.model:
            model, *features = cpu.model.split(",")
            yield Opt(name="-cpu", head=model, props=dict(map(_feature, features)), params=("cpu_type",))
        topology = {"sockets": cpu.sockets, "cores": cpu.cores, "threads": cpu.threads}
        props: Props = {key: value or None for key, value in topology.items()}
        yield Opt(name="-smp", head=spec.vcpus, props=props, params=_TOPOLOGY, why="the instance's vcpus")


def _feature(text: str) -> tuple[str, str]:
    if text[:1] in ("+", "-"):
        return text[1:], "on" if text[0] == "+" else "off"
    key, _, value = text.partition("=")
    return key, value or "on"
