"""The subject of the good driver, and so of each broken one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hvcore.plugin as hv
from hvcore.testing import Factory, Subject


def made(**params: Any) -> Factory:
    def make(name: str, directory: Path) -> hv.Instance:
        return hv.Instance(name=name, driver="good", params=params)

    return make


SUBJECT = Subject(
    driver="good",
    instance=made(),
    stubborn=made(deaf=True),
    ending=made(quick=True),
    failing=made(broken=True),
    refused=(made(quick=True, deaf=True),),
)
