"""The processors: how many, of which model, in which topology."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import hvcore.plugin as hv
from hv_kvm.devices.shared.params import problem
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.resource import KvmOnly, OnlineCpus
from hv_kvm.machine.spec import Device, KvmSpec

__all__ = ["DEVICES", "PARAMS", "Cpu", "assess", "check", "plan", "render", "verify"]

_MODEL: Final = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_FEATURES: Final = r"(,([+-][a-z0-9_.-]+|[a-z0-9_.-]+(=[A-Za-z0-9_.+-]+)?))*"

PARAMS: Final = hv.ParamGroup(
    "cpu",
    hv.Param(
        "cpu_type",
        hv.regexp(_MODEL + _FEATURES, "a cpu model, with features such as 'qemu64,+ssse3'"),
        help="The cpu model, with features after it. Unset: QEMU's default, qemu64, which has little of what the node's "
        "processors can do.",
        example="qemu64",
    ),
    hv.Param(
        "cpu_cores",
        hv.integer(minimum=0, maximum=4096),
        default=0,
        help="Cores per socket; 0 leaves it to QEMU.",
        unit="cores",
        example=4,
    ),
    hv.Param(
        "cpu_threads",
        hv.integer(minimum=0, maximum=4096),
        default=0,
        help="Threads per core; 0 leaves it to QEMU.",
        unit="threads",
        example=2,
    ),
    hv.Param(
        "cpu_sockets",
        hv.integer(minimum=0, maximum=4096),
        default=0,
        help="Sockets; 0 leaves it to QEMU.",
        unit="sockets",
        example=2,
    ),
    hv.Param(
        "cpu_mask",
        hv.cpu_mask(multi=True),
        default="all",
        help="The node's CPUs that the guest may run on: one list for all of QEMU, its input and output as well, or one "
        "for each processor, which leaves the rest of QEMU free.",
        changes="launch",
        example="0-3:4-7",
    ),
    help="The guest's processors; how many is the instance's vcpus.",
)
# What QEMU takes by itself, and models that no processor was ever sold as.
_PLAIN: Final = ("qemu32", "qemu64", "kvm32", "kvm64")
_TOPOLOGY: Final = ("cpu_sockets", "cpu_cores", "cpu_threads")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu(Device):
    """Model and topology; 0 is for QEMU to decide. ``mask`` is where on the node they may run."""

    model: str | None
    sockets: int
    cores: int
    threads: int
    mask: str = "all"

    def resources(self, spec: KvmSpec) -> Iterator[hv.Resource[Any]]:
        """KVM, for the node's own processor cannot be emulated; and the processors that it is pinned to."""
        if (self.model or "").split(",")[0] == "host":
            yield KvmOnly(key="cpu.kvm", given_by="params.cpu_type", qemu=spec.qemu, kvm=spec.kvm)
        if self.mask != "all":
            yield OnlineCpus(key="cpu.mask", given_by="params.cpu_mask", mask=self.mask)


DEVICES: Final = (Cpu,)


def _topology(instance: hv.Instance, params: hv.Params) -> Iterator[hv.Problem]:
    given = {key: params[key] for key in _TOPOLOGY if params[key]}
    product = math.prod(given.values())
    if instance.vcpus % product or (len(given) == 3 and product != instance.vcpus):
        parts = " x ".join(f"{value} {key.removeprefix('cpu_')}" for key, value in given.items())
        what = f"{parts} cannot be the topology of the instance's {instance.vcpus} vcpus"
        yield hv.Problem(path=f"params.{next(iter(given))}", what=what, todo="change vcpus or the topology")


@hv.hookimpl
def check(instance: hv.Instance, params: hv.Params) -> Iterator[hv.Problem]:
    """What is given of a topology has to divide the instance's vcpus, and a mask has one part or one for each."""
    model, _, features = (params["cpu_type"] or "").partition(",")
    keys = [_feature(text)[0] for text in features.split(",") if features]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        yield problem(params, "cpu_type", f"gives {', '.join(twice)} more than once", "give each feature once")
    if params.any_given(frozenset(_TOPOLOGY)):
        yield from _topology(instance, params)
    masks = params["cpu_mask"].count(":") + 1
    if masks not in (1, instance.vcpus):
        what = f"has {masks} parts, and the instance has {instance.vcpus} vcpus"
        yield problem(params, "cpu_mask", what, "give one part for all, or one for each")
    if model == "host" and params["kvm_flag"] == "disabled":
        yield problem(params, "cpu_type", "needs KVM, and kvm_flag is disabled", "use 'max' or a model")


@hv.hookimpl
def assess(params: hv.Params) -> Iterator[hv.Problem]:
    """Under KVM a plain model hides what the node's processors can do, and the node's own ties the guest to its like."""
    if params["kvm_flag"] == "disabled":
        return
    model = (params["cpu_type"] or "").split(",")[0]
    if not model:
        what = (
            "is not set, and what QEMU takes then is a plain model, without most of what the node's processors can do"
        )
    elif model in _PLAIN:
        what = "is a plain model, without most of what the node's processors can do"
    elif model in ("host", "max"):
        what = "ties the guest to nodes with the same processors when it is to migrate"
    else:
        return
    yield problem(
        params, "cpu_type", what, "name the oldest model among your nodes, here or for all guests of the node"
    )


@hv.hookimpl
def plan(params: hv.Params) -> Iterator[Device]:
    """One set of processors."""
    sockets, cores, threads = (params[key] for key in _TOPOLOGY)
    yield Cpu(model=params["cpu_type"], sockets=sockets, cores=cores, threads=threads, mask=params["cpu_mask"])


@hv.hookimpl
def verify(spec: KvmSpec, facts: Facts) -> Iterator[hv.Problem]:
    """The model must exist in this QEMU."""
    for cpu in spec.of(Cpu):
        model = (cpu.model or "").split(",")[0]
        if model and facts.cpu_models and model not in facts.cpu_models:
            todo = f"'{spec.qemu} -cpu help' lists them"
            yield hv.Problem(path="params.cpu_type", what=facts.lacks(model), got=repr(model), todo=todo)


@hv.hookimpl
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
