"""What `hv params DRIVER KEY` shows of every built-in parameter is complete."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import pytest

from hvcore.model.instance import DISK_KEYS, INSTANCE_KEYS, NIC_KEYS
from hvcore.params.param import Param
from hvcore.plugins.loader import load

OWNERS: Final[dict[str, Iterable[Param]]] = {
    "instance": INSTANCE_KEYS,
    "disks": DISK_KEYS,
    "nics": NIC_KEYS,
    **{driver: load(driver).schema.params.values() for driver in ("kvm", "chroot", "fake")},
}
PARAMS: Final = {f"{owner}.{param.key}": param for owner, params in OWNERS.items() for param in params}
EXPLAIN_THEMSELVES: Final = {"boolean", "integer", "port", "seconds"}
# Choices that are the name of something outside, with the place that explains them.
NAMES: Final[dict[str, str]] = {}
# These are not complete yet. The list only shrinks.
PENDING: Final = frozenset(
    {
        "kvm.boot_firmware",
        "kvm.boot_order",
        "kvm.cdrom2_image_path",
        "kvm.cdrom_disk_type",
        "kvm.cdrom_image_path",
        "kvm.confinement",
        "kvm.cpu_cores",
        "kvm.cpu_sockets",
        "kvm.cpu_threads",
        "kvm.cpu_type",
        "kvm.disk_aio",
        "kvm.disk_cache",
        "kvm.disk_discard",
        "kvm.disk_type",
        "kvm.floppy_image_path",
        "kvm.initrd_path",
        "kvm.iothreads",
        "kvm.kernel_path",
        "kvm.keymap",
        "kvm.kvm_extra",
        "kvm.kvm_flag",
        "kvm.mem_path",
        "kvm.migration_caps",
        "kvm.migration_mode",
        "kvm.nic_type",
        "kvm.reboot_behavior",
        "kvm.rng_source",
        "kvm.scsi_controller_type",
        "kvm.security_domain",
        "kvm.security_model",
        "kvm.soundhw",
        "kvm.spice_bind",
        "kvm.spice_image_compression",
        "kvm.spice_ip_version",
        "kvm.spice_jpeg_wan_compression",
        "kvm.spice_password_file",
        "kvm.spice_port",
        "kvm.spice_streaming_video",
        "kvm.spice_x509_path",
        "kvm.spice_zlib_glz_wan_compression",
        "kvm.swtpm_path",
        "kvm.tpm_state_path",
        "kvm.tpm_version",
        "kvm.uefi_code_path",
        "kvm.uefi_vars_path",
        "kvm.uefi_vars_template",
        "kvm.usb_devices",
        "kvm.usb_mouse",
        "kvm.vga",
        "kvm.vhost_net",
        "kvm.vnc_bind_address",
        "kvm.vnc_password_file",
        "kvm.vnc_port",
        "kvm.vnc_x509_path",
        "chroot.capabilities",
        "chroot.cpu_limit",
        "chroot.hostname",
        "chroot.isolation",
        "chroot.memory_limit",
        "chroot.network",
        "chroot.network_mtu",
        "chroot.overlay",
        "chroot.overlay_directory",
        "chroot.overlay_size",
        "chroot.process_limit",
        "chroot.resolv_conf",
        "chroot.root_directory",
        "chroot.seccomp",
        "chroot.stop_script",
        "chroot.user_namespace",
        "fake.fail_at",
        "fake.motd",
    }
)


def lacks(key: str, param: Param) -> Iterator[str]:
    """What the text of the parameter does not say."""
    if "Unset:" in param.help or "Default:" in param.help:
        yield "help speaks of the default; that is what default_means is for"
    for choice, meaning in param.type.choices.items():
        if isinstance(choice, str) and not meaning and key not in NAMES:
            yield f"choice {choice!r} has no meaning; give one_of() a mapping, or list the parameter in NAMES"
    unclear = param.default is None or param.default in ("", "auto", "default")
    unclear |= param.default == 0 and not isinstance(param.default, bool)
    if unclear and not param.required and not param.default_means:
        yield f"default {param.default!r} has no default_means"
    if not param.type.choices and param.type.kind not in EXPLAIN_THEMSELVES and param.example is None:
        yield "there is no example"


@pytest.mark.parametrize("key", PARAMS)
def test_the_text_of_a_parameter_is_complete(key: str) -> None:
    lacking = "\n".join(lacks(key, PARAMS[key]))
    if key in PENDING:
        assert lacking, f"{key} is complete; take it out of PENDING"
    else:
        assert not lacking, f"{key}:\n{lacking}"


def test_the_lists_name_parameters() -> None:
    assert PARAMS.keys() >= PENDING | NAMES.keys()
