"""Whether KVM really runs guests on this node, from a trial guest.

A /dev/kvm that opens proves nothing, and neither does a guest that gets through its firmware. There are hosts (nested
ones, and kernels without hardware virtualisation) where KVM interprets kernel-mode code one instruction at a time. The
firmware then takes seconds instead of 0.1 s, and a real kernel never boots. So the trial guest does what kernels do:
SeaBIOS, a timer interrupt, paging, 64-bit mode, and 16 million turns of a loop. A processor needs about 10 ms for the
loop, an interpreter longer than any deadline.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any, Final

from hv_kvm.qemu import facts_cache
from hv_kvm.qemu.boot_sector import DISK_BYTES, Row, assemble
from hv_kvm.qemu.trial import StatusTakenError, Trial, TrialError
from hvcore.plugin import Host, dataclass

__all__ = ["KVM_DEADLINE_S", "Accel", "KvmVerdict", "accel_for", "guest_runs", "kvm_works"]

KVM_DEADLINE_S: Final = 3.0
"""Seconds that the trial guest gets. It takes 0.25 s under software emulation, and less on hardware that works."""

_FORMAT: Final = 1
_ANSWER: Final = 0x10
# isa-debug-exit ends QEMU with (value << 1) | 1 (hw/misc/debugexit.c).
_ANSWER_STATUS: Final = _ANSWER << 1 | 1

_TRIAL_GUEST: Final[tuple[Row, ...]] = (
    ("", "31 c0", "xor ax, ax"),
    ("", "8e d8", "mov ds, ax"),
    ("", "8e c0", "mov es, ax"),
    ("", "8e d0", "mov ss, ax"),
    ("", "bc 00 7c", "mov sp, 0x7c00"),
    ("", "fc", "cld"),
    ("", "fb", "sti"),
    ("", "f4", "hlt                  ; until the timer interrupts, 55 ms at most"),
    ("", "fa", "cli"),
    ("", "66 bf 00 10 00 00", "mov edi, 0x1000      ; page tables at 0x1000, 0x2000, 0x3000"),
    ("", "0f 22 df", "mov cr3, edi"),
    ("", "b9 00 0c", "mov cx, 0xc00"),
    ("", "66 31 c0", "xor eax, eax"),
    ("", "f3 66 ab", "rep stosd"),
    ("", "c7 06 00 10 03 20", "mov word [0x1000], 0x2003"),
    ("", "c7 06 00 20 03 30", "mov word [0x2000], 0x3003"),
    ("", "c7 06 00 30 83 00", "mov word [0x3000], 0x83   ; the first 2 MiB, where they are"),
    ("", "0f 20 e0", "mov eax, cr4"),
    ("", "0c 20", "or al, 0x20          ; PAE"),
    ("", "0f 22 e0", "mov cr4, eax"),
    ("", "66 b9 80 00 00 c0", "mov ecx, 0xc0000080  ; EFER"),
    ("", "0f 32", "rdmsr"),
    ("", "80 cc 01", "or ah, 1             ; long mode enable"),
    ("", "0f 30", "wrmsr"),
    ("", "0f 01 16 @gdt", "lgdt [gdt]           ; its null entry holds its own address"),
    ("", "0f 20 c0", "mov eax, cr0"),
    ("", "66 0d 01 00 00 80", "or eax, 0x80000001   ; paging, protection"),
    ("", "0f 22 c0", "mov cr0, eax"),
    ("", "ea @long 08 00", "jmp 8:long"),
    ("long", "b9 00 00 00 01", "mov ecx, 1 << 24     ; 64-bit code from here"),
    ("turn", "ff c9", "dec ecx"),
    ("", "75 >turn", "jnz turn"),
    ("", "66 ba 01 05", "mov dx, 0x501        ; isa-debug-exit"),
    ("", f"b0 {_ANSWER:02x}", "mov al, answer"),
    ("", "ee", "out dx, al"),
    ("end", "f4", "hlt"),
    ("", "eb >end", "jmp end"),
)

_GDT_ROWS: Final[tuple[Row, ...]] = (
    ("gdt", "0f 00 @gdt 00 00 00 00", "null entry, used as the table's own descriptor: limit 15, base gdt"),
    ("", "00 00 00 00 00 9a 20 00", "64-bit code segment"),
)


@dataclass(frozen=True, slots=True)
class Accel:
    """The accelerator, ``kvm`` or ``tcg``, and the reason for it."""

    name: str
    why: str


def accel_for(qemu: str, kvm: str, host: Host) -> Accel:
    """KVM if it is ``enabled``, or if it is ``auto`` and a trial guest really ran under it; else software emulation."""
    if kvm in {"enabled", "disabled"}:
        return Accel("kvm" if kvm == "enabled" else "tcg", f"kvm_flag is {kvm}")
    verdict = kvm_works(qemu, cache_dir=str(host.cache_dir))
    return Accel("kvm" if verdict.usable else "tcg", verdict.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class KvmVerdict:
    """Whether guests can use KVM on this node, and the reason, for people."""

    usable: bool
    reason: str


def kvm_works(binary: str, *, cache_dir: str | None = None, deadline_s: float = KVM_DEADLINE_S) -> KvmVerdict:
    """Whether a guest of the QEMU at ``binary`` really runs under KVM. Raises nothing.

    Remembered in ``cache_dir`` until the next boot of the host, or until the binary or the access to /dev/kvm changes;
    a guest that hung is tried again when ``deadline_s`` is longer. Costs up to ``deadline_s`` of one core when KVM is
    broken in that way.
    """
    closed = facts_cache.kvm_opens()
    if closed is not None:
        return KvmVerdict(usable=False, reason=f"cannot open /dev/kvm: {closed}")
    try:
        key = [*facts_cache.binary_key(binary), _boot_id(), _FORMAT, os.geteuid()]
    except (OSError, ValueError) as error:
        return KvmVerdict(usable=False, reason=f"{binary}: {error}")
    if cache_dir is not None:
        known = _from_cache(facts_cache.load(cache_dir, "kvm", key), deadline_s)
        if known is not None:
            return known
    try:
        verdict, hung = guest_runs(binary, accel="kvm", deadline_s=deadline_s)
    except TrialError as error:  # nothing was learned, so nothing is stored
        return KvmVerdict(usable=False, reason=str(error))
    if cache_dir is not None:
        facts_cache.store(cache_dir, "kvm", key, [verdict.usable, verdict.reason, deadline_s if hung else None])
    return verdict


def guest_runs(binary: str, *, accel: str, deadline_s: float) -> tuple[KvmVerdict, bool]:
    """The verdict on ``accel`` (``kvm`` or ``tcg``) from one trial, and whether the guest hung. Without the cache.

    Raises StatusTakenError when the exit status of the trial is unknown.
    """
    started = time.monotonic()
    boot = os.memfd_create("boot", os.MFD_CLOEXEC)
    try:
        os.write(boot, assemble((*_TRIAL_GUEST, *_GDT_ROWS)))
        os.ftruncate(boot, DISK_BYTES)
        trial = Trial(_argv(binary, accel, boot), pass_fds=(boot,))
    except StatusTakenError:
        raise
    except TrialError as error:
        return KvmVerdict(usable=False, reason=str(error)), False
    finally:
        os.close(boot)
    with trial:
        status = trial.wait(started + deadline_s)
        took_s = time.monotonic() - started
        broken = f"{accel.upper()} does not work here"
        if status is None:
            return KvmVerdict(usable=False, reason=f"{broken}: a test guest made no progress in {took_s:.1f} s"), True
        if status != _ANSWER_STATUS:
            return KvmVerdict(usable=False, reason=f"{broken}: qemu {trial.ending(status)}"), False
    return KvmVerdict(usable=True, reason=f"a test guest reached 64-bit mode in {took_s:.2f} s"), False


def _argv(binary: str, accel: str, boot: int) -> Sequence[str]:
    return [
        os.path.abspath(binary),
        *("-machine", f"pc,accel={accel}", "-m", "16", "-nodefaults", "-no-user-config", "-display", "none"),
        *("-no-reboot", "-device", "isa-debug-exit,iobase=0x501,iosize=1"),
        *("-add-fd", f"fd={boot},set=1"),
        *("-blockdev", "driver=raw,node-name=boot,file.driver=file,file.filename=/dev/fdset/1"),
        *("-device", "ide-hd,drive=boot"),
    ]


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def _from_cache(value: Any, deadline_s: float) -> KvmVerdict | None:
    match value:
        case [bool(usable), str(reason), float() | int() | None as hung_s]:
            if hung_s is not None and deadline_s > hung_s:
                return None
            return KvmVerdict(usable=usable, reason=reason)
    return None
