"""The driver's instances for the conformance kit: those that fail, ignore a powerdown, or are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hvcore.plugin as hv
from hvcore.testing import Factory, Subject

__all__ = ["subject"]


def _with(**fields: Any) -> Factory:
    params: dict[str, Any] = {key: fields.pop(key) for key in ("fail_at", "ignores_powerdown") if key in fields}

    def make(name: str, _directory: Path) -> hv.Instance:
        return hv.Instance(name=name, driver="fake", params=params, **fields)

    return make


def subject() -> Subject:
    """The driver under test."""
    return Subject(
        driver="fake",
        instance=_with(),
        stubborn=_with(ignores_powerdown=True),
        failing=_with(fail_at="start"),
        refused=(_with(ignores_powerdown=True, vcpus=65),),
    )
