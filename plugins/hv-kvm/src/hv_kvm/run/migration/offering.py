"""What a guest says of itself before a migration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import hvcore.plugin as hv
from hv_kvm.devices.cpu import begun_with
from hv_kvm.machine.resource import Image
from hv_kvm.machine.spec import KvmSpec
from hv_kvm.qmp import migration_commands, reach, size_commands
from hv_kvm.resources.image_contents import disk_sizes
from hv_kvm.run.migration.credentials import credentials

__all__ = ["live_blockers", "offered", "tuning_of"]

_ASK_S: Final = 5.0
_MEBIBYTE: Final = 1 << 20
_MODES: Final = {"non-live": hv.MigrationMode.PAUSED}
# Measured with a Linux guest that writes: 7.2 lost memory in the second to seventh migration, 10.0 and 11.1 in none of 40.
_SAFE_EMULATION: Final = 10


def offered(live: hv.Live, spec: KvmSpec, abi: hv.Abi) -> hv.Offer:
    """The guest as a target has to know it. Raises `QmpError` and `OperationError`."""
    with reach(live.dir, _ASK_S) as client:
        blocked = migration_commands.query_migrate(client, deadline_s=_ASK_S).blocked
        begun = size_commands.query_vcpus_at_start(client, deadline_s=_ASK_S)
    if begun is not None and begun > spec.vcpus:
        blocked = (*blocked, f"has fewer than the {begun} vCPUs of its start")
    params = dict(live.record.params or {})
    mode, unsafe = str(params.get("migration_mode", hv.MigrationMode.LIVE)), tuple(live_blockers(live.record.bindings))
    return hv.Offer(
        driver=live.record.driver,
        instance=live.record.instance,
        spec=hv.encode(begun_with(spec, 0 if begun in (None, spec.vcpus) else begun)),
        program=f"QEMU {live.record.bindings.get('qemu', '')}".strip(),
        params=params,
        abi=abi.to_json(),
        disks=tuple(_disks(spec)),
        blockers=blocked,
        live_blockers=unsafe,
        mode=str(hv.MigrationMode.PAUSED if unsafe else _MODES.get(mode, mode)),
        port=int(params.get("migration_port", 0)),
        tuning=tuning_of(params),
        certificate=credentials(live.dir).certificate,
    )


def live_blockers(bindings: Mapping[str, Any]) -> Iterator[str]:
    """Why the guest must not run while it is sent: an emulated one then loses some of its writes in an older QEMU."""
    version = str(bindings.get("qemu", ""))
    if bindings.get("accel") == "tcg" and int(version.partition(".")[0] or 0) < _SAFE_EMULATION:
        yield f"it is emulated, and QEMU {version} loses writes of such a guest; QEMU {_SAFE_EMULATION} does not"


def tuning_of(params: Mapping[str, Any]) -> hv.Tuning:
    """What the guest's parameters say."""
    bandwidth, downtime = params.get("migration_bandwidth"), params.get("migration_downtime")
    return hv.Tuning(
        bandwidth_bps=None if bandwidth is None else bandwidth * _MEBIBYTE,
        downtime_ms=downtime,
        caps=tuple(params.get("migration_caps") or ()),
    )


def _disks(spec: KvmSpec) -> Iterator[hv.OfferedDisk]:
    sizes = disk_sizes(spec)
    for image in spec.resources_of(Image):
        yield hv.OfferedDisk(
            name=image.key,
            path=image.path,
            format=image.format,
            size_bytes=sizes.get(image.key, 0),
            read_only=not image.write,
        )
