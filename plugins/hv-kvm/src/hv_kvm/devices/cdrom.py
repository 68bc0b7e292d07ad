"""A cdrom drive with an image in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hv_kvm.bindings import Bindings
from hv_kvm.option import Opt, Props
from hv_kvm.spec import Device, KvmSpec, Open
from hvcore import Instance, Param, ParamGroup, Params, file, hookimpl

__all__ = ["PARAMS", "Cdrom", "params", "plan", "render"]

PARAMS: Final = ParamGroup(
    "cdrom",
    Param("cdrom_image_path", file(), help="An ISO image to put into a cdrom drive of the guest."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cdrom(Device):
    """A drive on the last IDE place. Images are only read, so any number of instances may use one."""

    path: str
    boot_index: int | None

    def opens(self) -> tuple[Open, ...]:
        """The image, read-only and not claimed."""
        return (Open(name="cdrom", given_as="params.cdrom_image_path", path=self.path, write=False, claim=False),)


@hookimpl
def params() -> ParamGroup:
    """The family's parameters."""
    return PARAMS


@hookimpl
def plan(instance: Instance, params: Params) -> Iterator[Device]:
    """A drive, when there is an image for it."""
    del instance
    if params["cdrom_image_path"]:
        yield Cdrom(path=params["cdrom_image_path"], boot_index=1 if params["boot_order"] == "cdrom" else None)


@hookimpl
def render(spec: KvmSpec, bindings: Bindings) -> Iterator[Opt]:
    """Descriptor, block node, drive."""
    for cdrom in spec.of(Cdrom):
        opened = bindings.files["cdrom"]
        for fd in opened.fds:
            yield Opt(name="-add-fd", props={"fd": fd, "set": opened.set_id}, why=f"{cdrom.path}, opened before")
        node: Props = {"driver": "raw", "node-name": "cdrom", "read-only": True}
        node |= {"file.driver": "file", "file.filename": opened.path}
        yield Opt(name="-blockdev", props=node, params=("cdrom_image_path",))
        place: Props = {"bus": "ide.5", "unit": 0} if spec.q35 else {"bus": "ide.1", "unit": 1}
        props: Props = {"id": "cdrom-dev", "drive": "cdrom", **place, "bootindex": cdrom.boot_index}
        yield Opt(name="-device", head="ide-cd", props=props, params=("cdrom_image_path", "boot_order"))
