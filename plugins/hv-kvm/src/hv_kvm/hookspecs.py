"""The hooks of the kvm driver: the parts of a device family, built in or of an extension.

A family module has, in this order: ``PARAMS``, its device (a frozen dataclass), ``DEVICES``, and implementations
of ``check``, ``plan``, ``verify`` and ``render``, as far as it needs them.
"""

from __future__ import annotations

from collections.abc import Iterable

from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt
from hv_kvm.machine.resource import Bindings
from hv_kvm.machine.spec import Device, KvmSpec
from hv_kvm.qmp import QmpClient
from hvcore.plugin import Instance, Job, Params, Problem, hookspec

__all__ = ["devices", "on_ready", "plan", "render", "verify"]


@hookspec
def devices() -> Iterable[type[Device]]:  # type: ignore[empty-body]
    """The classes of the devices that ``plan`` gives, so that a machine can be read from its record. Each name is unique.

    >>> from hv_kvm.devices import clock
    >>> [kind.__name__ for kind in clock.DEVICES]
    ['Clock']
    """


@hookspec
def plan(instance: Instance, params: Params) -> Iterable[Device]:  # type: ignore[empty-body]
    """The devices that the guest gets. Pure: the same on every node.

    >>> from hv_kvm.devices import clock
    >>> list(clock.plan({"use_localtime": True}))
    [Clock(base='localtime')]
    """


@hookspec
def verify(spec: KvmSpec, facts: Facts) -> Iterable[Problem]:  # type: ignore[empty-body]
    """The features that this QEMU lacks for the machine. Decided from probed facts, never from a version.

    >>> from types import SimpleNamespace
    >>> import hvcore.plugin as hv
    >>> @hv.hookimpl
    ... def verify(facts):
    ...     if "virtio-rng-pci" not in facts.types:
    ...         yield hv.Problem(path="params.rng", what=f"this QEMU ({facts.version}) has no virtio-rng-pci")
    >>> [str(problem) for problem in verify(SimpleNamespace(version="7.2.22", types=frozenset()))]
    ['params.rng: this QEMU (7.2.22) has no virtio-rng-pci']
    """


@hookspec
def render(spec: KvmSpec, facts: Facts, bindings: Bindings) -> Iterable[Opt]:  # type: ignore[empty-body]
    """The options for this plugin's own devices. Pure.

    >>> from hv_kvm.devices import clock
    >>> from hv_kvm.machine.spec import KvmSpec
    >>> spec = KvmSpec(name="w", uuid="", machine="pc", qemu="", memory_mib=64, vcpus=1, kvm="", confinement="off",
    ...                acpi=True, devices=(clock.Clock(base="utc"),))
    >>> [option.argv for option in clock.render(spec)]
    [('-rtc', 'base=utc')]
    """


@hookspec
def on_ready(spec: KvmSpec, facts: Facts | None, client: QmpClient, job: Job) -> None:
    """Called before the guest runs, when QEMU answers and is proved to be confined: for settings that only QMP has.

    ``facts`` is None for a guest that already runs, whose interrupted start is finished. Raise to undo the start.

    >>> import hvcore.plugin
    >>> @hvcore.plugin.hookimpl
    ... def on_ready(client, job):
    ...     client.execute("query-name", deadline_s=job.deadline.left())
    """
