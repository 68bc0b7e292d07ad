"""``hv balloon``, ``memory``, ``vcpus`` and ``pin``."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

Hv = Callable[..., Result]


@pytest.fixture
def up(hv: Hv, instance_file: Callable[..., str]) -> Hv:
    """``hv``, with a running instance web1 of 128 MiB."""
    assert hv("start", instance_file()).exit_code == 0
    return hv


def test_a_balloon_is_set_and_set_again(up: Hv) -> None:
    first = up("balloon", "web1", "64")
    assert (first.exit_code, first.stdout.partition(" (")[0]) == (0, "web1: 64 MiB")
    assert up("balloon", "web1", "64MiB").stdout == "web1: already has 64 MiB\n"
    document = json.loads(up("balloon", "web1", "100", "--json").stdout)
    assert (document["op"], document["asked"], document["before"], document["after"]) == ("balloon", 100, 64, 100)


def test_sizes_have_units(up: Hv) -> None:
    assert up("memory", "web1", "2G").stdout.startswith("web1: 2048 MiB (")
    assert up("vcpus", "web1", "3").stdout.startswith("web1: 3 vcpus (")
    info = json.loads(up("info", "web1", "--json").stdout)
    assert (info["memory_mib"], info["vcpus"]) == (2048, 3)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("balloon", "web1", "much"), 2, "must be a size such as 512 (MiB) or 2G, got 'much'"),
        (("balloon", "web1", "4G"), 2, "at most its memory of 128 MiB, got 4096"),
        (("balloon", "web1", "0"), 2, "must be a whole number from 1 to 67108864, got 0"),
        (("balloon", "web9", "64"), 4, "web9"),
        (("vcpus", "web1", "0"), 2, "0 is not in the range"),
        (("pin", "web1"), 2, "no CPUs; give a list such as 0-3"),
        (("pin", "web1", "a-b"), 2, "got 'a-b'"),
        (("pin", "web1", "--vcpu", "7", "0"), 2, "has no vCPU 7"),
        (("setvcpus", "web1", "2"), 2, "use 'hv vcpus NAME COUNT'"),
    ],
)
def test_what_is_wrong_is_said(up: Hv, words: tuple[str, ...], code: int, message: str) -> None:
    result = up(*words)
    assert result.exit_code == code, result.output
    assert message in result.stderr


def test_pins(up: Hv) -> None:
    assert up("pin", "web1", "0-1", "--vcpu", "0", "1", "--emulator", "0").exit_code == 0
    done: Any = json.loads(up("pin", "web1", "0-1", "--json").stdout)
    assert (done["op"], done["changed"]) == ("pin", False)
