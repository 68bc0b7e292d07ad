"""A separate node for every test that starts guests, and the proof that it leaves nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from corpus import Corpus
from empty_network import empty_network
from moved import Side
from world import World, make_world, own_descriptors_and_children, tear_down

from hv_kvm.machine.facts import Facts
from hvcore.plugins.loader import load


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden-update", action="store_true", help="Write the golden files again, for a review.")


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    return Corpus(load("kvm"))


@pytest.fixture(scope="session")
def recorded() -> dict[str, Facts]:
    """The features of the recorded QEMUs, by version (``7.2``), oldest first; made by ``python -m hv_kvm.qemu.record_facts``."""
    data = Path(__file__).with_name("data")
    found = {path.stem.removeprefix("facts-"): path for path in data.glob("facts-*.json")}
    return {
        version: Facts.from_json(json.loads(found[version].read_text(encoding="utf-8")))
        for version in sorted(found, key=lambda version: [int(part) for part in version.split(".")])
    }


@pytest.fixture
def world(tmp_path: Path, worlds: Callable[..., World]) -> World:
    """A node in the test's own directory."""
    return worlds(tmp_path)


@pytest.fixture
def worlds(tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Makes nodes: ``worlds(root, run_dir)``. All of them, and this process, are checked for leftovers at the end."""
    if shutil.which("qemu-system-x86_64") is None or shutil.which("bwrap") is None:
        pytest.skip("no qemu-system-x86_64 and bwrap on this machine: ./dev setup")
    os.chmod(tmp_path, 0o711)
    made: list[World] = []
    before = own_descriptors_and_children()

    def make(root: Path, run_dir: Path | None = None) -> World:
        made.append(make_world(root, run_dir))
        return made[-1]

    yield make
    for world in made:
        tear_down(world)
    after = own_descriptors_and_children()
    assert after[0] - before[0] == set(), "descriptors"
    assert after[1] - before[1] == set(), "children"


@pytest.fixture
def sides(tmp_path: Path, worlds: Callable[..., World]) -> Iterator[tuple[Side, Side]]:
    """The two nodes of a migration; the guest is ended on both."""
    found = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir(mode=0o711)
        found.append(Side(worlds(tmp_path / name)))
    yield found[0], found[1]
    for side in found:
        side.end()


@pytest.fixture
def own_net() -> Iterator[None]:
    """For root, a network in which a guest in mode user leaves no rule on this machine. Name it before ``world``."""
    if os.geteuid() != 0:
        yield
        return
    with empty_network():
        yield


@pytest.fixture
def root() -> None:
    """Skip for users other than root."""
    if os.geteuid() != 0:
        pytest.skip("needs root: sudo ./dev test")


@pytest.fixture
def loop(root: None, world: World) -> Callable[[str], str]:
    """Attaches a file as a loop device until the end of the test; skips where there are no loop devices."""

    def attach(path: str) -> str:
        done = subprocess.run(["losetup", "--find", "--show", path], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"no loop devices here: {done.stderr.strip()}")
        device = done.stdout.strip()
        world.undo.append(lambda: subprocess.run(["losetup", "--detach", device], check=False, capture_output=True))
        return device

    return attach
