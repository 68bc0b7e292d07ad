"""What the tests of operations share: an instance of the fake driver with disks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fixture_types import Web

from hvcore import Disk, DriverHandle, Instance


@pytest.fixture
def up(fake: DriverHandle, web: Web) -> Callable[..., Instance]:
    """Starts web1 with these disks, and parameters by keywords."""

    def start(*disks: Disk, **params: Any) -> Instance:
        made = replace(web(**params), disks=disks)
        fake.start(made)
        return made

    return start
