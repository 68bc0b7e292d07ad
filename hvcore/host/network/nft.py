"""The program nft: one process for each transaction, which the kernel takes as a whole or not at all.

The kernel counts the transactions of a network namespace. Reading that number needs no process.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
from typing import Any, Final

from hvcore.errors import NodeError
from hvcore.host.network.netlink import Netlink, attributes
from hvcore.host.programs import program_key

__all__ = ["NFT_PACKAGE", "NftError", "apply", "find_nft", "generation", "list_table", "nft_key"]

NFT_PACKAGE: Final = "nftables"

_DEADLINE_S: Final = 10.0
_SBIN: Final = "/usr/local/sbin:/usr/sbin:/sbin"  # not on the PATH of ordinary users
_MISSING: Final = "No such file or directory"

# linux/netlink.h, linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h
_NETLINK_NETFILTER: Final = 12
_GET_GENERATION: Final = 10 << 8 | 16
_NO_FAMILY: Final = bytes(4)
_GENERATION: Final = 1


class NftError(NodeError):
    """nft refused. ``missing`` says that the kernel lacks something that the text names."""

    def __init__(self, text: str, *, missing: bool = False) -> None:
        super().__init__(text)
        self.missing = missing


def find_nft() -> str | None:
    """The path of nft; None if it is not installed."""
    return shutil.which("nft", path=f"{os.environ.get('PATH', os.defpath)}:{_SBIN}")


def nft_key() -> list[object]:
    """Changes when the program does. Raises `NftError` if it is not installed."""
    return program_key(_program())


def apply(text: str, *, inside: tuple[str, ...] = ()) -> None:
    """Make the changes of that text, all or none. ``inside`` is a command that runs nft elsewhere. Raises `NftError`.

    The text is in nft's own language: its JSON of 2022 has no word for a set that rules add to.
    """
    _run((*inside, _program(), "-f", "-"), text)


def list_table(family: str, table: str, *, inside: tuple[str, ...] = ()) -> Any:
    """The table as nft's JSON document; None if there is no such table. Raises `NftError`."""
    try:
        output = _run((*inside, _program(), "-j", "list", "table", family, table), "")
    except NftError as error:
        if error.missing:
            return None
        raise
    try:
        return json.loads(output)
    except ValueError as error:
        raise NftError(f"nft: wrote no JSON for table {family} {table}; run nft list table {family} {table}") from error


def generation() -> int | None:
    """How often the rules of this network namespace have been changed, by anyone; None if the kernel does not say.

    Each transaction of any program adds one. Elements that packets add, or that expire, do not count.
    """
    try:
        with Netlink(protocol=_NETLINK_NETFILTER) as netlink:
            (answer,) = netlink.ask(_GET_GENERATION, _NO_FAMILY)
        (number,) = struct.unpack(">I", attributes(answer[len(_NO_FAMILY) :])[_GENERATION])
    except (OSError, ValueError, KeyError, struct.error):
        return None
    return int(number)


def _program() -> str:
    path = find_nft()
    if path is None:
        raise NftError(f"nft: not found on this node; install {NFT_PACKAGE}")
    return path


def _run(argv: tuple[str, ...], text: str) -> bytes:
    try:
        done = subprocess.run(
            argv,
            input=text.encode(),
            capture_output=True,
            timeout=_DEADLINE_S,
            check=False,
            cwd="/",
            env={"PATH": f"{os.defpath}:{_SBIN}", "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired as error:
        raise NftError(f"nft: did not end within {_DEADLINE_S:g} s; run nft list tables to see why") from error
    except OSError as error:
        raise NftError(f"{argv[0]}: cannot be run, got {error.strerror}; install {NFT_PACKAGE} again") from error
    if done.returncode == 0:
        return done.stdout
    errors = [line.strip() for line in done.stderr.decode("utf-8", "backslashreplace").splitlines() if "rror" in line]
    what = (errors or [f"exit code {done.returncode}"])[0][:300]
    raise NftError(f"nft: the kernel refused, got {what!r}; run nft list tables to see why", missing=_MISSING in what)
