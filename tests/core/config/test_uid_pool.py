"""The uids for confined guests can be set in node.toml. A mistake there keeps nobody from stopping a guest."""

from __future__ import annotations

from pathlib import Path

import pytest

import hvcore
from hvcore.host.environment import default_uid_pool


def node(tmp_path: Path, body: str, uid_pool: range | None = None) -> hvcore.Node:
    (tmp_path / "node.toml").write_text(body)
    (tmp_path / "node.toml").chmod(0o644)
    return hvcore.Node(tmp_path / "run", config_dir=tmp_path, uid_pool=uid_pool)


def pool_of(made: hvcore.Node) -> range:
    return made._context.host.uid_pool


def test_the_pool_of_the_node_is_used(tmp_path: Path) -> None:
    made = node(tmp_path, 'uid_pool = "40000-40099"\n[params.fake]\n')
    made.driver("fake").check(hvcore.Instance(name="web1", driver="fake"))
    assert pool_of(made) == range(40_000, 40_100)


def test_the_host_application_decides_before_the_file(tmp_path: Path) -> None:
    made = node(tmp_path, 'uid_pool = "40000-40099"', uid_pool=range(50_000, 50_010))
    assert pool_of(made) == range(50_000, 50_010)


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("40000", "is not a range of uids, got 40000"),
        ('"40000"', "is not a range of uids"),
        ('"40099-40000"', "has its last uid before its first"),
        ('"0-65535"', "is not within 1000 and 1900019711"),
        ('"1900000000-1999999999"', "is not within 1000 and 1900019711"),
        ('"65000-66000"', "has uid 65534, which the system uses"),
    ],
)
def test_a_pool_that_cannot_be_is_a_problem_of_each_check_and_stops_no_stop(
    tmp_path: Path, value: str, what: str
) -> None:
    made = node(tmp_path, f"uid_pool = {value}")
    with pytest.raises(hvcore.ParamsError, match=rf"node\.uid_pool \(.*\): {what}"):
        made.driver("fake").check(hvcore.Instance(name="web1", driver="fake"))
    assert made.instances() == []
    assert pool_of(made) == default_uid_pool()


def test_a_profile_has_no_pool(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "big.toml").write_text('uid_pool = "40000-40099"')
    (tmp_path / "profiles" / "big.toml").chmod(0o644)
    with pytest.raises(hvcore.ParamsError, match=r"uid_pool \(.*\): unknown key"):
        node(tmp_path, "").driver("fake").check(hvcore.Instance(name="web1", driver="fake", profile="big"))
