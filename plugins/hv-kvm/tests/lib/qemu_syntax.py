"""Command lines as QEMU reads them, written from its documentation: it shares nothing with the code that writes them.

(docs/interop and util/keyval.c: ``key=value``, a doubled comma is a comma.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

# How QEMU reads the argument of each option that the driver uses. The driver must not use any other option.
NONE: Final = {"-nodefaults", "-no-user-config", "-S", "-no-reboot"}
PLAIN: Final = {"-uuid", "-qmp", "-pidfile", "-serial", "-kernel", "-initrd", "-append", "-display", "-k"}
KEYS: Final = {
    "-name": None,
    "-machine": "type",
    "-cpu": "model",
    "-smp": "cpus",
    "-m": None,
    "-rtc": None,
    "-boot": None,
    "-chardev": "backend",
    "-add-fd": None,
    "-blockdev": None,
    "-device": "driver",
    "-netdev": "type",
    "-audiodev": "driver",
    "-global": None,
    "-tpmdev": "type",
    "-vnc": "where",
    "-object": "type",
    "-spice": None,
    "-sandbox": "enable",
}
Read = list[tuple[str, dict[str, str] | str | None]]


def split(text: str) -> list[str]:
    """The parts between single commas. A doubled comma means a comma inside a part."""
    parts = [""]
    at = 0
    while at < len(text):
        if text[at] != ",":
            parts[-1] += text[at]
        elif text[at : at + 2] == ",,":
            parts[-1] += ","
            at += 1
        else:
            parts.append("")
        at += 1
    return parts


def read_keys(text: str, implied: str | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, part in enumerate(split(text)):
        key, equals, value = part.partition("=")
        if number == 0 and implied is not None and (not equals or implied == "model"):
            key, value = (
                implied,
                part,
            )  # the model of a CPU is all before the first comma (qom/object.c, parse_features)
        else:
            assert equals, f"{part!r} in {text!r} has no value"
        assert key not in found, f"{key} twice in {text!r}"
        found[key] = value
    return found


def read(argv: Sequence[str]) -> Read:
    """The options of a command line, each as QEMU understands it."""
    found: Read = []
    rest = iter(argv[1:])
    for option in rest:
        if option in NONE:
            found.append((option, None))
        elif option in PLAIN:
            found.append((option, next(rest)))
        else:
            found.append((option, read_keys(next(rest), KEYS[option])))
    return found


def only(options: Read, name: str) -> Any:
    (found,) = [value for option, value in options if option == name]
    return found


def devices(options: Read, driver: str) -> list[dict[str, str]]:
    return [value for option, value in options if isinstance(value, dict) and value.get("driver") == driver]
