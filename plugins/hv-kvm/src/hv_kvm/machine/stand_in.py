"""The options of a throw-away guest with the same machine as another, and with nothing of the node. Pure.

QEMU saves the state of the one and loads it into the other as it would that of the real guest: what a state has to fit is
the devices and their places, not what is behind them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from hv_kvm.machine.option import Opt

__all__ = ["left_out", "stand_in"]

_KEPT: Final = frozenset({"-boot", "-global", "-m", "-numa", "-rtc", "-serial", "-smbios", "-smp", "-uuid"})
_OBJECTS: Final = ("iothread", "rng-random", "rng-builtin")
_NODE_ONLY: Final = frozenset(
    {"usb-host", "scsi-generic", "scsi-block", "tpm-crb", "tpm-tis", "vhost-vsock-pci", "vfio-pci", "virtio-sound-pci"}
)
"""Devices that need something of the node to start."""
_NETWORK: Final = frozenset({"netdev"})


def left_out(options: Iterable[Opt]) -> tuple[str, ...]:
    """The devices of which nothing is found out, because they need something of the node."""
    return tuple(sorted({str(option.head) for option in options if _of_node(option)}))


def stand_in(options: Iterable[Opt], sizes: Mapping[str, int]) -> Iterator[Opt]:
    """The options of the throw-away guest, without those of `left_out`. ``sizes`` are the bytes of each image."""
    for option in options:
        if option.name == "-blockdev":
            yield _empty_image(option, sizes)
        elif option.name in _CHANGED:
            yield from _CHANGED[option.name](option)
        elif option.name in _KEPT:
            yield option


def _of_node(option: Opt) -> bool:
    return option.name == "-device" and option.head in _NODE_ONLY


def _without(option: Opt, keys: frozenset[str]) -> Opt:
    return replace(option, props={key: value for key, value in option.props.items() if key not in keys})


def _empty_image(option: Opt, sizes: Mapping[str, int]) -> Opt:
    """Only zeros, and no file: of the size that the guest sees, so that the machine starts."""
    name = str(option.props["node-name"])
    kept = {key: option.props[key] for key in ("node-name", "read-only") if key in option.props}
    return Opt(name="-blockdev", props={"driver": "null-co", **kept, "size": sizes.get(name, 1 << 20)})


def _object(option: Opt) -> Iterator[Opt]:
    if option.head in _OBJECTS:
        yield option
    elif str(option.head).startswith("memory-backend-"):
        kept = {key: option.props[key] for key in ("id", "size")}
        yield Opt(name="-object", head="memory-backend-ram", props=kept)


def _device(option: Opt) -> Iterator[Opt]:
    if not _of_node(option):
        yield _without(option, _NETWORK)


def _cpu(option: Opt) -> Iterator[Opt]:
    # The throw-away guest has no KVM, and a state does not depend on the CPU.
    yield replace(option, head="max") if option.head == "host" else option


_CHANGED: Final[Mapping[str, Callable[[Opt], Iterator[Opt]]]] = {
    "-audiodev": lambda option: iter([Opt(name="-audiodev", head="none", props={"id": option.props["id"]})]),
    "-chardev": lambda option: iter([Opt(name="-chardev", head="null", props={"id": option.props["id"]})]),
    "-cpu": _cpu,
    "-device": _device,
    "-machine": lambda option: iter([_without(option, frozenset({"accel"}))]),
    "-object": _object,
}
