"""The guest's CPUs: number, model and topology."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from difflib import get_close_matches
from typing import Any, Final

import hvcore.plugin as hv
from hv_kvm.devices.shared.params import problem
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.resource import KvmOnly, OnlineCpus
from hv_kvm.machine.spec import Device, KvmSpec
from hvcore.plugin import dataclass

__all__ = ["DEVICES", "PARAMS", "Cpu", "assess", "begun_with", "check", "plan", "render", "verify"]

_MODEL: Final = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_FEATURES: Final = r"(,([+-][a-z0-9_.-]+|[a-z0-9_.-]+(=[A-Za-z0-9_.+-]+)?))*"

PARAMS: Final = hv.ParamGroup(
    "cpu",
    hv.Param(
        "cpu_type",
        hv.regexp(_MODEL + _FEATURES, "a CPU model, with features such as 'qemu64,+ssse3'"),
        help="The CPU model that the guest sees. Features can follow: +NAME adds one, -NAME removes one. 'host' is the node's CPU.",
        default_means="QEMU's basic model qemu64, without most features of the node's CPU",
        example="qemu64",
    ),
    hv.Param(
        "cpu_cores",
        hv.integer(minimum=0, maximum=4096),
        default=0,
        help="The number of cores in each CPU socket of the guest.",
        default_means="QEMU decides",
        unit="cores",
        example=4,
    ),
    hv.Param(
        "cpu_threads",
        hv.integer(minimum=0, maximum=4096),
        default=0,
        help="The number of threads in each CPU core of the guest.",
        default_means="QEMU decides",
        unit="threads",
        example=2,
    ),
    hv.Param(
        "cpu_sockets",
        hv.integer(minimum=0, maximum=4096),
        default=0,
        help="The number of CPU sockets of the guest.",
        default_means="QEMU decides",
        unit="sockets",
        example=2,
    ),
    hv.Param(
        "vcpus_max",
        hv.integer(minimum=0, maximum=4096),
        default=0,
        unit="vCPUs",
        help="How many vCPUs 'hv vcpus' can give the running guest. The guest sees places for that many.",
        default_means="vcpus of the instance",
        example=8,
    ),
    hv.Param(
        "cpu_mask",
        hv.cpu_mask(multi=True),
        default="all",
        help="The CPUs of the node that the guest may use. One list applies to all threads of QEMU. One list for each vCPU, "
        "separated by ':', does not restrict QEMU's other threads.",
        changes="launch",
        example="0-3:4-7",
    ),
    hv.Param(
        "emulator_mask",
        hv.cpu_mask(),
        help="The CPUs of the node for the threads of QEMU that are neither vCPUs nor I/O threads.",
        default_means="those of cpu_mask if it is one list, otherwise all",
        changes="launch",
        example="0-1",
    ),
    hv.Param(
        "iothread_mask",
        hv.cpu_mask(),
        help="The CPUs of the node for the I/O threads of QEMU.",
        default_means="those of cpu_mask if it is one list, otherwise all",
        changes="launch",
        example="2",
    ),
    help="The guest's CPUs. Their number is vcpus of the instance.",
)
# The default of QEMU, and other models that are not a real CPU.
_PLAIN: Final = ("qemu32", "qemu64", "kvm32", "kvm64")
_TOPOLOGY: Final = ("cpu_sockets", "cpu_cores", "cpu_threads")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu(Device):
    """Model and topology; QEMU decides those that are 0. ``mask`` names the CPUs of the node that they may use.

    ``emulator`` and ``iothreads`` are the CPUs of QEMU's other threads, by `hv_kvm.machine.cpu_places`. ``most`` is the
    number of vCPUs that the guest can have while it runs, 0 for those of its start. ``at_start`` is the number with which
    QEMU was started for a guest that has arrived from another node, 0 for all: other devices follow from it.
    """

    model: str | None
    sockets: int
    cores: int
    threads: int
    mask: str = "all"
    emulator: str | None = None
    iothreads: str | None = None
    most: int = 0
    at_start: int = 0

    def resources(self, spec: KvmSpec) -> Iterator[hv.Resource[Any]]:
        """KVM for model host, which cannot be emulated; and the CPUs of the mask."""
        if (self.model or "").split(",")[0] == "host":
            yield KvmOnly(key="cpu.kvm", given_by="params.cpu_type", qemu=spec.qemu, kvm=spec.kvm)
        if self.mask != "all":
            yield OnlineCpus(key="cpu.mask", given_by="params.cpu_mask", mask=self.mask)
        for threads, mask in (("emulator", self.emulator), ("iothread", self.iothreads)):
            if mask not in (None, "all"):
                key = f"{threads}_mask"
                yield OnlineCpus(key=f"cpu.{key}", given_by=f"params.{key}", mask=str(mask), threads=threads)


DEVICES: Final = (Cpu,)


def begun_with(spec: KvmSpec, vcpus: int) -> KvmSpec:
    """The machine whose QEMU is started with that number of vCPUs, and gets the others before the guest; 0 is all."""
    devices = (replace(one, at_start=vcpus) if isinstance(one, Cpu) else one for one in spec.devices)
    return replace(spec, devices=tuple(devices))


def _topology(instance: hv.Instance, params: hv.Params) -> Iterator[hv.Problem]:
    given = {key: params[key] for key in _TOPOLOGY if params[key]}
    product, vcpus = math.prod(given.values()), params["vcpus_max"] or instance.vcpus
    if vcpus % product or (len(given) == 3 and product != vcpus):
        parts = " x ".join(f"{value} {key.removeprefix('cpu_')}" for key, value in given.items())
        whose = "maximum of" if params["vcpus_max"] else "instance's"
        what = f"{parts} cannot be the topology of the {whose} {vcpus} vcpus"
        yield hv.Problem(path=f"params.{next(iter(given))}", what=what, todo="change vcpus or the topology")


def _maximum(instance: hv.Instance, params: hv.Params) -> Iterator[hv.Problem]:
    most = params["vcpus_max"]
    if 0 < most < instance.vcpus:
        what = f"is less than the instance's {instance.vcpus} vcpus"
        yield problem(params, "vcpus_max", what, "raise it, or remove it")
    if most > instance.vcpus and not params["acpi"]:
        yield problem(params, "vcpus_max", "needs ACPI, but acpi is false", "set acpi to true, or remove it")


@hv.hookimpl
def check(instance: hv.Instance, params: hv.Params) -> Iterator[hv.Problem]:
    """The topology must fit vcpus, and the mask must have one list, or one for each vCPU."""
    model, _, features = (params["cpu_type"] or "").partition(",")
    keys = [_feature(text)[0] for text in features.split(",")] if features else []
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        yield problem(params, "cpu_type", f"gives {', '.join(twice)} more than once", "give each feature once")
    if params.any_given(frozenset(_TOPOLOGY)):
        yield from _topology(instance, params)
    yield from _maximum(instance, params)
    masks = params["cpu_mask"].count(":") + 1
    if masks not in (1, instance.vcpus) and not 1 < masks <= params["vcpus_max"]:
        what = f"has {masks} lists, but the instance has {instance.vcpus} vcpus"
        yield problem(params, "cpu_mask", what, "give one list for all, or one for each vCPU")
    if model == "host" and params["kvm_flag"] == "disabled":
        yield problem(params, "cpu_type", "needs KVM, but kvm_flag is 'disabled'", "use 'max' or a model")


@hv.hookimpl
def assess(params: hv.Params) -> Iterator[hv.Problem]:
    """A basic model hides features of the node's CPU, and the node's own model ties the guest to nodes with the same CPU."""
    if params["kvm_flag"] == "disabled":
        return
    model = (params["cpu_type"] or "").split(",")[0]
    if not model:
        what = "is not set, so QEMU uses its basic CPU model (qemu64), without most features of your CPU"
    elif model in _PLAIN:
        what = "is a basic CPU model, without most features of your CPU"
    elif model in ("host", "max"):
        what = "lets the guest migrate only to nodes with the same CPU"
    else:
        return
    todo = "set it to the oldest CPU model among your nodes"
    if model not in ("host", "max"):
        todo += ", or to 'host' if this guest never migrates"
    yield problem(params, "cpu_type", what, todo)


@hv.hookimpl
def plan(params: hv.Params) -> Iterator[Device]:
    """The CPUs."""
    sockets, cores, threads = (params[key] for key in _TOPOLOGY)
    yield Cpu(
        model=params["cpu_type"],
        sockets=sockets,
        cores=cores,
        threads=threads,
        mask=params["cpu_mask"],
        emulator=params["emulator_mask"],
        iothreads=params["iothread_mask"],
        most=params["vcpus_max"],
    )


@hv.hookimpl
def verify(spec: KvmSpec, facts: Facts) -> Iterator[hv.Problem]:
    """The model and the features must exist in this QEMU. Whether the node's CPU has a feature is not checked."""
    for cpu in spec.of(Cpu):
        machine = next((each for each in facts.machines if spec.machine in {each.name, each.alias}), None)
        if machine is not None and cpu.most > machine.cpu_max:
            what = f"is more than the {machine.cpu_max} vCPUs that {machine.name} can have"
            yield hv.Problem(path="params.vcpus_max", what=what, got=str(cpu.most), todo="lower it, or use 'q35'")
        model, *features = (cpu.model or "").split(",")
        for text in features if facts.cpu_features else ():
            name = _feature(text)[0]
            if name.replace("_", "-") not in facts.cpu_features and name not in facts.cpu_features:
                near = get_close_matches(name, facts.cpu_features, n=1)
                todo = f"did you mean {near[0]!r}?" if near else "remove it, or correct its name"
                what = facts.lacks(f"CPU feature {name}")
                yield hv.Problem(path="params.cpu_type", what=what, got=repr(text), todo=todo)
        if model and facts.cpu_models and model not in facts.cpu_models:
            todo = f"'{spec.qemu} -cpu help' lists the models"
            yield hv.Problem(path="params.cpu_type", what=facts.lacks(model), got=repr(model), todo=todo)


@hv.hookimpl
def render(spec: KvmSpec) -> Iterator[Opt]:
    """Model and number."""
    for cpu in spec.of(Cpu):
        if cpu.model:
            model, *features = cpu.model.split(",")
            yield Opt(name="-cpu", head=model, props=dict(map(_feature, features)), params=("cpu_type",))
        topology = {"sockets": cpu.sockets, "cores": cpu.cores, "threads": cpu.threads}
        props: Props = {"maxcpus": cpu.most or None, **{key: value or None for key, value in topology.items()}}
        keys = (*_TOPOLOGY, "vcpus_max") if cpu.most else _TOPOLOGY
        yield Opt(name="-smp", head=cpu.at_start or spec.vcpus, props=props, params=keys, why="vcpus of the instance")


def _feature(text: str) -> tuple[str, str]:
    if text[:1] in ("+", "-"):
        return text[1:], "on" if text[0] == "+" else "off"
    key, _, value = text.partition("=")
    return key, value or "on"
