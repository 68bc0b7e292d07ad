"""Abilities that change or measure a running instance: those that the driver claims work, the others are refused."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Final

from hvcore.errors import DriverError, HvError
from hvcore.model.state import State
from hvcore.model.tuned import Resized
from hvcore.plugins.protocols import Balloons, HasSizes, HasVersion, Measures, Pinnable, ResizesMemory, ResizesVcpus
from hvcore.testing.check import PATIENCE_S, Bench, Failed, Level, Skipped, Tier, check, require
from hvcore.testing.claims import claimed, claims, refused

__all__: tuple[str, ...] = ()

_SHORT_S: Final = 1.0  # a guest of a check need not obey
_HUGE: Final = 1 << 24  # 16 TiB, or as many processors


@check(Level.CAPABILITY, Tier.LIVE)
def capability_usage(bench: Bench) -> None:
    """Claimed: the usage of each running instance comes without a problem, and its counters only grow.

    Why: Monitoring asks every few seconds for all instances. An answer that belongs to another instance, or a counter that
    goes back, makes every graph of the node wrong.
    """
    if not isinstance(bench.loaded.driver, Measures):
        raise Skipped("it does not claim usage: the node measures its processes and control groups")
    bench.start()
    bench.start("web2")
    names = sorted([bench.name(), bench.name("web2")])
    before = bench.node.usage(deadline_s=PATIENCE_S)
    after = bench.node.usage(deadline_s=PATIENCE_S)
    for found in (before, after):
        require([one.name for one in found] == names, f"measures {[one.name for one in found]}, not {names}")
        for one in found:
            require(one.problem is None, f"cannot measure a running instance: {one.problem}")
    for one, later in zip(before, after, strict=True):
        grown = (one.cpu_seconds or 0.0) <= (later.cpu_seconds or 0.0)
        require(grown, f"its processor time goes back, from {one.cpu_seconds} to {later.cpu_seconds} s")
        counted = {disk.disk: disk for disk in later.disks}
        for disk in one.disks:
            same = counted.get(disk.disk)
            require(same is not None and same.read_bytes >= disk.read_bytes, f"the counters of {disk.disk} go back")
    require(bench.info().state is State.RUNNING, f"is {bench.info().state} after it was measured")


@check(Level.CAPABILITY, Tier.LIVE)
def capability_version(bench: Bench) -> None:
    """Claimed: the driver names its hypervisor with a version, on one line, or says with an error of hvcore why not.

    Why: An operator compares the versions of all nodes before an upgrade. A node that shows nothing is overlooked.
    """
    if not isinstance(bench.loaded.driver, HasVersion):
        raise Skipped("it does not claim version: its hypervisor is the kernel")
    (found,) = (each for each in bench.node.facts().drivers if each.name == bench.subject.driver)
    require(found.problem is None, f"its version cannot be read: {found.problem}")
    text = found.hypervisor or ""
    require(re.search("[0-9]", text) and text.isprintable(), f"its version is {text!r}, not a name with a number")


@check(Level.CAPABILITY, Tier.LIVE)
def capability_balloon(bench: Bench) -> None:
    """Claimed: a size above the instance's memory is refused, and a possible one answered within the deadline.

    Why: A host application takes memory from one guest to start another. It has to know what the node really got back,
    also from a guest that does not obey.
    """
    name = bench.name()
    bench.start()
    memory_mib = bench.record().instance.memory_mib
    if not isinstance(bench.loaded.driver, Balloons):
        refused(bench, "balloon", lambda: bench.node.balloon(name, memory_mib))
        return
    _typed_refusal("balloon", "a size above its memory", lambda: bench.node.balloon(name, memory_mib + 1))
    with claimed("balloon"):
        outcome = bench.node.balloon(name, memory_mib - 1, deadline_s=_SHORT_S)
        again = bench.node.balloon(name, memory_mib, deadline_s=_SHORT_S)
    require(outcome.seconds < PATIENCE_S, f"balloon with a deadline of {_SHORT_S:g} s takes {outcome.seconds:.1f} s")
    require(again.asked == memory_mib, f"balloon answers for {again.asked} MiB, not for {memory_mib}")
    require(bench.info().state is State.RUNNING, f"is {bench.info().state} after balloon")


@check(Level.CAPABILITY, Tier.LIVE)
def capability_memory(bench: Bench) -> None:
    """Claimed: the size that the instance has changes nothing, and an impossible one is refused and not recorded.

    Why: The record decides what a reboot brings up. A size that was recorded and not reached makes the next reboot fail.
    """
    if not isinstance(bench.loaded.driver, ResizesMemory):
        bench.start()
        refused(bench, "memory", lambda: bench.node.resize_memory(bench.name(), 64))
        return
    _resizes(bench, "memory", "memory_mib", bench.node.resize_memory)


@check(Level.CAPABILITY, Tier.LIVE)
def capability_vcpus(bench: Bench) -> None:
    """Claimed: the number that the instance has changes nothing, and an impossible one is refused and not recorded.

    Why: As for memory.
    """
    if not isinstance(bench.loaded.driver, ResizesVcpus):
        bench.start()
        refused(bench, "vcpus", lambda: bench.node.resize_vcpus(bench.name(), 1))
        return
    _resizes(bench, "vcpus", "vcpus", bench.node.resize_vcpus)


@check(Level.CAPABILITY, Tier.LIVE)
def capability_sizes(bench: Bench) -> None:
    """Claimed: the sizes that an instance can get are of abilities that the driver has, and have the one that it has now.

    Why: hv changes shows them with effect now, and hv apply asks for them. One that cannot be reached wastes a deadline.
    """
    driver = bench.loaded.driver
    if not isinstance(driver, HasSizes):
        raise Skipped("it does not know beforehand which sizes a running instance can get")
    bench.start()
    loaded: object = driver
    able = {"memory_mib": isinstance(loaded, ResizesMemory), "vcpus": isinstance(loaded, ResizesVcpus)}
    found = bench.loaded.sizes(bench.loaded.read_spec(bench.record().spec))
    for key, values in found.items():
        require(able.get(key, False), f"says that {key} can change, without the ability")
        now = getattr(bench.record().instance, key)
        require(now in values, f"{key} is {now}, which is not in {values!r:.80}")


def _resizes(bench: Bench, what: str, key: str, act: Callable[..., Resized]) -> None:
    bench.start()
    before = getattr(bench.record().instance, key)
    with claimed(what):
        same = act(bench.name(), before, deadline_s=_SHORT_S)
    require(not same.changed and same.after == before, f"{what} with the size that it has says {same}")
    _typed_refusal(what, "an impossible size", lambda: act(bench.name(), _HUGE, deadline_s=_SHORT_S))
    after = getattr(bench.record().instance, key)
    require(after == before, f"{what} records {after} after it was refused, not {before}")
    require(bench.info().state is State.RUNNING, f"is {bench.info().state} after {what}")


@check(Level.CAPABILITY, Tier.LIVE)
def capability_pin(bench: Bench) -> None:
    """Claimed: a second pin to the same CPUs changes nothing, and a vCPU that does not exist is refused.

    Why: Pins separate guests that must not disturb each other. A pin that silently does nothing is found under load only.
    """
    name = bench.name()
    if not claims(bench, Pinnable, "pin", lambda: bench.node.pin(name, "all")):
        return
    missing = bench.record().instance.vcpus
    _typed_refusal("pin", "a vCPU that does not exist", lambda: bench.node.pin(name, vcpus={missing: "all"}))
    cpu = str(min(os.sched_getaffinity(0)))
    with claimed("pin"):
        bench.node.pin(name, cpu)
        again = bench.node.pin(name, cpu)
        bench.node.pin(name, "all")
    require(not again.changed, "a second pin to the same CPUs says that it changed something")
    require(bench.info().state is State.RUNNING, f"is {bench.info().state} after pin")


def _typed_refusal(operation: str, what: str, act: Callable[[], object]) -> None:
    """Require that the operation is refused with an error of hvcore."""
    try:
        act()
    except HvError as error:
        require(not isinstance(error, DriverError), f"{operation} fails for {what}: {error}")
    else:
        raise Failed(f"{operation} takes {what}")
