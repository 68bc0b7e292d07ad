"""``hv modify``, with the fake driver."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fixture_types import Hv


def test_a_key_of_a_device_changes(hv: Hv, web1: Path) -> None:
    assert hv("modify", "web1", "disk0", "cache=none").stdout == "web1: disk0 changed\n"
    again = hv("modify", "web1", "disk0", "cache=none", "--json")
    document = json.loads(again.stdout)
    assert (document["op"], document["device"], document["changed"]) == ("modify", "disk0", False)
    assert hv("modify", "web1", "disk0", "cache=none").stdout == "web1: disk0 is so already\n"
    assert json.loads(hv("info", "web1", "--json").stdout)["disks"][0]["cache"] == "none"
    assert hv("modify", "web1", "disk0", "cache=").exit_code == 0
    assert json.loads(hv("info", "web1", "--json").stdout)["disks"][0]["cache"] is None


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("web1", "disk0"), 2, "missing argument 'KEY=VALUE...'"),
        (("web1", "disk0", "cache"), 2, "must be KEY=VALUE, such as bandwidth_to_guest=80M, got 'cache'"),
        (("web1", "disk0", "=none"), 2, "must be KEY=VALUE"),
        (("web1", "disk0", "cache=none", "cache=default"), 2, "has cache twice"),
        (("web1", "disk0", "cash=none"), 2, "cash: unknown key; did you mean 'cache'?"),
        (("web1", "disk0", "cache=odd"), 2, "cache: is not a known choice, got 'odd'"),
        (("web1", "disk0", "read_only=true"), 1, "read_only cannot change while it runs (cache can)"),
        (("web1", "disk9", "cache=none"), 2, "has no device 'disk9'; it has disk0"),
        (("web9", "disk0", "cache=none"), 4, "no such instance"),
        (("web1", "disk0", "cache=none", "--save"), 2, "has no definition to save the device in"),
    ],
)
def test_what_cannot_be_changed_is_said(hv: Hv, web1: Path, words: tuple[str, ...], code: int, said: str) -> None:
    done = hv("modify", *words)
    assert (done.exit_code, said in done.stderr) == (code, True), done.stderr
    assert json.loads(hv("info", "web1", "--json").stdout)["disks"][0]["cache"] is None


@pytest.mark.parametrize(
    ("words", "found"),
    [("hv modify web1 ", "disk0"), ("hv modify web1 disk0 ", "cache="), ("hv modify web1 disk9 ", None)],
)
def test_a_shell_completes_devices_and_the_keys_that_can_change(
    run_dir: Path, web1: Path, words: str, found: str | None
) -> None:
    asked = {"_HV_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()))}
    program = Path(sys.executable).parent / "hv"
    environment = {**os.environ, **asked, "HVCORE_RUN_DIR": str(run_dir)}
    done = subprocess.run([program], env=environment, capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.split() == ([] if found is None else [f"plain,{found}"])
