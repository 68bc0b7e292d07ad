"""Parameter types for things of the node: addresses, CPUs, files.

Only the form is checked here, so the answer is the same on every machine. ``ParamType.node_check`` names the check that the
node makes.
"""

from __future__ import annotations

import functools
import ipaddress
import re

from hvcore.params.param import PATTERN_END, NodeCheck, ParamType, Reject, wrong_type
from hvcore.params.types import line

__all__ = ["MAX_CPU_ID", "address", "address_or_path", "cpu_mask", "cpu_sets", "directory", "file", "file_or_url"]

MAX_CPU_ID = 8191
"""The highest CPU number a mask may name: the largest NR_CPUS of Linux is 8192 (arch/x86/Kconfig)."""

_CPU_LIST = "[0-9]{1,4}(?:-[0-9]{1,4})?(?:,[0-9]{1,4}(?:-[0-9]{1,4})?)*"

# linux/limits.h: PATH_MAX without its NUL, and NAME_MAX.
_PATH_BYTES, _COMPONENT_BYTES = 4095, 255
_PATH = rf"/|(?:/(?!\.{{1,2}}(?:/|{PATTERN_END}))[^/\u0000]+)+"
_PATH_SCHEMA = {"type": "string", "maxLength": _PATH_BYTES, "pattern": f"^(?:{_PATH}){PATTERN_END}"}

# net/core/dev.c, dev_valid_name(): not "." or "..", no "/", ":" or space, at most IFNAMSIZ - 1. ASCII only is ours.
_INTERFACE = r"(?!\.{1,2}\Z)(?![0-9.]+\Z)[A-Za-z0-9_.][A-Za-z0-9_.@+-]{0,14}"

# Only the form that is already clean; ipaddress decides about everything else and is ten times slower.
_IPV4 = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])(?:\.(?!\Z)|\Z)){4}")

# What ipaddress takes, for JSON Schema: RFC 3986, IPv4address and IPv6address.
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_V4, _H16 = rf"{_OCTET}(?:\.{_OCTET}){{3}}", "[0-9A-Fa-f]{1,4}"
_LAST32 = f"(?:{_H16}:{_H16}|{_V4})"
_V6 = "|".join(
    [
        f"(?:{_H16}:){{6}}{_LAST32}",
        f"::(?:{_H16}:){{5}}{_LAST32}",
        *(f"(?:(?:{_H16}:){{0,{count}}}{_H16})?::(?:{_H16}:){{{4 - count}}}{_LAST32}" for count in range(5)),
        f"(?:(?:{_H16}:){{0,5}}{_H16})?::{_H16}",
        f"(?:(?:{_H16}:){{0,6}}{_H16})?::",
    ]
)


def _address_schema(*, interface: bool) -> dict[str, object]:
    # No "format": most validators ignore ipv4 and ipv6, and the others differ.
    name = (
        rf"|(?!\.{{1,2}}{PATTERN_END})(?![0-9.]+{PATTERN_END})[A-Za-z0-9_.][A-Za-z0-9_.@+-]{{0,14}}"
        if interface
        else ""
    )
    return {"type": "string", "maxLength": _ADDRESS_BYTES, "pattern": f"^(?:{_V4}|{_V6}{name}){PATTERN_END}"}


_ADDRESS_BYTES, _MASK_BYTES, _URL_BYTES = 64, 4096, 2048


def address(*, interface: bool = False) -> ParamType:
    """An IPv4 or IPv6 address as digits, clean in its shortest form; with ``interface`` also the name of one.

    No host name: its address could change between check and use. No zone (``%eth0``): zones differ between nodes.
    """
    expects = "an IPv4 or IPv6 address" + (" or a network interface" if interface else "")

    def parse(value: object) -> str:
        return _address(value, interface=interface)

    return ParamType("address", expects, parse, _address_schema(interface=interface))


def address_or_path(*, interface: bool = False) -> ParamType:
    """Like `address`, or the absolute path of a Unix socket that need not exist yet."""
    expects = f"an IPv4 or IPv6 address{', a network interface' if interface else ''} or an absolute path"

    def parse(value: object) -> str:
        if isinstance(value, str) and value.startswith("/"):
            return _path(value)
        return _address(value, interface=interface)

    schema = {"anyOf": [_PATH_SCHEMA, _address_schema(interface=interface)]}
    return ParamType("address or path", expects, parse, schema)


def _address(given: object, *, interface: bool) -> str:
    if type(given) is str and _IPV4.fullmatch(given):
        return given
    value = line(given, _ADDRESS_BYTES)
    if "%" in value:
        raise Reject("has a zone, which differs between nodes", "give the address without '%' and the zone")
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        pass
    if interface and re.fullmatch(_INTERFACE, value):
        return value
    if value[:1] == "[":
        raise Reject("is not an address", "give an IPv6 address without brackets")
    raise Reject("is neither an address nor an interface name" if interface else "is not an address")


def cpu_mask(*, multi: bool = False) -> ParamType:
    """CPUs as numbers and ranges (``0-3,5``) or ``all``; with ``multi`` also one such list per vCPU, joined by ``:``.

    The clean value is sorted and merged; `cpu_sets` gives it as numbers.
    """
    expects = "CPU numbers and ranges such as '0-3,5', or 'all'" + (
        ", or one such list for each vCPU with ':' between them" if multi else ""
    )
    one = f"(?:all|{_CPU_LIST})"

    def parse(value: object) -> str:
        if isinstance(value, int) and not isinstance(value, bool):
            raise wrong_type(value, "a text", "write the CPU number in quotes")
        mask = line(value, _MASK_BYTES)
        if ":" not in mask:
            return _cpu_list(mask)
        if not multi:
            raise Reject("has more than one list")
        return ":".join(map(_cpu_list, mask.split(":")))

    pattern = f"^{one}(?::{one})*{PATTERN_END}" if multi else f"^{one}{PATTERN_END}"
    return ParamType("cpu mask", expects, parse, {"type": "string", "maxLength": _MASK_BYTES, "pattern": pattern})


def cpu_sets(mask: str) -> tuple[frozenset[int] | None, ...]:
    """A clean `cpu_mask` as numbers, one set per ``:`` part in order; None means ``all``."""
    return tuple(
        None if part == "all" else frozenset(cpu for low, high in _ranges(part) for cpu in range(low, high + 1))
        for part in mask.split(":")
    )


@functools.lru_cache(maxsize=256)  # the instances of a node share few masks, and this is the slowest type to read
def _cpu_list(part: str) -> str:
    if part == "all":
        return part
    merged: list[tuple[int, int]] = []
    for low, high in sorted(_ranges(part)):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return ",".join([str(low) if low == high else f"{low}-{high}" for low, high in merged])


def _ranges(part: str) -> list[tuple[int, int]]:
    """Each item as ``(first, last)``, in the order written."""
    if re.fullmatch(_CPU_LIST, part) is None:
        raise Reject("has a part that is neither a CPU number nor a range")
    ranges = []
    for item in part.split(","):
        first, _, last = item.partition("-")
        low, high = int(first), int(last or first)
        if low > high:
            raise Reject("has a range that ends before it begins")
        if high > MAX_CPU_ID:
            raise Reject(f"has a CPU number above the maximum of {MAX_CPU_ID}")
        ranges.append((low, high))
    return ranges


def file() -> ParamType:
    """The absolute, normalised path of a file that exists on the node.

    Any byte but NUL may be in it, a newline and a comma too; bytes that are not UTF-8 come as surrogate escapes.
    """
    return ParamType("file", "the absolute path of a file", _path, _PATH_SCHEMA, NodeCheck.FILE)


def directory() -> ParamType:
    """The absolute, normalised path of a directory that exists on the node; otherwise as `file`."""
    return ParamType("directory", "the absolute path of a directory", _path, _PATH_SCHEMA, NodeCheck.DIRECTORY)


def file_or_url() -> ParamType:
    """Like `file`, or an http, https, ftp or ftps URL in ASCII, without user and password: argv is readable for all."""
    url = r"(?:https?|ftps?)://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:[/?][!-~]*)?"
    matches = re.compile(url).fullmatch

    def parse(value: object) -> str:
        if isinstance(value, str) and re.match("[A-Za-z][A-Za-z0-9+.-]*://", value):
            clean = line(value, _URL_BYTES)
            if "@" in re.split("[/?#]", clean.partition("://")[2], maxsplit=1)[0]:
                what = "has a user or a password in it, which every process could read"
                raise Reject(what, "give the URL without them")
            if matches(clean) is None:
                raise Reject("is not an http, https, ftp or ftps URL")
            return clean
        return _path(value)

    schema = {"anyOf": [_PATH_SCHEMA, {"type": "string", "maxLength": _URL_BYTES, "pattern": f"^{url}{PATTERN_END}"}]}
    expects = "the absolute path of a file, or an http, https, ftp or ftps URL"
    return ParamType("file or url", expects, parse, schema, NodeCheck.FILE)


def _path(value: object) -> str:
    if not isinstance(value, str):
        raise wrong_type(value, "a path")
    if not value.startswith("/"):
        raise Reject("is not an absolute path" if value else "is empty")
    if "\x00" in value:
        raise Reject("has a NUL in it, which a path cannot contain")
    if value != "/" and ("//" in value or "/." in value or value[-1] == "/"):
        _normalised(value)
    if len(value) > _COMPONENT_BYTES or not value.isascii():
        _short_enough(value)
    return value if type(value) is str else str.__str__(value)


def _short_enough(value: str) -> None:
    try:
        raw = value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise Reject("has a surrogate in it that is not an escaped byte") from None
    if len(raw) > _PATH_BYTES:
        raise Reject(f"is longer than {_PATH_BYTES} bytes")
    if any(len(part) > _COMPONENT_BYTES for part in raw.split(b"/")):
        raise Reject(f"has a component that is longer than {_COMPONENT_BYTES} bytes")


def _normalised(value: str) -> None:
    """Refuse a path that is not in normal form, with the normal form as the hint."""
    clean: list[str] = []
    parts = [part for part in value.split("/") if part not in ("", ".")]
    for part in parts:
        if part != "..":
            clean.append(part)
        elif clean:
            clean.pop()
    normal = "/" + "/".join(clean)
    if normal == value:
        return
    # After a symbolic link, ".." is not the directory before it: hence "if that is".
    if ".." in parts:
        raise Reject("has '..' in it", f"give {_shown(normal)} if that is what is meant")
    raise Reject("is not a normalised path", f"give {_shown(normal)}")


def _shown(path: str) -> str:
    return repr(path) if len(path) <= 80 else "it without '//', '.', '..' and a trailing '/'"
