"""A seed for cloud-init: a small read-only disk with the settings of the guest's first boot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import hvcore.plugin as hv
from hv_kvm.devices.shared.block_nodes import descriptors, file_props, read_only_image
from hv_kvm.devices.shared.params import lacking, problem
from hv_kvm.machine.cloud_config import SeedContents
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.resource import Bindings, SeedImage
from hv_kvm.machine.spec import Device, KvmSpec, PciDevice, when_planned
from hvcore.plugin import dataclass

__all__ = ["DEVICES", "PARAMS", "Seed", "check", "plan", "render", "verify"]

_KEY: Final = r"[a-z0-9@.-]{3,64} [A-Za-z0-9+/=]{16,8000}(?: [ -~]{1,200})?"
_HOST: Final = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?(?:[.][A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?){0,7}"
_REPLACED: Final = ("seed_user", "seed_ssh_keys", "seed_password_file", "seed_packages", "seed_run")

PARAMS: Final = hv.ParamGroup(
    "seed",
    hv.Param(
        "seed",
        hv.one_of({"nocloud": "cloud-init's data source NoCloud, which most cloud images have."}),
        help="The kind of seed that the guest gets. cloud-init reads it when the guest boots first from its disk.",
        default_means="no seed",
        example="nocloud",
    ),
    hv.Param(
        "seed_hostname",
        hv.regexp(_HOST, "a host name such as 'web1' or 'web1.example.org'", max_bytes=253),
        help="The host name of the guest.",
        default_means="the name of the instance",
        example="web1.example.org",
    ),
    hv.Param(
        "seed_user",
        hv.name(max_bytes=32),
        help="The user that cloud-init makes. The user can use sudo without a password. root is possible.",
        default_means="the user that the image has for this, such as debian",
        example="ops",
    ),
    hv.Param(
        "seed_ssh_keys",
        hv.list_of(hv.regexp(_KEY, "a public ssh key as in authorized_keys", max_bytes=8400)),
        default=(),
        help="The public ssh keys that can log in as seed_user.",
        example=["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHZjb3JlAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA you@example"],
    ),
    hv.Param(
        "seed_password_file",
        hv.file(),
        help="The file with the password of seed_user in its first line, or with its hash as in /etc/shadow. The guest gets "
        "a hash. ssh then takes the password too.",
        default_means="no password: only ssh keys can log in",
        example="/etc/hvcore/web1.password",
    ),
    hv.Param(
        "seed_packages",
        hv.list_of(hv.regexp("[A-Za-z0-9][A-Za-z0-9+._:~=-]{0,127}", "the name of a package")),
        default=(),
        help="The packages that cloud-init installs.",
        example=["qemu-guest-agent"],
    ),
    hv.Param(
        "seed_run",
        hv.list_of(hv.text(max_bytes=4096), repeats=True),
        default=(),
        help="The shell commands that cloud-init runs at the end of the first boot. They are not secret: a plan shows them.",
        example=["systemctl enable --now qemu-guest-agent"],
    ),
    hv.Param(
        "seed_user_data",
        hv.file(),
        help="The file with cloud-init's user data, in place of what the other parameters say but for the host name.",
        default_means="made from the other parameters",
        example="/etc/hvcore/web1.user-data",
    ),
    hv.Param(
        "seed_network",
        hv.file(),
        help="The file with cloud-init's network configuration.",
        default_means="cloud-init configures the first interface by DHCP",
        example="/etc/hvcore/web1.network",
    ),
    help="The settings that cloud-init in the guest applies at its first boot: a user, keys, packages. Secrets are read from "
    "files at the start, and only the guest gets them.",
)
_NODE: Final = "seed"
_MODEL: Final = "virtio-blk-pci"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed(PciDevice):
    """A virtio disk with label cidata. It is behind the disks and NICs, which keep their places without it."""

    contents: SeedContents

    @property
    def image(self) -> SeedImage:
        """The image, in memory."""
        return SeedImage(key=_NODE, given_by="params.seed", fdset=30, contents=self.contents)

    def resources(self, spec: KvmSpec) -> Iterator[hv.Resource[Any]]:
        """The image."""
        yield self.image


DEVICES: Final = (Seed,)


@hv.hookimpl
@hv.when_given(*(param.key for param in PARAMS))
def check(params: hv.Params) -> Iterator[hv.Problem]:
    """The other parameters need a seed, and own user data replace most of them."""
    if not params["seed"]:
        for key in (param.key for param in PARAMS):
            if params[key]:
                yield problem(params, key, "is set without a seed", 'set seed = "nocloud"')
    elif params["seed_user_data"]:
        for key in _REPLACED:
            if params[key]:
                yield problem(params, key, "has no effect with seed_user_data", "unset one of them")


@hv.hookimpl
@hv.when_given("seed")
def plan(instance: hv.Instance, params: hv.Params) -> Iterator[Device]:
    """The seed, if there is one."""
    if params["seed"]:
        contents = SeedContents(
            instance_id=instance.uuid,
            hostname=params["seed_hostname"] or instance.name,
            user=params["seed_user"],
            ssh_keys=params["seed_ssh_keys"],
            password_path=params["seed_password_file"],
            packages=params["seed_packages"],
            run=params["seed_run"],
            user_data_path=params["seed_user_data"],
            network_path=params["seed_network"],
        )
        yield Seed(contents=contents)


@hv.hookimpl
@when_planned(Seed)
def verify(spec: KvmSpec, facts: Facts) -> Iterator[hv.Problem]:
    """The device must exist in this QEMU."""
    if spec.of(Seed):
        yield from lacking(facts, _MODEL, "params.seed", "unset it", "'nocloud'")


@hv.hookimpl
@when_planned(Seed)
def render(spec: KvmSpec, bindings: Bindings) -> Iterator[Opt]:
    """The descriptor, the block node and the disk."""
    for seed in spec.of(Seed):
        opened = bindings[seed.image]
        yield from descriptors(opened, "the seed")
        yield read_only_image(_NODE, file_props(opened), ("seed",))
        device: Props = {"id": f"{_NODE}-dev", "drive": _NODE, **seed.address(spec)}
        yield Opt(name="-device", head=_MODEL, props=device, params=("seed",))
