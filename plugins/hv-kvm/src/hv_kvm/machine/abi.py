"""What the guest can see of its machine, from the options and the words of its CPU: the same on each node. Pure.

Each property of an option has one class: see `hvcore.plugin.AbiClass`. Tried for each by running QEMU with that one
property changed and migrating the guest: what QEMU refuses is ``wire``, what it accepts and the guest sees is ``seen``.
A property that is not known here is ``wire``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from hv_kvm.machine.option import Opt
from hvcore.plugin import Abi, AbiClass, AbiEntry

__all__ = ["abi_of"]

_HOST: Final = frozenset(
    {
        *("-S", "-add-fd", "-audiodev", "-blockdev", "-chardev", "-display", "-initrd", "-k", "-kernel", "-name"),
        *("-netdev", "-no-reboot", "-no-user-config", "-pidfile", "-qmp", "-sandbox", "-serial", "-spice", "-tpmdev"),
        "-vnc",
    }
)
"""Options for what is on the node's side, and for files whose content the guest has read."""

_BACK_ENDS: Final = frozenset(
    {
        *("audiodev", "chardev", "drive", "fd", "iothread", "memdev", "netdev", "rng", "tpmdev"),
        *("hostbus", "hostaddr", "vendorid", "productid"),  # of a USB device of the node
        *("max-bytes", "period"),  # how much the node gives
    }
)
"""Properties of a device that only the node sees."""

_SEEN: Final = frozenset(
    {
        *("mac", "serial", "wwn", "vendor", "product", "ver", "model"),
        *("logical_block_size", "physical_block_size", "min_io_size", "opt_io_size", "discard_granularity"),
        *("queue-size", "rx_queue_size", "tx_queue_size", "write-cache", "discard", "write-zeroes", "requested-size"),
        *("packed", "deflate-on-oom", "free-page-reporting", "index", "guest-cid"),
        *("csum", "gso", "guest_csum", "guest_tso4", "guest_tso6", "guest_ecn", "guest_ufo", "guest_announce"),
        *("host_tso4", "host_tso6", "host_ecn", "host_ufo", "mrg_rxbuf", "status", "ctrl_vq", "ctrl_rx", "ctrl_vlan"),
        *("ctrl_rx_extra", "ctrl_mac_addr", "ctrl_guest_offloads", "event_idx", "indirect_desc"),
    }
)
"""Properties of a device with which QEMU loads a state that was saved without them."""

_COPIED: Final = "extra"
"""The plugin whose options are words of the operator."""

_OF_INSTANCE: Final = " of the instance"

_REMOVABLE: Final = ("-cd", "floppy")
"""Devices whose medium comes and goes."""

_PLACE: Final = ("bus", "addr", "unit", "channel", "scsi-id", "lun", "port")
_OPTIONS: Final[Mapping[str, tuple[AbiClass, str]]] = {
    "-machine": (AbiClass.WIRE, "machine"),
    "-m": (AbiClass.WIRE, "memory"),
    "-smp": (AbiClass.SEEN, "processors"),
    "-numa": (AbiClass.SEEN, "numa"),
    "-cpu": (AbiClass.SEEN, "cpu"),
    "-uuid": (AbiClass.SEEN, "uuid"),
    "-rtc": (AbiClass.SEEN, "clock"),
    "-smbios": (AbiClass.SEEN, "smbios"),
    "-boot": (AbiClass.BOOT, "boot"),
    "-append": (AbiClass.BOOT, "kernel"),
    "-nodefaults": (AbiClass.WIRE, "machine"),
}
_OF_THE_NODE: Final = {"-machine": {"accel", "pcspk-audiodev"}, "-rtc": {"clock", "driftfix"}}


def abi_of(
    options: Iterable[tuple[str, Opt]],
    *,
    sizes: Mapping[str, int] | None = None,
    words: Mapping[str, int] | None = None,
) -> Abi:
    """The facts in the options, each with the plugin that gave it, such as ``render`` gives them.

    ``sizes`` are the bytes of disks and firmware by the names of their block nodes, ``words`` the CPU's feature words.
    """
    return Abi.of(_entries(list(options), sizes or {}, words or {}))


def _entries(options: list[tuple[str, Opt]], sizes: Mapping[str, int], words: Mapping[str, int]) -> Iterator[AbiEntry]:
    copied = [option for plugin, option in options if plugin == _COPIED]
    rendered = [option for plugin, option in options if plugin != _COPIED]
    places = Counter[str]()
    for option in rendered:
        yield from _of_device(option, sizes, places) if option.name == "-device" else _of(option, sizes)
    serials = [option for option in rendered if option.name == "-serial"]
    for number, option in enumerate(serials):
        yield _entry(AbiClass.WIRE, f"serial port {number}", "present", True, option)
    if copied:
        text = " ".join(option.name for option in copied)
        yield AbiEntry(kind=AbiClass.WIRE, what="option", key=_COPIED, value=text, params=copied[0].params)
    for register, word in words.items():
        if word:  # a newer QEMU knows more registers, which are 0 for this CPU
            yield AbiEntry(kind=AbiClass.SEEN, what="cpu", key=register, value=f"{word:#010x}", params=("cpu_type",))


def _of(option: Opt, sizes: Mapping[str, int]) -> Iterator[AbiEntry]:
    if option.name == "-object":
        yield from _of_memory(option)
    elif option.name == "-global":
        yield from _of_global(option)
    elif option.name in _OPTIONS:
        yield from _of_option(option, sizes)
    elif option.name not in _HOST:
        yield _entry(AbiClass.WIRE, "option", option.name, " ".join(option.argv[1:]), option)


def _of_device(option: Opt, sizes: Mapping[str, int], places: Counter[str]) -> Iterator[AbiEntry]:
    """The device at its place, which is what a saved state names it by.

    Those that have only a bus, such as on USB, or nothing, are numbered: QEMU places them in that order.
    """
    props = {key: value for key, value in option.props.items() if value is not None}
    place = " ".join(_text(props[key]) for key in _PLACE if key in props)
    what = f"device at {place}" if place else "device without an address"
    places[what] += 1
    if places[what] > 1 or not place:
        what = f"{what}, {places[what]}"
    yield _entry(AbiClass.WIRE, what, "driver", option.head, option)
    drive = None if str(option.head).endswith(_REMOVABLE) else props.get("drive")
    if drive in sizes:
        yield _entry(AbiClass.SEEN, what, "size", sizes[str(drive)], option)
    for key, value in props.items():
        if key not in _PLACE and key not in _BACK_ENDS:
            yield _entry(_class_of(key), what, key, value, option)


def _class_of(key: str) -> AbiClass:
    special = {"id": AbiClass.NAME, "bootindex": AbiClass.BOOT}
    return special.get(key, AbiClass.SEEN if key in _SEEN else AbiClass.WIRE)


def _of_memory(option: Opt) -> Iterator[AbiEntry]:
    if str(option.head).startswith("memory-backend-"):
        name = f"memory {option.props['id']}"
        yield _entry(AbiClass.WIRE, name, "size", option.props["size"], option)


def _of_global(option: Opt) -> Iterator[AbiEntry]:
    props = option.props
    if "driver" not in props:
        yield _entry(AbiClass.WIRE, "option", option.name, " ".join(option.argv[1:]), option)
        return
    key = str(props["property"])
    kind = AbiClass.BOOT if key.startswith("bootindex") else AbiClass.WIRE
    yield _entry(kind, f"each {props['driver']}", key, props["value"], option)


def _of_option(option: Opt, sizes: Mapping[str, int]) -> Iterator[AbiEntry]:
    kind, what = _OPTIONS[option.name]
    if option.head is None and not option.props:
        yield _entry(kind, what, option.name.removeprefix("-"), True, option)
    if option.head is not None:
        yield _entry(kind, what, "type" if option.name in ("-machine", "-cpu") else "value", option.head, option)
    for key, value in option.props.items():
        if value is None or key in _OF_THE_NODE.get(option.name, ()):
            continue
        yield _entry(kind, what, key, value, option)
        if value in sizes:
            yield _entry(kind, what, f"{key} size", sizes[str(value)], option)


def _entry(kind: AbiClass, what: str, key: str, value: Any, option: Opt) -> AbiEntry:
    # Size, number of processors and uuid are fields of the instance, not parameters.
    field = option.why.removesuffix(_OF_INSTANCE)
    params = option.params if field == option.why else (field, *option.params)
    return AbiEntry(kind=kind, what=what, key=key, value=_text(value), params=params)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)
