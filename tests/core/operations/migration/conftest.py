"""An instance of the fake driver, on the first of two nodes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixture_types import Web
from migrating_pair import Pair, pair_in


@pytest.fixture
def pair(run_dir: Path) -> Pair:
    return pair_in(run_dir)


@pytest.fixture
def started(pair: Pair, web: Web) -> Callable[..., Pair]:
    """``started(fail_at="land")``: the pair, with an instance of these parameters that runs on the source."""

    def start(*, paused: bool = False, **params: Any) -> Pair:
        pair.source.start(web(**params), paused=paused)
        return pair

    return start
