"""The driver for the conformance kit: guests of 512 bytes under software emulation, and QEMU's version."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import hvcore.plugin as hv
from hv_kvm.qemu.boot_sector import boot_sector, write_disk
from hv_kvm.qemu.probe import probe
from hvcore.testing import Factory, Subject

__all__ = ["subject"]

_QEMU: Final = "/usr/bin/qemu-system-x86_64"
_HELLO: Final = "hvcore test guest\r\n"


def _guest(*, params: Mapping[str, Any] | None = None, **kind: Any) -> Factory:
    def make(name: str, directory: Path) -> hv.Instance:
        disk = directory / f"{name[-40:]}.img"
        if not disk.exists():
            write_disk(str(disk), boot_sector(_HELLO, **{"lets_go": True, **kind}))
        return hv.Instance(
            name=name,
            driver="kvm",
            memory_mib=32,
            disks=(hv.Disk(path=str(disk)),),
            params={"kvm_flag": "disabled", "serial_console": True, "use_guest_agent": True, **(params or {})},
        )

    return make


def _unfit() -> str | None:
    missing = [name for name in (_QEMU, "bwrap", "setpriv") if shutil.which(name) is None]
    return f"no {', '.join(missing)}" if missing else None


def _versions() -> Mapping[str, str]:
    with tempfile.TemporaryDirectory() as directory:
        try:
            return {"qemu": probe(_QEMU, cache_dir=directory).version}
        except hv.HvError:
            return {}


def _two_boot_disks(name: str, directory: Path) -> hv.Instance:
    disks = tuple(hv.Disk(path=str(directory / f"{number}.img"), boot_index=1) for number in range(2))
    return hv.Instance(name=name, driver="kvm", disks=disks)


def _bad_kernel(name: str, directory: Path) -> hv.Instance:
    """A guest whose start fails: QEMU exits, because the file is not a kernel."""
    kernel = directory / "kernel"
    kernel.write_bytes(b"no kernel")
    made = _guest()(name, directory)
    return replace(made, params={**made.params, "kernel_path": str(kernel)})


def subject() -> Subject:
    """The driver under test."""
    return Subject(
        driver="kvm",
        instance=_guest(),
        stubborn=_guest(ignore_power_button=True),
        ending=_guest(exit_after_boot="poweroff"),
        failing=_bad_kernel,
        refused=(_two_boot_disks,),
        unfit=_unfit,
        versions=_versions,
        raw=("kvm_extra",),
        excused={
            "argv_monotone_delta": "devices share the slots of one bus, so one that is added moves those after it",
        },
    )
