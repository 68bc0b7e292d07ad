"""The installed passt: what it can do, and whether this node has what it needs."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from hvcore.errors import NodeError
from hvcore.host.files import private_dir, read_regular, write_atomic
from hvcore.host.programs import is_program, program_key
from hvcore.model.names import sha256_hex
from hvcore.model.network.passt_arguments import NodeNetwork, asked_options

__all__ = ["RESOLV_CONF", "default_routes", "node_network", "passt_options", "why_not_passt"]

RESOLV_CONF: Final = "/etc/resolv.conf"
_UPSTREAM: Final = "/run/systemd/resolve/resolv.conf"
_MAX_USERS: Final = "/proc/sys/user/max_user_namespaces"
_HELP_S: Final = 10.0
_RTF_UP, _RTF_REJECT = 0x1, 0x200  # linux/route.h
_CACHE_BYTES: Final = 64 * 1024


def why_not_passt(binary: str) -> str | None:
    """Why this node cannot run passt, in words that complete "passt ..."; None if it can."""
    if not is_program(binary):
        return "is not installed on this node"
    if not default_routes():
        return "needs a default route, which this node does not have"
    with suppress(OSError, ValueError):
        if int(Path(_MAX_USERS).read_text(encoding="ascii")) == 0:
            return "needs a user namespace, and this node allows none (user.max_user_namespaces is 0)"
    return None


def default_routes() -> frozenset[int]:
    """The families, 4 and 6, for which this node has a default route."""
    ipv4, ipv6 = _rows("/proc/net/route")[1:], _rows("/proc/net/ipv6_route")
    found = {4: any(map(_is_default_ipv4, ipv4)), 6: any(map(_is_default_ipv6, ipv6))}
    return frozenset(family for family, has_route in found.items() if has_route)


def node_network() -> NodeNetwork:
    """The families with a default route, and the name servers."""
    return NodeNetwork(
        families=default_routes(), name_servers=_name_servers(RESOLV_CONF), upstream=_name_servers(_UPSTREAM)
    )


def passt_options(binary: str, cache_dir: Path) -> frozenset[str]:
    """The long options of that passt, from a cache until the program changes; empty if it does not run."""
    try:
        key = program_key(binary)
    except OSError:
        return frozenset()
    file = cache_dir / f"passt-{sha256_hex(os.fsencode(binary))[:32]}.json"
    with suppress(OSError, ValueError, RecursionError):
        kept: Any = json.loads(read_regular(file, limit=_CACHE_BYTES))
        if isinstance(kept, dict) and kept.get("key") == key:
            return frozenset(map(str, kept["options"]))
    options = asked_options(_help(binary))
    if options and cache_dir.parent.is_dir():
        with suppress(OSError, NodeError):  # the cache only saves time
            write_atomic(private_dir(cache_dir) / file.name, json.dumps({"key": key, "options": [*options]}).encode())
    return options


def _help(binary: str) -> str:
    # The release of 2023 exits with 1, and writes to stderr.
    try:
        done = subprocess.run(
            [binary, "--help"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_HELP_S,
            check=False,
            env={"PATH": os.defpath},
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace")


def _rows(path: str) -> list[list[str]]:
    try:
        return [line.split() for line in Path(path).read_text(encoding="ascii").splitlines()]
    except OSError:  # a kernel without the family
        return []


def _is_default_ipv4(row: list[str]) -> bool:
    return row[1] == row[7] == "00000000" and int(row[3], 16) & (_RTF_UP | _RTF_REJECT) == _RTF_UP


def _is_default_ipv6(row: list[str]) -> bool:
    return row[0] == "0" * 32 and row[1] == "00" and int(row[8], 16) & (_RTF_UP | _RTF_REJECT) == _RTF_UP


def _name_servers(path: str) -> tuple[str, ...]:
    found = []
    with suppress(OSError):
        for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
            words = line.split()
            if words[:1] == ["nameserver"] and len(words) > 1:
                with suppress(ValueError):
                    found.append(str(ipaddress.ip_address(words[1].partition("%")[0])))
    return tuple(found)
