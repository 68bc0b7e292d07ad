"""``hv migrate`` and ``hv migrate-node``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from hvcore.model.migration.entry import Request, Side
from hvcore.model.migration.messages import MigrationRequest

Hv = Callable[..., Result]


@pytest.fixture
def up(hv: Hv, instance_file: Callable[..., str]) -> Hv:
    """``hv``, with a running instance web1."""
    assert hv("start", instance_file()).exit_code == 0
    return hv


@pytest.fixture
def there(tmp_path: Path) -> str:
    return f"local:{tmp_path}/there"


def look(name: str = "web1", job: str = "") -> str:
    return json.dumps(MigrationRequest(request=Request.LOOK, side=Side.SOURCE, name=name, job=job).to_json()) + "\n"


def test_an_instance_moves_and_both_nodes_say_so(up: Hv, there: str) -> None:
    moved = up("migrate", "web1", "--to", there)
    assert (moved.exit_code, moved.stdout.partition(" (")[0]) == (0, f"web1: moved to {there}")
    assert "1-" in (status := up("migrate", "web1", "--status").stdout)
    assert "source  gone   " in status
    other = ("--run-dir", there.removeprefix("local:"))
    assert "target  closed  " in up(*other, "migrate", "web1", "--status").stdout
    assert json.loads(up(*other, "list", "--json").stdout)[0]["state"] == "running"
    (entry,) = map(json.loads, up("migrate", "web1", "--status", "--json").stdout.splitlines())
    assert (entry["side"], entry["state"], entry["peer"], entry["ended"]) == (
        "source",
        "gone",
        there,
        "moved to the target",
    )


def test_progress_and_result_are_lines_of_json(up: Hv, there: str) -> None:
    *progress, result = map(json.loads, up("migrate", "web1", "--to", there, "--json").stdout.splitlines())
    assert all(one["progress"]["name"] == "web1" for one in progress)
    assert progress[-1]["progress"]["step"].startswith("source: ")
    assert (result["moved"], result["to"], result["why"]) == (True, there, "")


def test_one_that_stays_has_its_reason_and_exit_code_1(hv: Hv, instance_file: Callable[..., str], there: str) -> None:
    hv("start", instance_file(params='fail_at = "land"'))
    stays = hv("migrate", "web1", "--to", there)
    assert stays.exit_code == 1
    assert stays.stdout.startswith("web1: stays here, web1: fails on purpose where it lands")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("web1",), 2, "give --to NODE, or one of --status, --cancel, --resume, --forget, --fenced BOOT"),
        (("web1", "--to", "node2"), 2, "'node2': is not a node; give ssh://HOST"),
        (("web2", "--to", "local:/nowhere/there"), 4, "web2: no such instance"),
        (("web1", "--to", "local:/a", "--bandwidth", "fast"), 2, "must be bytes per second such as 100M"),
        (("web1", "--to", "local:/a", "--downtime", "0"), 2, "must be a time such as 300ms or 2s"),
        (("web1", "--bandwidth", "1M"), 4, "this node does not send it"),
        (("web1", "--fenced", "3"), 4, "no migration of it is open here"),
        (("web1", "--fenced", "0"), 2, "0 is not in the range"),
    ],
)
def test_mistakes_are_named(up: Hv, words: tuple[str, ...], code: int, message: str) -> None:
    result = up("migrate", *words)
    assert (result.exit_code, message in result.stderr) == (code, True), result.stderr


def test_without_a_migration_there_is_nothing_to_end_and_nothing_to_forget(up: Hv) -> None:
    assert "no migration of it is open here" in up("migrate", "web1", "--resume").stdout
    assert "no migration of it is open here" in up("migrate", "web1", "--cancel").stdout
    for task in ("--status", "--forget"):
        assert up("migrate", "web1", task).stdout == "web1: this node knows no migration of it\n"


def test_a_node_answers_each_line(up: Hv) -> None:
    lines = up("migrate-node", stdin=look() + "nonsense\n" + look("web2") + "[]\n" + look(job="1-00000000")).stdout
    first, bad, absent, wrong, known = map(json.loads, lines.splitlines())
    assert (first["name"], first["offer"]["driver"], first["entry"]) == ("web1", "fake", None)
    assert (bad["error"], absent["error"], wrong["error"]) == ("InputError", "NotFoundError", "DecodeError")
    assert (known["alive"], known["refusal"]) == (True, "")
