"""How the nodes of a migration are named, and what another node answers by ssh."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from fixture_types import Web

from hvcore import InputError, Node, NodeError, OperationError, SshPeer
from hvcore.api.peers import peer_of


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program named ssh that writes down its arguments; ``answers`` beside it is what it prints for each line."""
    (tmp_path / "ssh").write_text(
        f"#!/bin/sh\nprintf '%s\\n' \"$@\" > {tmp_path}/words\nread line; cat {tmp_path}/answers\n"
    )
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


@pytest.mark.parametrize(
    ("url", "host", "remote", "port"),
    [
        ("ssh://b", "b", "hv migrate-node", None),
        ("ssh://root@node-2.example.org", "root@node-2.example.org", "hv migrate-node", None),
        ("ssh://b/run/a b", "b", "hv --run-dir '/run/a b' migrate-node", None),
        ("ssh://root@[fe80::1]:2222/run/x", "root@fe80::1", "hv --run-dir /run/x migrate-node", "2222"),
    ],
)
def test_hv_runs_there_with_the_run_directory_of_the_name(
    ssh: Path, url: str, host: str, remote: str, port: str | None
) -> None:
    (ssh / "answers").write_text("{}\n")
    peer = SshPeer(url)
    assert peer.ask({}) == {}
    peer.close()
    words = (ssh / "words").read_text().splitlines()
    assert words[-3:] == ["--", host, remote]
    assert ("-p" in words) is (port is not None)
    assert port is None or words[words.index("-p") + 1] == port


@pytest.mark.parametrize(
    "url",
    [
        "",
        "b",
        "ssh://",
        "ssh://-oProxyCommand=x",
        "ssh://a b",
        "ssh://b;reboot",
        "http://b",
        "local:run",
        "local:",
        "ssh://b:x",
    ],
)
def test_another_name_is_refused(node: Node, url: str) -> None:
    with pytest.raises(InputError, match=r"give ssh://HOST|is not an absolute path"):
        peer_of(url, node)


def test_the_run_directory_of_the_instance_is_no_target(node: Node) -> None:
    with pytest.raises(InputError, match="is the run directory of the instance"):
        peer_of(f"local:{node.run_dir}", node)


@pytest.mark.parametrize("text", ["Welcome to node2", "[]", '"x"', "1"])
def test_what_is_not_an_answer_is_shown(ssh: Path, text: str) -> None:
    (ssh / "answers").write_text(f"{text}\n")
    peer = SshPeer("ssh://b")
    with pytest.raises(NodeError, match=r"^ssh://b: does not answer as hv, got "):
        peer.ask({})
    peer.close()


def test_an_error_of_the_other_node_has_its_name(ssh: Path, node: Node, web: Web) -> None:
    (ssh / "answers").write_text(json.dumps({"error": "BusyError", "message": "web1: busy"}) + "\n")
    peer = SshPeer("ssh://b")
    with pytest.raises(OperationError, match=r"^ssh://b: web1: busy"):
        peer.ask({})
    peer.close()
    node.start(web())
    with pytest.raises(OperationError, match=r"^ssh://b: web1: busy"):
        node.migrations.migrate("web1", "ssh://b")
    assert node.migrations.of("web1") == ()
