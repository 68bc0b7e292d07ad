"""Values from the node, a profile and the instance: which one wins, and where a problem is reported."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import hvcore
from hvcore.params.param import Param, ParamGroup
from hvcore.params.reference import json_schema
from hvcore.params.schema import Schema
from hvcore.params.types import boolean, integer, text

Write = Callable[[str, str], Path]


@pytest.fixture
def config(tmp_path: Path) -> Write:
    """Writes a file of the configuration directory."""

    def write(name: str, body: str) -> Path:
        path = tmp_path / "etc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body)
        path.chmod(0o644)
        return path

    return write


@pytest.fixture
def fake(tmp_path: Path) -> hvcore.DriverHandle:
    return hvcore.Node(tmp_path / "run", config_dir=tmp_path / "etc").driver("fake")


def web1(profile: str | None = None, **params: object) -> hvcore.Instance:
    return hvcore.Instance(name="web1", driver="fake", profile=profile, params=params)


def problems(fake: hvcore.DriverHandle, instance: hvcore.Instance) -> list[str]:
    with pytest.raises(hvcore.ParamsError) as caught:
        fake.check(instance)
    return [str(problem) for problem in caught.value.problems]


def test_the_higher_layer_wins_and_is_named(config: Write, fake: hvcore.DriverHandle) -> None:
    assert fake.check(web1()).layer("motd") == "default"
    config("node.toml", '[params.fake]\nmotd = "node"\nignores_powerdown = true\n[params.kvm]\nacpi = false\n')
    config("profiles/db.toml", '[params.fake]\nmotd = "profile"\n')
    seen = [fake.check(web1()), fake.check(web1("db")), fake.check(web1("db", motd="own"))]
    assert [params["motd"] for params in seen] == ["node", "profile", "own"]
    assert [params.layer("motd") for params in seen] == ["node", "profile db", "instance"]
    assert all(params.layer("ignores_powerdown") == "node" for params in seen)


def test_a_value_of_a_lower_layer_can_be_unset(config: Write, fake: hvcore.DriverHandle) -> None:
    config("node.toml", '[params.fake]\nmotd = "node"\nfail_at = "stop"\n')
    config("profiles/plain.toml", '[params.fake]\nunset = ["motd"]\n')
    params = fake.check(web1("plain"))
    assert (params["motd"], params.layer("motd"), params["fail_at"]) == ("hello", "default", "stop")
    params = fake.check(web1(unset=["fail_at"]))
    assert (params["motd"], params["fail_at"], params.layer("fail_at")) == ("node", None, "default")


@pytest.mark.parametrize(
    ("unset", "problem"),
    [
        ("motd", "params.unset: is a text, not a list; give a list of parameters"),
        (["modt"], "params.unset.modt: is not a parameter of this driver; did you mean motd?"),
        ([7], "params.unset[7]: is a whole number, not a name; give the name as a text"),
    ],
)
def test_an_impossible_unset_is_a_problem(unset: object, problem: str, fake: hvcore.DriverHandle) -> None:
    assert problems(fake, web1(unset=unset)) == [problem]


def test_set_and_unset_in_one_table_is_a_problem(fake: hvcore.DriverHandle) -> None:
    problem = "params.unset.motd: is also set here; do only one of the two"
    assert problems(fake, web1(unset=["motd"], motd="x")) == [problem]


def test_a_required_parameter_that_is_unset_is_missing() -> None:
    schema = Schema.compile([("me", ParamGroup("g", Param("root", text(), required=True, help="Root.")))])
    _, found = schema.problems({"unset": ["root"]}, below=(("node", {"root": "/dev/vda"}),))
    assert [problem.path for problem in found] == ["params.root"]


def test_unset_is_in_the_json_schema_and_not_a_possible_parameter_name() -> None:
    schema = Schema.compile([("me", ParamGroup("g", Param("acpi", boolean(), default=True, help="Acpi.")))])
    assert json_schema(schema, title="t")["properties"]["unset"]["items"]["enum"] == ["acpi"]
    with pytest.raises(hvcore.DriverLoadError, match=r"'unset'.*declared by me"):
        Schema.compile([("me", ParamGroup("g", Param("unset", integer(), help="Bad.")))])


def test_a_problem_names_the_layer_and_its_file(config: Write, fake: hvcore.DriverHandle) -> None:
    node = config("node.toml", '[params.fake]\nmotd = 7\nmodt = "x"\n')
    profile = config("profiles/db.toml", "[params.fake]\nignores_powerdown = 1\n[parms.fake]\n")
    *of_layers, own = problems(fake, web1("db", fail_at="never"))
    assert of_layers == [
        f"profile db.parms ({profile}): unknown key; write values below [params.DRIVER], such as [params.kvm]",
        f"node.params.motd ({node}): is a whole number, not a text, got 7; give one line of text of at most 80 bytes",
        f"node.params.modt ({node}): is not a parameter of this driver; did you mean motd?",
        f"profile db.params.ignores_powerdown ({profile}): is a whole number, not true or false, got 1; give true or false",
    ]
    assert own.startswith("params.fail_at: is not a known choice, got 'never'; give one of 'verify', 'acquire', ")


def test_a_warning_about_a_value_of_the_node_names_its_file(config: Write, fake: hvcore.DriverHandle) -> None:
    node = config("node.toml", "[params.fake]\nignores_powerdown = true\n")
    problem = "only a forced stop ends the guest soon"
    assert [str(warning) for warning in fake.warnings(web1())] == [
        f"params.ignores_powerdown (node, {node}): {problem}"
    ]
    assert [str(warning) for warning in fake.warnings(web1(ignores_powerdown=True))] == [
        f"params.ignores_powerdown: {problem}"
    ]


def test_a_missing_profile_is_a_problem_that_lists_the_existing_ones(
    config: Write, fake: hvcore.DriverHandle, tmp_path: Path
) -> None:
    config("profiles/db.toml", "")
    problem = f"profile: no such profile, got 'dbs'; choose one of db, or create {tmp_path}/etc/profiles/dbs.toml"
    assert problems(fake, web1("dbs")) == [problem]


@pytest.mark.parametrize("name", ["../../etc/shadow", "/etc/passwd", ".hidden", "", "a b"])
def test_a_profile_is_a_name_and_not_a_path(name: str) -> None:
    with pytest.raises(hvcore.ParamsError, match="profile"):
        web1(name)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("x = ", "is not TOML"),
        ("params = 3\n", "is a whole number, not a table"),
        ("params.fake = 3\n", "is a whole number, not a table"),
        ("#" * (1024 * 1024 + 1), "is larger than 1 MiB"),
    ],
)
def test_an_invalid_node_file_is_a_problem(body: str, what: str, config: Write, fake: hvcore.DriverHandle) -> None:
    path = config("node.toml", body)
    (problem,) = problems(fake, web1())
    assert what in problem
    assert str(path) in problem


def test_a_node_file_that_others_can_write_to_is_refused(config: Write, fake: hvcore.DriverHandle) -> None:
    config("node.toml", "").chmod(0o666)
    (problem,) = problems(fake, web1())
    assert "can be changed by others" in problem


def test_a_fifo_as_node_file_is_a_problem_without_waiting(config: Write, fake: hvcore.DriverHandle) -> None:
    path = config("node.toml", "")
    path.unlink()
    os.mkfifo(path, 0o600)
    assert "is not a regular file" in problems(fake, web1())[0]


def test_a_start_uses_the_layers_and_a_reboot_keeps_their_values(config: Write, tmp_path: Path) -> None:
    config("profiles/db.toml", '[params.fake]\nmotd = "profile"\n')
    node = hvcore.Node(tmp_path / "run", config_dir=tmp_path / "etc")
    node.driver("fake").start(web1("db"))
    (tmp_path / "etc/profiles/db.toml").unlink()
    (note,) = node.reboot("web1").notes
    assert note.startswith("profile: no such profile, got 'db'; ")
    assert note.endswith("the values of its start are kept")
    assert node.console("web1").argv[-1] == "profile"


def test_parameters_are_shown_with_the_nodes_values(config: Write, fake: hvcore.DriverHandle) -> None:
    config("node.toml", '[params.fake]\nmotd = "node"\n')
    row = next(row for row in fake.parameters() if row.key == "motd")
    assert (row.default, row.value, row.layer) == ("hello", "node", "node")
    with pytest.raises(hvcore.ParamsError, match="no such profile"):
        fake.parameters(profile="none")


def test_the_plan_names_the_layer_of_each_argument(config: Write, fake: hvcore.DriverHandle) -> None:
    config("node.toml", '[params.fake]\nmotd = "node"\n')
    plan = fake.plan(web1())
    (argument_of_motd,) = [argument for argument in plan.arguments if argument.origin.params == ("motd",)]
    assert argument_of_motd.origin.layers == {"motd": "node"}
    assert plan.to_json()["params"]["motd"] == {"value": "node", "layer": "node"}
    assert "# fake <- motd (node): the guest prints it" in plan.explain()
