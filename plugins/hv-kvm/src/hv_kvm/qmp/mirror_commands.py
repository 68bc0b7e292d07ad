"""The monitor commands that copy disks to another QEMU while the guest writes to them, as `commands`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hv_kvm.qmp.client import COMMAND_DEADLINE_S, QmpClient
from hv_kvm.qmp.errors import QmpCommandError
from hv_kvm.qmp.replies import ask_rows
from hvcore.plugin import dataclass

__all__ = [
    "BlockJob",
    "block_export_add",
    "block_job_cancel",
    "block_job_set_speed",
    "blockdev_del",
    "blockdev_mirror",
    "connect_export",
    "job_dismiss",
    "nbd_server_start",
    "nbd_server_stop",
    "query_jobs",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockJob:
    """A job that copies. ``status`` is QAPI's JobStatus; ``concluded`` is the last one, with the ``error`` if it failed."""

    status: str
    done: int
    total: int
    error: str = ""


def query_jobs(client: QmpClient, *, deadline_s: float = COMMAND_DEADLINE_S) -> dict[str, BlockJob]:
    """All jobs by their ids."""
    return {
        row.need("id", str): BlockJob(
            status=row.need("status", str),
            done=row.maybe("current-progress", int, 0),
            total=row.maybe("total-progress", int, 0),
            error=row.maybe("error", str, ""),
        )
        for row in ask_rows(client, "query-jobs", deadline_s)
    }


def blockdev_mirror(
    client: QmpClient, job: str, nodes: tuple[str, str], *, speed_bps: int, deadline_s: float = COMMAND_DEADLINE_S
) -> None:
    """Copy all of the first node to the second one, at most that fast; 0 is no limit.

    Each later write is on both sides before it is done for the guest. The job stays known after its end, until it is
    dismissed: so its error can be asked for.
    """
    arguments = {
        "job-id": job,
        "device": nodes[0],
        "target": nodes[1],
        "speed": speed_bps,
        "sync": "full",
        "copy-mode": "write-blocking",
        "auto-dismiss": False,
    }
    client.execute("blockdev-mirror", arguments, deadline_s=deadline_s)


def block_job_cancel(client: QmpClient, job: str, *, force: bool, deadline_s: float = COMMAND_DEADLINE_S) -> None:
    """End the copy. One that is ready ends well, with both sides equal, unless ``force``."""
    client.execute("block-job-cancel", {"device": job, "force": force}, deadline_s=deadline_s)


def block_job_set_speed(client: QmpClient, job: str, speed_bps: int, *, deadline_s: float = COMMAND_DEADLINE_S) -> None:
    """Change how fast the job copies; 0 is no limit."""
    client.execute("block-job-set-speed", {"device": job, "speed": speed_bps}, deadline_s=deadline_s)


def job_dismiss(client: QmpClient, job: str, *, deadline_s: float = COMMAND_DEADLINE_S) -> None:
    """Forget a job that has ended."""
    client.execute("job-dismiss", {"id": job}, deadline_s=deadline_s)


def connect_export(
    client: QmpClient, node: str, path: str, export: str, *, deadline_s: float = COMMAND_DEADLINE_S
) -> None:
    """Make a block node of a disk that another QEMU exports at that socket."""
    arguments = {"driver": "nbd", "node-name": node, "server": {"type": "unix", "path": path}, "export": export}
    client.execute("blockdev-add", arguments, deadline_s=deadline_s)


def blockdev_del(client: QmpClient, node: str, *, deadline_s: float = COMMAND_DEADLINE_S) -> None:
    """Remove a block node; one that does not exist is fine."""
    try:
        client.execute("blockdev-del", {"node-name": node}, deadline_s=deadline_s)
    except QmpCommandError as error:
        if "failed to find node" not in error.desc.lower():
            raise


def nbd_server_start(client: QmpClient, path: str, *, deadline_s: float = COMMAND_DEADLINE_S) -> None:
    """Offer exports at that unix socket."""
    address: Mapping[str, Any] = {"type": "unix", "data": {"path": path}}
    client.execute("nbd-server-start", {"addr": address}, deadline_s=deadline_s)


def nbd_server_stop(client: QmpClient, *, deadline_s: float = COMMAND_DEADLINE_S) -> None:
    """End all exports, if there are any."""
    try:
        client.execute("nbd-server-stop", deadline_s=deadline_s)
    except QmpCommandError as error:
        if "not running" not in error.desc:
            raise


def block_export_add(client: QmpClient, node: str, *, deadline_s: float = COMMAND_DEADLINE_S) -> None:
    """Export the block node by its name, for writing."""
    arguments = {"type": "nbd", "id": f"export-{node}", "node-name": node, "name": node, "writable": True}
    client.execute("block-export-add", arguments, deadline_s=deadline_s)
