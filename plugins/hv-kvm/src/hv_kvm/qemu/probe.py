"""The features of a QEMU binary, from one short session with it, stored in the cache.

The session is QEMU's own introspection on ``-machine none``: no guest, no memory, no devices, no configuration file.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from hv_kvm.machine.facts import FACTS_FORMAT, Facts, resolve_machine
from hv_kvm.machine.spec import KvmSpec
from hv_kvm.qemu import facts_cache
from hv_kvm.qemu.trial import Trial, TrialError
from hv_kvm.qmp import QmpClient, QmpClosedError, QmpError, QmpTimeoutError, adopt
from hv_kvm.qmp import introspect as ask
from hvcore.plugin import Host

__all__ = ["ProbeError", "asked", "facts_of", "missing_module", "pin", "probe"]

T = TypeVar("T")

# A probe takes about 0.1 s; the rest is for a loaded host and a cold disk.
_DEADLINE_S: Final = 10.0
_MODULE_DEADLINE_S: Final = 5.0

_UNREACHABLE: Final[Mapping[str, str]] = {
    # Port 1 of the node itself: refused at once. An empty configuration: no monitors to ask.
    **{name: f"url={name}://127.0.0.1:1/x" for name in ("http", "https", "ftp", "ftps")},
    "rbd": "pool=x,image=x,conf=/dev/null",
    "gluster": "volume=x,path=x,server.0.type=unix,server.0.path=/dev/null",
}
# QEMU 5.2: "Unknown driver" after "Failed to open module", 7.2: "Unknown driver", 10 and 11: "failed to open module".
_MISSING: Final = re.compile("unknown (?:driver|protocol)|module|shared object", re.IGNORECASE)

# Cache files that this process has read: to read one again would cost a millisecond of every start.
_known: dict[str, Facts] = {}


class ProbeError(TrialError):
    """The binary is not a usable QEMU; ``reason`` says what the binary did instead of answering."""


def probe(binary: str, *, cache_dir: str | None, deadline_s: float = _DEADLINE_S) -> Facts:
    """The features of the QEMU at the path ``binary``, from ``cache_dir`` if they are there, else from a session with it.

    With ``cache_dir`` None nothing is stored. A stored answer is valid until the file, QEMU's modules, the kernel or the
    access to /dev/kvm changes. Raises ProbeError when there is no such program, or when the program does not answer
    like QEMU within ``deadline_s``. The program has then been killed.
    """
    deadline = time.monotonic() + deadline_s
    key = _key(binary)
    if cache_dir is not None:
        with contextlib.suppress(ValueError):
            if repr(key) not in _known:
                _known[repr(key)] = Facts.from_json(facts_cache.load(cache_dir, "facts", key))
            return _known[repr(key)]
    facts = _ask_binary(binary, deadline, deadline_s)
    # If the binary was replaced meanwhile, either of the two may have answered.
    if cache_dir is not None and _key(binary) == key:
        facts_cache.store(cache_dir, "facts", key, facts.to_json())
    return facts


def _key(binary: str) -> list[Any]:
    try:
        if not os.path.isfile(binary):
            os.stat(binary)
            raise ProbeError(binary=binary, reason="is not a file", todo="name an installed qemu-system binary")
        return [*facts_cache.binary_key(binary), FACTS_FORMAT, os.geteuid()]
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else str(error)
        todo = "install it (Debian: qemu-system-x86) or name another"
        raise ProbeError(binary=binary, reason=reason, todo=todo) from None


def _ask_binary(binary: str, deadline: float, deadline_s: float) -> Facts:
    return asked(binary, ("-machine", "none"), lambda client: _facts(client, deadline), deadline_s=deadline_s)


def asked(binary: str, machine: Sequence[str], ask: Callable[[QmpClient], T], *, deadline_s: float = _DEADLINE_S) -> T:
    """What ``ask`` learns from the monitor of this QEMU with that machine, which never runs and has no devices.

    Raises ProbeError if the program does not answer like QEMU within ``deadline_s``. The program has ended then.
    """
    deadline = time.monotonic() + deadline_s
    try:
        ours, theirs = socket.socketpair()
    except OSError as error:  # no descriptor is left
        reason = f"cannot be probed, got {os.strerror(error.errno or 0).lower()}"
        raise ProbeError(binary=binary, reason=reason, todo="raise the limit of open files (ulimit -n)") from error
    with ours:
        with theirs:
            argv = [
                os.path.abspath(binary),
                *(*machine, "-nodefaults", "-no-user-config", "-display", "none", "-S"),
                *("-chardev", f"socket,id=probe,fd={theirs.fileno()}", "-qmp", "chardev:probe"),
            ]
            try:
                trial = Trial(argv, pass_fds=(theirs.fileno(),))
            except TrialError as error:
                raise _error(binary, error.reason) from error
        with trial:
            try:
                with adopt(ours, subject=binary, deadline_s=deadline - time.monotonic()) as client:
                    return ask(client)
            except QmpTimeoutError as error:
                message = trial.last_line()
                what = f"no answer to {error.command} within {deadline_s:.1f} s" + (f': "{message}"' if message else "")
                raise _error(binary, what) from error
            except QmpClosedError as error:
                status = trial.wait(deadline)
                what = "closed its monitor and did not exit" if status is None else trial.ending(status)
                reason = what if what.startswith("cannot be executed") else f"{what} instead of answering"
                raise _error(binary, reason) from error
            except QmpError as error:
                raise _error(binary, f"did not answer like qemu ({error})") from error


def _error(binary: str, reason: str) -> ProbeError:
    return ProbeError(binary=binary, reason=reason, todo="check that it is a qemu-system binary: run it with --version")


def _facts(client: QmpClient, deadline: float) -> Facts:
    def left_s() -> float:
        return deadline - time.monotonic()

    monitor_commands = ask.query_commands(client, deadline_s=left_s())
    block_drivers, aio = ask.query_block_layer(client, deadline_s=left_s())
    kvm_present, kvm_enabled = ask.query_kvm(client, commands=monitor_commands, deadline_s=left_s())
    return Facts(
        version=client.greeting.version,
        package=client.greeting.package,
        commands=monitor_commands,
        options=ask.query_command_line_options(client, deadline_s=left_s()),
        machines=ask.query_machines(client, deadline_s=left_s()),
        types=ask.qom_list_types(client, deadline_s=left_s()),
        cpu_models=ask.query_cpu_definitions(client, deadline_s=left_s()),
        cpu_features=ask.query_cpu_features(client, deadline_s=left_s()),
        block_drivers=block_drivers,
        aio=aio,
        kvm_present=kvm_present,
        kvm_enabled=kvm_enabled,
    )


def facts_of(spec: KvmSpec, host: Host) -> Facts:
    """The features of the spec's QEMU, with the node's cache. Raises `ProbeError`."""
    return probe(spec.qemu, cache_dir=str(host.cache_dir))


def pin(spec: KvmSpec, facts: Facts) -> KvmSpec:
    """The spec with its machine type resolved: an alias means a different machine after QEMU is upgraded."""
    return replace(spec, machine=resolve_machine(facts, spec.machine) or spec.machine)


def missing_module(binary: str, driver: str) -> str | None:
    """QEMU's message when a module of its network block driver ``driver`` is not installed; None if it is, or unknown.

    Introspection lists the drivers that were compiled, with or without their modules, which are often in a separate
    package. So this is a trial: a QEMU without a machine opens a disk that cannot exist, and its message shows whether
    the driver or the disk is missing.
    """
    if driver not in _UNREACHABLE:
        return None
    argv = [
        *(binary, "-machine", "none", "-nodefaults", "-no-user-config", "-display", "none", "-S"),
        *("-blockdev", f"driver={driver},node-name=x,{_UNREACHABLE[driver]}"),
    ]
    try:
        with Trial(argv) as trial:
            status = trial.wait(time.monotonic() + _MODULE_DEADLINE_S)
            message = trial.last_line()
    except TrialError:
        return None  # the probe reports it
    return message.rpartition(": ")[2] or message if status and _MISSING.search(message) else None
