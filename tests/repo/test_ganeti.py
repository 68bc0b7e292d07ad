"""The page about Ganeti's parameters has all of them, and names an existing test for each rule."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

TOP: Final = Path(__file__).resolve().parents[2]
TESTS: Final = TOP / "plugins/hv-kvm/tests"
GANETI: Final[dict[str, Any]] = tomllib.loads((TOP / "docs/ganeti.toml").read_text(encoding="utf-8"))
# Ganeti 3.2.0~alpha1, lib/hypervisor/hv_kvm/__init__.py, KVMHypervisor.PARAMETERS.
KEYS: Final = re.findall(
    r"\w+",
    """
acpi boot_order cdrom2_image_path cdrom_disk_type cdrom_image_path cpu_cores cpu_mask cpu_sockets cpu_threads cpu_type
disk_aio disk_cache disk_discard disk_type floppy_image_path initrd_path kernel_args kernel_path keymap kvm_extra
kvm_flag kvm_path kvm_pci_reservations machine_version mem_path migration_bandwidth migration_caps migration_downtime
migration_mode migration_port nic_type reboot_behavior root_path scsi_controller_type security_domain security_model
serial_console serial_speed soundhw spice_bind spice_image_compression spice_ip_version spice_jpeg_wan_compression
spice_password_file spice_playback_compression spice_streaming_video spice_tls_ciphers spice_use_tls spice_use_vdagent
spice_zlib_glz_wan_compression usb_devices usb_mouse use_chroot use_guest_agent use_localtime user_shutdown vga vhost_net
virtio_net_queues vnc_bind_address vnc_password_file vnc_tls vnc_x509_path vnc_x509_verify vnet_hdr
""",
)
RULES: Final = [f"K{number}" for number in range(1, 20)] + ["K4n"]


def named(key: str) -> Iterator[tuple[str, str]]:
    for table in ("rules", "never"):
        for name, row in GANETI[table].items():
            if key in row:
                yield name, row[key]


def test_every_parameter_of_ganeti_is_on_the_page_once() -> None:
    assert sorted(GANETI["parameters"]) == sorted(KEYS)
    assert len(KEYS) == 65
    assert sorted(set(RULES) - set(GANETI["rules"])) == []


@pytest.mark.parametrize(("key", "suffix"), [("accepts", "argv"), ("refuses", "error")])
def test_what_shows_a_rule_is_there(key: str, suffix: str) -> None:
    missing = []
    for name, shown in named(key):
        file, _, test = shown.partition("::")
        if test:
            there = re.search(rf"^def {test}\(", (TESTS / file).read_text(encoding="utf-8"), re.MULTILINE) is not None
        else:
            there = (TESTS / "golden" / f"{shown}.{suffix}").exists()
        if not there:
            missing.append(f"{name}: {shown}")
    assert missing == []
