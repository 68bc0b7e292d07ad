"""One thing of the node that is shown inside: ``SOURCE:TARGET``, read-only, or with ``:rw``. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import hvcore.plugin as hv

__all__ = ["Bind", "bind"]

_EXPECTS = "'SOURCE:TARGET' or 'SOURCE:TARGET:rw', absolute paths without a colon"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """``source`` on the node, ``target`` inside."""

    source: str
    target: str
    writable: bool

    @staticmethod
    def of(text: str) -> Bind:
        """From its written form, which has been checked."""
        source, target, *mode = text.split(":")
        return Bind(source=source, target=target, writable=mode == ["rw"])


def bind() -> hv.ParamType:
    """The type of a parameter. Its clean value is the text: a list of texts is what files and forms can hold."""
    path = hv.file()

    def parse(value: object) -> str:
        if not isinstance(value, str):
            raise hv.Reject("is not a text", f"give {_EXPECTS}")
        parts = value.split(":")
        if len(parts) not in (2, 3) or parts[2:] not in ([], ["rw"], ["ro"]):
            raise hv.Reject("is not of the right form", f"give {_EXPECTS}")
        for part in parts[:2]:
            path.parse(part)
        return value.removesuffix(":ro")

    one = r"(?:/(?!\.{1,2}(?:[/:]|$))[^/:\u0000]+)+"
    schema = {"type": "string", "maxLength": 8194, "pattern": f"^{one}:(?:/|{one})(?::r[ow])?$"}
    return hv.ParamType("bind", _EXPECTS, parse, schema)
