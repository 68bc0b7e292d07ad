"""A chroot instance moves to another run directory: it is stopped here, and started there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from images import Build, Leftovers

import hvcore

pytestmark = pytest.mark.live


@pytest.fixture
def here(node: hvcore.Node, tmp_path: Path) -> hvcore.Node:
    """The node, with what a reboot keeps in the directory of the test."""
    return hvcore.Node(node.run_dir, state_dir=tmp_path / "state")


@pytest.fixture
def other(here: hvcore.Node, other_node: hvcore.Node) -> hvcore.Node:
    return here.beside(other_node.run_dir)


def test_an_instance_is_stopped_here_and_started_there(
    here: hvcore.Node, other: hvcore.Node, images: Any, web1: Build, leftovers: Leftovers
) -> None:
    image = images()
    here.driver("chroot").start(web1(image))
    outcome = here.migrations.migrate("web1", f"local:{other.run_dir}")
    assert outcome.moved, outcome
    assert here.instances() == []
    assert other.info("web1").state is hvcore.State.RUNNING
    assert other.stop("web1").stopped_by == "script"
    assert leftovers() == []


def test_an_instance_whose_start_fails_there_is_started_here_again(
    here: hvcore.Node, other: hvcore.Node, images: Any, web1: Build, leftovers: Leftovers
) -> None:
    marker = "/fails-once"
    script = f"""\
        #!/bin/sh
        if [ $1 = stop ]; then echo > {marker}; exit; fi
        [ -e {marker} ] && rm {marker} && exit 3
        sleep 1000 &
    """
    image = images(script)
    here.driver("chroot").start(web1(image))
    outcome = here.migrations.migrate("web1", f"local:{other.run_dir}")
    assert not outcome.moved
    assert "exited with 3" in " ".join(outcome.notes)
    assert other.instances() == []
    assert here.info("web1").state is hvcore.State.RUNNING
    assert here.stop("web1").changed
    assert leftovers() == []
