"""Warnings, layers and differences as the command line shows them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fixture_types import File, Hv


@pytest.fixture
def node_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "etc" / "node.toml"
    path.parent.mkdir()
    path.write_text('[params.fake]\nmotd = "of the node"\n')
    path.chmod(0o644)
    monkeypatch.setenv("HVCORE_CONFIG_DIR", str(path.parent))
    return path


@pytest.mark.parametrize("command", ["check", "plan", "explain"])
def test_a_warning_is_on_stderr_and_fails_nothing(command: str, hv: Hv, instance_file: File) -> None:
    file = instance_file(params="ignores_powerdown = true")
    result = hv(command, file)
    warning = "params.ignores_powerdown: only a forced stop ends the guest soon"
    assert (result.exit_code, result.stderr) == (0, f"web1: warning: {warning}\n")
    shown = json.loads(hv(command, file, "--json").stdout)["warnings"]
    assert [row["path"] for row in shown] == ["params.ignores_powerdown"]


def test_check_says_which_layer_each_value_is_from(hv: Hv, instance_file: File, node_file: Path) -> None:
    shown = json.loads(hv("check", instance_file(), "--json").stdout)
    assert (shown["params"]["motd"], shown["layers"]["motd"]) == ("of the node", "node")
    assert shown["layers"]["fail_at"] == "default"


def test_params_shows_what_the_node_sets(hv: Hv, node_file: Path) -> None:
    assert "of the node (node)" in hv("params", "fake").stdout
    assert hv("params", "fake", "--profile", "db").exit_code == 2


def test_the_configuration_can_be_elsewhere(hv: Hv, instance_file: File, node_file: Path, tmp_path: Path) -> None:
    shown = json.loads(hv("--config-dir", str(tmp_path / "none"), "check", instance_file(), "--json").stdout)
    assert shown["params"]["motd"] == "hello"
    assert hv("--config-dir", "", "check", instance_file()).exit_code == 2


def test_a_wrong_value_of_the_node_names_the_file(hv: Hv, instance_file: File, node_file: Path) -> None:
    node_file.write_text("[params.fake]\nmotd = 1\n")
    result = hv("check", instance_file())
    assert result.exit_code == 2
    assert f"node.params.motd ({node_file}): is a whole number, not a text, got 1" in result.stderr


def test_the_difference_of_two_files_and_its_reason(hv: Hv, instance_file: File) -> None:
    first, second = instance_file(), instance_file("web2", params='motd = "bye"')
    result = hv("explain", "--diff", first, second)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0].split() == ["CHANGE", "BEFORE", "AFTER", "WHY"]
    assert "changed  --motd hello  --motd bye  motd: 'hello' (default) -> 'bye' (instance)" in result.stdout
    (change,) = json.loads(hv("explain", "--diff", first, second, "--json").stdout)
    assert (change["change"], change["after"]["tokens"]) == ("changed", ["--motd", "bye"])
    assert hv("explain", "--diff", first, first).stderr == "no difference: the commands are identical\n"


def test_a_difference_shows_which_of_the_two_would_be_refused(hv: Hv, instance_file: File) -> None:
    first, second = instance_file(), instance_file("web2", params='fail_at = "verify"')
    refused = "would be refused: params.fail_at: fails on purpose here, got 'verify'\n"
    assert hv("explain", "--diff", first, second).stderr.startswith(f"after: {refused}")
    assert hv("explain", "--diff", second, first).stderr.startswith(f"before: {refused}")
    assert "refused" not in hv("explain", "--diff", second, second).stderr


@pytest.mark.parametrize(
    "args",
    [
        ("--diff", "{file}"),
        ("--diff", "-", "-"),
        ("--diff", "{file}", "--qemu", "/a"),
        ("{file}", "{file}"),
        ("{file}", "--qemu", "/a", "--qemu", "/b"),
    ],
)
def test_a_difference_needs_two_sides(args: tuple[str, ...], hv: Hv, instance_file: File) -> None:
    file = instance_file()
    assert hv("explain", *(arg.format(file=file) for arg in args)).exit_code == 2


def test_another_qemu_is_refused_by_a_driver_without_one(hv: Hv, instance_file: File) -> None:
    result = hv("explain", instance_file(), "--qemu", "/usr/bin/qemu")
    assert result.exit_code == 2
    assert "params.kvm_path: is not a parameter of this driver" in result.stderr
