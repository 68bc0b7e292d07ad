"""Declaring a broken driver: `breaks` names the check that fails, and its message."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kit_good import PARAMS, NoteKind, check
from kit_subject import SUBJECT

import hvcore.plugin as hv
from hvcore.testing import Subject


@dataclass(frozen=True, kw_only=True)
class Broken:
    """One broken driver to install. ``files`` are other files of its distribution, by path."""

    check: str
    message: str
    target: str
    requires: str = "hvcore>=0.1,<0.2"
    subject: Subject = SUBJECT
    files: Mapping[str, str] = field(default_factory=dict)


BROKEN: dict[str, Broken] = {}


def breaks(check: str, message: str, **more: Any) -> Callable[[type], type]:
    """The class fails that check, with a message that matches this regular expression."""

    def declare(driver: type) -> type:
        target = more.pop("target", f"{driver.__module__}:{driver.__qualname__}")
        assert check not in BROKEN
        BROKEN[check] = Broken(check=check, message=message, target=target, **more)
        return driver

    return declare


def plugins(
    *params: hv.Param, rule: Any = check, ended: Any = None, kind: type[NoteKind] = NoteKind
) -> tuple[tuple[str, object], ...]:
    """The plugins of the good driver with more parameters, another rule, or another kind of note."""

    class Plugin:
        @hv.hookimpl
        def params(self) -> hv.ParamGroup:
            return hv.ParamGroup("good", *PARAMS, *params)

        @hv.hookimpl
        def resource_kinds(self) -> list[NoteKind]:
            return [kind()]

        if rule is not None:

            @hv.hookimpl
            def check(self, instance: hv.Instance, params: hv.Params) -> Any:
                return rule(instance, params)

        if ended is not None:

            @hv.hookimpl
            def after_stop(self, instance: hv.Instance) -> None:
                ended(instance)

    return (("good", Plugin()),)


def waste(seconds: float) -> None:
    """Wait this long."""
    threading.Event().wait(seconds)


def burn(seconds: float) -> None:
    """Use this much CPU time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
