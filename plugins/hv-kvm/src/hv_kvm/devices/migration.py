"""How a guest migrates to another node. QEMU gets these values at the migration, none on its command line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import hvcore.plugin as hv
from hv_kvm.devices.shared.params import problem
from hv_kvm.machine.resource import NotYet
from hv_kvm.machine.spec import Device, KvmSpec
from hvcore.plugin import dataclass

__all__ = ["DEVICES", "PARAMS", "UserShutdown", "check", "plan"]

# QAPI MigrationCapability of QEMU 5.2 to 11, without those for COLO and for snapshots. A migration has to ask both QEMUs
# which of them they have.
_CAPABILITIES: Final = (
    *("auto-converge", "block", "compress", "dirty-bitmaps", "dirty-limit", "events", "late-block-activate"),
    *("mapped-ram", "multifd", "pause-before-switchover", "postcopy-blocktime", "postcopy-preempt", "postcopy-ram"),
    *("rdma-pin-all", "release-ram", "return-path", "switchover-ack", "validate-uuid", "x-ignore-shared", "xbzrle"),
    *("zero-blocks", "zero-copy-send"),
)
_NEEDS: Final = {"postcopy-preempt": "postcopy-ram", "postcopy-blocktime": "postcopy-ram", "zero-copy-send": "multifd"}
_NOT_BOTH: Final = (("multifd", "compress"), ("zero-copy-send", "xbzrle"))

PARAMS: Final = hv.ParamGroup(
    "migration",
    hv.Param(
        "migration_port",
        hv.port(),
        default=8102,
        help="The TCP port of the target node that receives the guest, with everything that belongs to it. If another guest has it, "
        "the next free one: a firewall has to allow as many ports as guests that arrive at the same time, at most 64.",
        changes="live",
        example=8103,
    ),
    hv.Param(
        "migration_bandwidth",
        hv.integer(minimum=0, maximum=1 << 20),
        default=32,
        unit="MiB per second",
        help="The highest speed of a migration. 0 means no limit. The default dates from slower networks; raise it.",
        changes="live",
        example=1000,
    ),
    hv.Param(
        "migration_downtime",
        hv.integer(minimum=0, maximum=2_000_000),  # QEMU's own limit (migration/options.c, MAX_MIGRATE_DOWNTIME)
        default=30,
        unit="milliseconds",
        help="How long the guest may be paused at the end of a live migration.",
        changes="live",
        example=100,
    ),
    hv.Param(
        "migration_mode",
        hv.one_of(
            {
                "live": "The guest runs while its memory is copied.",
                "non-live": "The guest is paused while its memory is copied.",
            }
        ),
        default="live",
        help="Whether the guest runs during a migration.",
        changes="live",
        example="non-live",
    ),
    hv.Param(
        "migration_caps",
        hv.list_of(hv.one_of(*_CAPABILITIES)),
        default=(),
        help="The migration capabilities of QEMU to enable on both nodes. A target refuses those that its QEMU does not have, and "
        "those that cannot work: zero-copy-send, rdma-pin-all, mapped-ram, x-ignore-shared, block, late-block-activate.",
        changes="live",
        example=["xbzrle", "auto-converge"],
    ),
    hv.Param(
        "user_shutdown",
        hv.boolean(),
        default=False,
        help="Whether a guest that shuts down counts as stopped by its owner, so that it stays down. Not supported yet: with "
        "true, the instance does not start.",
        changes="launch",
        example=True,
    ),
    help="How a guest migrates to another node.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UserShutdown(Device):
    """A shutdown by the guest counts as a stop by its owner."""

    def resources(self, spec: KvmSpec) -> Iterator[hv.Resource[Any]]:
        """A watcher of guests, which does not exist yet."""
        what = "needs a watcher for guests that shut down, which this release of hv-kvm does not have"
        todo = "set user_shutdown = false, and on_shutdown = 'cleanup' in the instance file for hv act"
        yield NotYet(key="watcher", given_by="params.user_shutdown", what=what, got="True", todo=todo)


DEVICES: Final = (UserShutdown,)


@hv.hookimpl
@hv.when_given("migration_caps")
def check(params: hv.Params) -> Iterator[hv.Problem]:
    """Capabilities that need or exclude each other: QEMU would refuse them at the migration."""
    caps = params["migration_caps"]
    for cap in caps:
        needed = _NEEDS.get(cap, cap)
        if needed not in caps:
            yield problem(params, "migration_caps", f"{cap} needs {needed}", f"add {needed!r}")
    for first, second in _NOT_BOTH:
        if first in caps and second in caps:
            yield problem(params, "migration_caps", f"{first} and {second} exclude each other", "remove one of them")


@hv.hookimpl
@hv.when_given("user_shutdown")
def plan(params: hv.Params) -> Iterator[Device]:
    """user_shutdown, if it is set; the other values make no device."""
    if params["user_shutdown"]:
        yield UserShutdown()
