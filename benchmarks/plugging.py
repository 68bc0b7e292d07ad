"""An attach and a detach of a disk while the guest runs, each beside the bare QMP commands."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import hvcore
from benchmarks.clocks import parts_of
from benchmarks.guests import Bench, bench, on_disk, on_tmpfs
from benchmarks.measure import Goal, Report, Row, alternate, elapsed_ms
from hv_kvm.paths import GuestPaths
from hv_kvm.qmp import QmpClient, connect

__all__ = ["attaches"]

_NAME: Final = "web1"
_ANSWER_S: Final = 30.0
_FDSET: Final = 900
# A SCSI disk is gone at once. A guest has to let a PCI device go, and that would be measured.
_PARAMS: Final = {"disk_type": "scsi-hd", "scsi_controller_type": "virtio-scsi-pci"}

# The time that a part spends in another counts for the other.
_PARTS: Final = {
    "record, durable writes": "hvcore.state.store:Store.save",
    "decide and verify": "hv_kvm.run.hotplug.attaches_devices:changed_machine.attached",
    "facts of the QEMU binary": "hv_kvm.run.hotplug.guest_device:facts_of",
    "claim and open the disk": "hv_kvm.resources.image:ImageKind.acquire",
    "connect to the monitor": "hv_kvm.qmp.client:connect",
    "render": "hv_kvm.run.hotplug.guest_device:render_device",
    "observe": "hvcore.operations.inspection.observe:observed",
}


def attaches(repeat: int) -> Iterator[Report]:
    """One report, with the run directory on tmpfs where there is one."""
    where = on_tmpfs() or on_disk()
    if where is not None:
        with bench(where) as made:
            yield _report(made, repeat)


def _report(made: Bench, repeat: int) -> Report:
    instance = made.instance()
    made.kvm.start(replace(instance, params={**instance.params, **_PARAMS}))
    made.wait_booted(_NAME)
    path = str(made.directory / "more.img")
    Path(path).touch()
    os.truncate(path, 1 << 20)
    detaches: dict[str, list[float]] = {"bare": [], "ours": []}

    def ours() -> float:
        took = elapsed_ms(lambda: made.node.attach(_NAME, hvcore.Disk(path=path)))
        detaches["ours"].append(elapsed_ms(lambda: made.node.detach(_NAME, "disk1")))
        return took

    def bare() -> float:
        monitor = str(GuestPaths(made.node.run_dir / "instances" / _NAME).commands)
        took = elapsed_ms(lambda: _bare_attach(monitor, path))
        detaches["bare"].append(elapsed_ms(lambda: _bare_detach(monitor)))
        return took

    found = alternate({"bare": bare, "ours": ours}, repeat=repeat)
    took = {name: samples[-repeat:] for name, samples in detaches.items()}
    first = Row(name="bare QMP: open, lock, connect, add-fd, blockdev-add, device_add", samples=found["bare"])
    second = Row(name="bare QMP: device_del and its event, blockdev-del, remove-fd", samples=took["bare"])
    goal = Goal(1.5, ratio=True)
    return Report(
        title="attach and detach of a SCSI disk, a guest that runs",
        rows=[
            first,
            Row(name="Node.attach", samples=found["ours"], against=first, goal=goal),
            second,
            Row(name="Node.detach", samples=took["ours"], against=second),
        ],
        parts=parts_of(_PARTS, ours, repeat=repeat, rest="everything else"),
        parts_of="Node.attach and Node.detach, median ms",
        notes=("the bare commands check nothing, write nothing down and undo nothing",),
    )


def _bare_attach(monitor: str, path: str) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with connect(monitor, deadline_s=_ANSWER_S) as client:
            client.execute("add-fd", {"fdset-id": _FDSET}, fds=[fd])
            file = {"driver": "file", "filename": f"/dev/fdset/{_FDSET}"}
            client.execute("blockdev-add", {"driver": "raw", "node-name": "bare", "file": file})
            place = {"bus": "scsi.0", "channel": 0, "scsi-id": 9, "lun": 0}
            client.execute("device_add", {"driver": "scsi-hd", "id": "bare-dev", "drive": "bare", **place})
    finally:
        os.close(fd)


def _bare_detach(monitor: str) -> None:
    with connect(monitor, deadline_s=_ANSWER_S) as client:
        client.execute("device_del", {"id": "bare-dev"})
        _deleted(client)
        client.execute("blockdev-del", {"node-name": "bare"})
        client.execute("remove-fd", {"fdset-id": _FDSET})


def _deleted(client: QmpClient) -> None:
    client.wait_event(
        lambda event: event.name == "DEVICE_DELETED" and event.data.get("device") == "bare-dev", deadline_s=_ANSWER_S
    )
