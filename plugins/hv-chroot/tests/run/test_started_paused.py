"""An instance that is started paused runs nothing until it is resumed, not even its start script."""

from __future__ import annotations

from typing import Any

import pytest
from images import Build, Leftovers

import hvcore

pytestmark = pytest.mark.live
ISOLATED = pytest.mark.parametrize(
    "params", [{}, {"user_namespace": "off"}, {"isolation": "none"}], ids=["users", "no users", "none"]
)
SCRIPT = """\
    #!/bin/sh
    echo $1 >> /calls
    [ $1 = stop ] && exit 0
    [ -c /dev/null ] || : > /dev/null
    sleep 1000 &
"""


@ISOLATED
def test_nothing_runs_before_the_resume(
    node: hvcore.Node, images: Any, web1: Build, leftovers: Leftovers, params: dict[str, Any]
) -> None:
    tree = images.tree(SCRIPT)
    outcome = node.driver("chroot").start(web1(tree, **params), paused=True)
    assert outcome.state is hvcore.State.PAUSED
    info = node.info("web1")
    assert (info.state, info.reason, info.pid) == (hvcore.State.PAUSED, "has not run yet", None)
    assert not node.pause("web1").changed
    assert not (tree / "calls").exists()
    with pytest.raises(hvcore.OperationError, match="has not run yet; resume it first"):
        node.console("web1")
    assert node.resume("web1").state is hvcore.State.RUNNING
    assert (tree / "calls").read_text() == "start\n"
    assert node.info("web1").state is hvcore.State.RUNNING
    node.stop("web1")
    assert leftovers() == []


@pytest.mark.parametrize("force", [False, True])
def test_a_stop_before_that_runs_no_script(
    node: hvcore.Node, images: Any, web1: Build, leftovers: Leftovers, *, force: bool
) -> None:
    tree = images.tree(SCRIPT)
    node.driver("chroot").start(web1(tree), paused=True)
    assert node.stop("web1", force=force).changed
    assert not (tree / "calls").exists()
    assert leftovers() == []


def test_a_resume_that_fails_leaves_it_paused_and_can_be_tried_again(
    node: hvcore.Node, images: Any, web1: Build, leftovers: Leftovers
) -> None:
    tree = images.tree(SCRIPT)
    node.driver("chroot").start(web1(tree), paused=True)
    (tree / "ganeti-chroot").chmod(0o644)
    with pytest.raises(hvcore.OperationError, match="is not executable"):
        node.resume("web1")
    assert node.info("web1").state is hvcore.State.PAUSED
    (tree / "ganeti-chroot").chmod(0o755)
    assert node.resume("web1").state is hvcore.State.RUNNING
    node.stop("web1", force=True)
    assert leftovers() == []


def test_its_disk_is_not_free_meanwhile(node: hvcore.Node, images: Any, web1: Build) -> None:
    image = images(SCRIPT)
    node.driver("chroot").start(web1(image), paused=True)
    with pytest.raises(hvcore.DiskInUseError, match="web1"):
        node.driver("chroot").start(web1(image, name="web2"))
    node.stop("web1")
