"""Driver ``kvm``: its families, in the order of their options, and its operations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar, Final

import hvcore.plugin as hv
from hv_kvm import hookspecs, resources
from hv_kvm.devices import (
    audio,
    boot,
    clock,
    cpu,
    disk,
    extra,
    machine_type,
    media,
    memory,
    migration,
    monitor,
    network_scripts,
    nic,
    security,
    seed,
    serial,
    spice,
    storage,
    tpm,
    usb,
    user_network,
    video,
    virtio,
    vnc,
)
from hv_kvm.machine.placement import decide
from hv_kvm.machine.spec import Device, KvmSpec, declared, kinds_of, read_spec
from hv_kvm.qmp import QmpBusyError, QmpError, QmpTimeoutError, commands, reach
from hv_kvm.run import stop
from hv_kvm.run.access import displays, press
from hv_kvm.run.access.displays import vnc_password
from hv_kvm.run.access.inside import execution
from hv_kvm.run.access.picture import screenshot
from hv_kvm.run.access.serial_console import console, console_log
from hv_kvm.run.hotplug import nic_change
from hv_kvm.run.hotplug.attaches_devices import AttachesDevices
from hv_kvm.run.migration.migrates import MovesGuests
from hv_kvm.run.observation.events import watched
from hv_kvm.run.observation.observe import observe, process_of
from hv_kvm.run.observation.usage import usage
from hv_kvm.run.startup import ready, start
from hv_kvm.run.startup.describe import describe, rehearse
from hv_kvm.run.startup.seen_machine import SeesMachine
from hv_kvm.run.startup.verify import examine, problems_on, version
from hv_kvm.run.tuning import balloon, pinning
from hv_kvm.run.tuning.hot_memory import resize_memory
from hv_kvm.run.tuning.possible_sizes import sizes
from hv_kvm.run.tuning.vcpus import resize_vcpus

__all__ = ["KvmDriver"]

_ADOPT_S: Final = 5.0


def _expect(found: bool, wanted: bool, job: hv.Job) -> None:  # noqa: FBT001 - two facts side by side
    if found != wanted:
        state = "running" if found else "paused"
        raise hv.OperationError(f"{job.name}: QEMU accepted the command, but the guest is still {state}; see 'hv info'")


class KvmDriver(AttachesDevices, SeesMachine, MovesGuests):
    """Guests in QEMU, with KVM where it really works, confined by default."""

    name: ClassVar[str] = "kvm"
    hookspecs: ClassVar[tuple[object, ...]] = (hookspecs,)
    plugins: ClassVar[tuple[tuple[str, object], ...]] = (
        ("machine", machine_type),
        ("cpu", cpu),
        ("memory", memory),
        ("clock", clock),
        ("boot", boot),
        ("monitor", monitor),
        ("serial", serial),
        ("virtio", virtio),
        ("storage", storage),
        ("disk", disk),
        ("media", media),
        ("nic", nic),
        ("user_network", user_network),
        ("network_scripts", network_scripts),
        ("seed", seed),
        ("vnc", vnc),
        ("spice", spice),
        ("migration", migration),
        ("video", video),
        ("usb", usb),
        ("audio", audio),
        ("tpm", tpm),
        ("security", security),
        ("extra", extra),
        ("resources", resources),
        ("pinning", pinning),
        ("balloon", balloon),
        ("displays", displays),
        ("cables", nic_change),
    )

    def __init__(self, hooks: hv.Hooks) -> None:
        self._hooks = hooks
        self._kinds = kinds_of(hooks)
        extended = set(hooks.implementations("render")) - {name for name, _ in self.plugins}
        self._not_compared = rehearse(hooks) if extended else ()

    def plan(self, instance: hv.Instance, params: hv.Params) -> KvmSpec:
        """The machine, with every device in its place. Pure. Raises `ParamsError` when the devices do not all fit."""
        devices = declared(self._hooks.items("plan", Device, instance=instance, params=params), self._kinds)
        try:
            return decide(instance, params, devices)
        except ValueError as error:
            todo = "remove some, put disks behind a SCSI controller, or lower kvm_pci_reservations"
            raise hv.ParamsError(instance.name, [hv.Problem(path="devices", what=str(error), todo=todo)]) from error

    def read_spec(self, data: object) -> KvmSpec:
        """The machine in a record, devices of extensions included."""
        return read_spec(data, self._kinds)

    def verify(self, spec: KvmSpec, host: hv.Host) -> Iterable[hv.Problem]:
        """What keeps this node from running the machine: files, permissions, features that the QEMU binary lacks."""
        return problems_on(self._hooks, spec, host)

    def examine(self, host: hv.Host) -> Iterable[hv.Finding]:
        """Like `examine_with`, with the default QEMU."""
        groups = (group for _, group in self._hooks.each("params"))
        binary: str = next(param.default for group in groups for param in group if param.key == "kvm_path")
        return self._findings(binary, host)

    def examine_with(self, host: hv.Host, params: hv.Params) -> Iterable[hv.Finding]:
        """The node's QEMU, whether KVM works, and extensions whose option ids could not be compared."""
        return self._findings(params["kvm_path"], host)

    def _findings(self, binary: str, host: hv.Host) -> Iterator[hv.Finding]:
        for why in self._not_compared:
            what = f"could not be compared with those of other plugins when the driver was loaded: {why}"
            yield hv.Finding(subject="option ids", severity=hv.Severity.NOTE, what=what)
        yield from examine(binary, host)

    def describe(self, spec: KvmSpec, host: hv.Host) -> hv.Plan:
        """The steps of a start, and the command line with an origin for every option."""
        return describe(self._hooks, spec, host)

    def start(self, spec: KvmSpec, job: hv.Job) -> None:
        """Start the guest; returns when QMP reports that the guest runs."""
        start.bring_up(self._hooks, spec, job)

    # Static, so that a list does not have to import all families.
    observe = staticmethod(observe)
    console = staticmethod(console)
    console_log = staticmethod(console_log)
    execution = staticmethod(execution)
    screenshot = staticmethod(screenshot)
    vnc_password = staticmethod(vnc_password)
    usage = staticmethod(usage)
    version = staticmethod(version)
    balloon = staticmethod(balloon.balloon)
    pin = staticmethod(pinning.pin)
    resize_memory = staticmethod(resize_memory)
    resize_vcpus = staticmethod(resize_vcpus)
    sizes = staticmethod(sizes)
    watched = staticmethod(watched)
    reset = staticmethod(press.reset)
    powerdown = staticmethod(press.powerdown)
    send_keys = staticmethod(press.send_keys)
    nmi = staticmethod(press.nmi)

    def stop(self, live: hv.Live, job: hv.Job, *, force: bool) -> str:
        """Powerdown, quit, kill."""
        return stop.stop(live, job, force=force)

    def pause(self, live: hv.Live, job: hv.Job) -> None:
        """Pause the guest, and check that QEMU reports it paused."""
        with reach(live.dir, job.deadline.left()) as client:
            commands.stop(client, deadline_s=job.deadline.left())
            _expect(commands.query_status(client).running, False, job)

    def resume(self, live: hv.Live, job: hv.Job) -> None:
        """Let the guest run, and check that QEMU reports it running, unless the guest has shut down since."""
        with reach(live.dir, job.deadline.left()) as client:
            _expect(ready.let_run(client, live.dir, job.deadline) is None, True, job)

    def log(self, live: hv.Live) -> Path:
        """The file with the standard error of QEMU and of the programs that confine it."""
        return live.dir / hv.LOG

    def adopt(self, live: hv.Live, job: hv.Job) -> bool:
        """Finish an interrupted start; False when QEMU is not in the run state that the start was to reach."""
        process = process_of(live)
        if process is None:
            return False
        try:
            with reach(live.dir, job.deadline.left(at_most=_ADOPT_S)) as client:
                return ready.finish(self._hooks, client, process, self.read_spec(job.record.spec), job)
        except (QmpBusyError, QmpTimeoutError) as error:
            # The guest may be well, and undoing would kill it: the operator decides.
            what = (
                f"{job.name}: the start was interrupted and the monitor does not answer, so the guest is left as it is"
            )
            raise hv.OperationError(f"{what}; try again, or end the guest with 'hv stop --force' ({error})") from error
        except (QmpError, hv.OperationError) as error:
            job.progress(f"the interrupted start cannot be finished: {error}")
            return False
