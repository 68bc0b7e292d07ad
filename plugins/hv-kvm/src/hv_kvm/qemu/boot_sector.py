"""A guest of 512 bytes that needs no download: a boot sector for QEMU's ``pc`` and ``q35`` machines.

It prints a message on the first serial port, then sleeps until the power button is pressed and powers off.
Under software emulation it is up about 0.1 s after exec and uses less than 2 % of a core while idle, so tests,
benchmarks and demonstrations can start real guests by the hundred::

    write_disk("web1.img", boot_sector("hello"))

From a shell: ``python3 -m hv_kvm.qemu.boot_sector web1.img "hello"``.

The machine code is a table of rows that a person can check against any x86 manual; `assemble` resolves the
labels. The ports are those that SeaBIOS sets up: the ACPI power management block is at 0x600 on both machines
(SeaBIOS, src/fw/pciinit.c).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

__all__ = ["DISK_BYTES", "SECTOR_BYTES", "ExitAfterBoot", "Row", "assemble", "boot_sector", "write_disk"]

SECTOR_BYTES: Final = 512
"""Length of a boot sector, its two signature bytes included."""

DISK_BYTES: Final = 1 << 20
"""Length of a disk image to put it on. SeaBIOS reads by cylinder, head and sector: on virtio and AHCI a disk of
less than one cylinder (16 heads of 63 sectors, 504 KiB) does not boot."""

_LOAD_ADDRESS: Final = 0x7C00
_SIGNATURE: Final = b"\x55\xaa"

Row = tuple[str, str, str]
"""One instruction: ``(label or "", code, assembly)``.

``code`` is hexadecimal bytes; ``>name`` is the 8-bit distance to a label, ``@name`` its 16-bit address.
"""

ExitAfterBoot = Literal["poweroff", "reboot", "hlt-dead"]
"""What a guest does after its message, instead of waiting for the power button."""

_SETUP: Final[tuple[Row, ...]] = (
    ("", "fa", "cli"),
    ("", "31 c0", "xor ax, ax"),
    ("", "8e d8", "mov ds, ax"),
    ("", "8e d0", "mov ss, ax"),
    ("", "bc 00 7c", "mov sp, 0x7c00"),
    ("", "fc", "cld"),
    ("", "fb", "sti"),
)

_PRINT: Final[tuple[Row, ...]] = (
    ("print", "be @message", "mov si, message"),
    ("next", "ac", "lodsb"),
    ("", "84 c0", "test al, al"),
    ("", "74 >printed", "jz printed"),
    ("", "88 c4", "mov ah, al"),
    ("", "ba fd 03", "mov dx, 0x3fd    ; line status"),
    ("full", "ec", "in al, dx"),
    ("", "a8 20", "test al, 0x20    ; transmitter empty?"),
    ("", "74 >full", "jz full"),
    ("", "ba f8 03", "mov dx, 0x3f8    ; data"),
    ("", "88 e0", "mov al, ah"),
    ("", "ee", "out dx, al"),
    ("", "eb >next", "jmp next"),
)

# hlt returns at the BIOS's 18.2 Hz timer tick, so a press is seen within 55 ms.
_SLEEP: Final[tuple[Row, ...]] = (("sleep", "f4", "hlt"),)

# QEMU notes a press only while the button is enabled (hw/acpi/core.c, acpi_pm1_evt_power_down); SeaBIOS need not
# have done that.
_ENABLE_BUTTON: Final[tuple[Row, ...]] = (
    ("", "ba 02 06", "mov dx, 0x602    ; PM1 enable"),
    ("", "b8 00 01", "mov ax, 0x100    ; power button"),
    ("", "ef", "out dx, ax"),
)

_CHECK_BUTTON: Final[tuple[Row, ...]] = (
    ("", "ba 00 06", "mov dx, 0x600    ; PM1 status"),
    ("", "ed", "in ax, dx"),
    ("", "f6 c4 01", "test ah, 1       ; bit 8: power button"),
    ("", "74 >again", "jz again"),
    ("", "b8 00 01", "mov ax, 0x100"),
    ("", "ef", "out dx, ax       ; write 1 to clear"),
)

# As the ACPI code of SeaBIOS's tables does for a driver that lets a PCI device go (QEMU, docs/specs/acpi_pci_hotplug.rst).
_LET_GO: Final[tuple[Row, ...]] = (
    ("", "66 31 c0", "xor eax, eax"),
    ("", "ba 10 ae", "mov dx, 0xae10   ; bus"),
    ("", "66 ef", "out dx, eax"),
    ("", "ba 04 ae", "mov dx, 0xae04   ; slots to let go"),
    ("", "66 ed", "in eax, dx"),
    ("", "66 85 c0", "test eax, eax"),
    ("", "74 >kept", "jz kept"),
    ("", "ba 08 ae", "mov dx, 0xae08   ; eject"),
    ("", "66 ef", "out dx, eax"),
    ("kept", "90", "nop"),
)

_POWER_OFF: Final[tuple[Row, ...]] = (
    ("", "ba 04 06", "mov dx, 0x604    ; PM1 control"),
    ("", "b8 01 20", "mov ax, 0x2001   ; sleep type S5, sleep enable"),
    ("", "ef", "out dx, ax"),
)

_REBOOT: Final[tuple[Row, ...]] = (
    ("", "ba f9 0c", "mov dx, 0xcf9    ; reset control"),
    ("", "b0 06", "mov al, 6        ; hard reset"),
    ("", "ee", "out dx, al"),
)

_DEAD: Final[tuple[Row, ...]] = (
    ("", "fa", "cli"),
    ("dead", "f4", "hlt"),
    ("", "eb >dead", "jmp dead"),
)


def boot_sector(
    message: str = "hvcore test guest\r\n",
    *,
    flood: bool = False,
    ignore_power_button: bool = False,
    lets_go: bool = False,
    exit_after_boot: ExitAfterBoot | None = None,
) -> bytes:
    """The 512 bytes of a guest that prints ``message`` on COM1 at each boot and then waits for the power button.

    ``flood`` prints the message for ever, as fast as the reader takes it, and still powers off at the button.
    ``ignore_power_button`` leaves an ACPI power-down unanswered, as a hung guest does. ``lets_go`` lets PCI devices
    of a pc machine go when QEMU asks for them. ``exit_after_boot`` powers
    off, resets the machine, or stops the processor for good once the message is out.

    Raises ValueError for a message that is empty, holds a NUL or does not fit (about 400 bytes of UTF-8).
    """
    text = message.encode()
    if not text or b"\0" in text:
        raise ValueError(f"message: must hold text without NUL, got {message!r}")
    rows = [*_SETUP, *([] if ignore_power_button else _ENABLE_BUTTON), *_PRINT]
    if exit_after_boot is not None:
        rows += _leaving(exit_after_boot)
    else:
        button = () if ignore_power_button else (*_CHECK_BUTTON, *_POWER_OFF)
        rows += _waiting((*(_LET_GO if lets_go else ()), *button), flood=flood)
    return assemble(rows, data={"message": text + b"\0"})


def _leaving(how: ExitAfterBoot) -> Iterable[Row]:
    leave = {"poweroff": _POWER_OFF, "reboot": _REBOOT, "hlt-dead": ()}[how]
    return (("printed", "90", "nop"), *leave, *_DEAD)


def _waiting(check: Iterable[Row], *, flood: bool) -> Iterable[Row]:
    pause = () if flood else _SLEEP
    again = "eb >print" if flood else "eb >sleep"
    return (("printed", "90", "nop"), *pause, *check, ("again", again, "jmp print or sleep"))


def write_disk(path: str, sector: bytes) -> None:
    """Write a disk image of `DISK_BYTES` that boots ``sector``; sparse, and replaces what is at ``path``."""
    with open(path, "wb") as disk:
        disk.write(sector)
        disk.truncate(DISK_BYTES)


def assemble(rows: Iterable[Row], data: dict[str, bytes] | None = None) -> bytes:
    """A boot sector of 512 bytes from instruction rows, with ``data`` blocks after the code under their names.

    Raises ValueError when it does not fit or a label is unknown or too far for a short jump.
    """
    code = bytearray()
    labels: dict[str, int] = {}
    jumps: list[tuple[int, str]] = []
    addresses: list[tuple[int, str]] = []
    for label, text, _meaning in rows:
        if label:
            labels[label] = len(code)
        for token in text.split():
            if token[0] in ">@":
                (jumps if token[0] == ">" else addresses).append((len(code), token[1:]))
                code += bytes(1 if token[0] == ">" else 2)
            else:
                code += bytes.fromhex(token)
    for name, block in (data or {}).items():
        labels[name] = len(code)
        code += block
    if len(code) > SECTOR_BYTES - len(_SIGNATURE):
        spare = SECTOR_BYTES - len(_SIGNATURE)
        raise ValueError(f"boot sector: {len(code)} bytes of code and text do not fit; use at most {spare}")
    try:
        for at, name in jumps:
            code[at : at + 1] = (labels[name] - at - 1).to_bytes(1, "little", signed=True)
        for at, name in addresses:
            code[at : at + 2] = (_LOAD_ADDRESS + labels[name]).to_bytes(2, "little")
    except (KeyError, OverflowError) as error:
        raise ValueError(f"boot sector: no label within reach: {error}") from None
    return bytes(code).ljust(SECTOR_BYTES - len(_SIGNATURE), b"\0") + _SIGNATURE


if __name__ == "__main__":
    import sys

    if len(sys.argv) != 3:
        sys.exit("usage: python3 -m hv_kvm.qemu.boot_sector FILE MESSAGE")
    write_disk(sys.argv[1], boot_sector(f"{sys.argv[2]}\r\n"))
