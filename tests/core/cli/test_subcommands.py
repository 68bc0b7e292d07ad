"""Each subcommand on the fake driver: its output on stdout and stderr, and its exit code."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from fixture_types import File, Hv

from hvcore.cli.app import COMMANDS

NAMES = [name for section in COMMANDS.values() for name in section]


def test_start_prints_one_line(hv: Hv, instance_file: File) -> None:
    result = hv("start", instance_file())
    assert result.exit_code == 0
    assert result.stdout.startswith("web1: running (fake, 0.")
    assert result.stdout.count("\n") == 1


def test_start_of_a_running_instance_says_so(hv: Hv, instance_file: File) -> None:
    hv("start", instance_file())
    result = hv("start", instance_file())
    assert (result.exit_code, result.stdout) == (0, "web1: already running\n")


def test_start_with_a_changed_file_says_when_it_takes_effect(hv: Hv, instance_file: File) -> None:
    hv("start", instance_file())
    result = hv("start", instance_file(params='motd = "changed"'))
    assert "web1: it runs with the settings of its start" in result.stderr


def test_start_paused_and_resume(hv: Hv, instance_file: File) -> None:
    assert hv("start", "--paused", instance_file()).stdout.startswith("web1: paused (fake")
    assert hv("resume", "web1").stdout == "web1: running\n"
    assert hv("resume", "web1").stdout == "web1: already running\n"
    assert hv("pause", "web1").stdout == "web1: paused\n"


def test_start_that_fails_leaves_nothing(hv: Hv, instance_file: File, run_dir: Path) -> None:
    result = hv("start", instance_file(params='fail_at = "start"'))
    assert result.exit_code == 1
    assert result.stderr == "hv: web1: fails on purpose half-way; unset params.fail_at\n"
    assert list((run_dir / "instances").iterdir()) == []


def test_json_cannot_be_printed_where_the_console_is(hv: Hv, instance_file: File) -> None:
    assert hv("start", "--console", "--json", instance_file()).exit_code == 2


def test_stop_shows_what_stopped_the_instance(hv: Hv, instance_file: File) -> None:
    hv("start", instance_file())
    assert hv("stop", "web1").stdout.startswith("web1: stopped (powerdown, ")
    hv("start", instance_file(params="ignores_powerdown = true"))
    assert hv("stop", "web1").stdout.startswith("web1: stopped (kill, ")


def test_stop_of_a_guest_that_did_not_shut_down_in_time_says_so(hv: Hv, instance_file: File) -> None:
    hv("start", instance_file(params="ignores_powerdown = true"))
    stopped = "web1: did not shut down within 1e-06 s and was killed; its file systems may need a check\n"
    assert hv("stop", "web1", "--deadline", "1e-6").stdout == stopped


def test_a_start_of_a_name_says_where_the_file_or_the_instance_is(
    hv: Hv, instance_file: File, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = instance_file()
    monkeypatch.chdir(tmp_path)
    assert hv("start", "web1").stderr == "hv: 'web1': no such file; did you mean 'web1.toml'?\n"
    hv("start", file)
    Path(file).unlink()
    found = hv("start", "web1")
    assert "give an instance file; instance web1 is running, see 'hv info web1'" in found.stderr
    assert found.exit_code == 2


def test_unknown_instance_is_exit_code_4_and_a_guess(hv: Hv, instance_file: File) -> None:
    hv("start", instance_file("web10"))
    for subcommand in ("info", "pause", "resume", "reboot", "console", "stop", "cleanup", "log"):
        result = hv(subcommand, "wbe10")
        assert result.exit_code == 4, subcommand
        assert "hv: wbe10: did you mean 'web10'?\n" in result.stderr


def test_list_of_nothing_says_so_on_stderr(hv: Hv) -> None:
    result = hv("list")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no instances\n")
    assert json.loads(hv("list", "--json").stdout) == []


def test_a_run_directory_that_does_not_exist_is_named_and_not_made(hv: Hv, tmp_path: Path) -> None:
    missing = str(tmp_path / "hvcroe")
    what = f"run directory {missing!r}: does not exist, so it has no instances; check --run-dir\n"
    for words in ("list", "list -q", "list --json", "recover", "act", "stop --all", "top --once", "metrics"):
        result = hv("--run-dir", missing, *words.split())
        assert f"warning: {what}" in result.stderr, words
        assert (result.exit_code, os.path.exists(missing)) == (0, False), words
    for_one = (
        *(
            "info web1",
            "log web1",
            "pause web1",
            "resume web1",
            "cleanup web1",
            "reboot web1",
            "stop web1",
            "reset web1",
        ),
        *(
            "stop web1 --force",
            "attach web1 nic",
            "detach web1 disk0",
            "eject web1 cdrom0",
            "balloon web1 64",
            "pin web1 0",
        ),
        *("send-key web1 ret", "screenshot web1 x.png", "rename web1 web2", "apply web1"),
    )
    for command in for_one:
        result = hv("--run-dir", missing, *command.split())
        assert f"hv: web1: {what}" in result.stderr, command
        assert (result.exit_code, os.path.exists(missing)) == (4, False), command


def test_list_is_aligned_when_piped(hv: Hv, instance_file: File) -> None:
    hv("start", instance_file("a"))
    hv("start", instance_file("longer-name"))
    head, first, second = hv("list").stdout.splitlines()
    assert head.split() == ["NAME", "DRIVER", "STATE", "VCPUS", "MEMORY", "RESIDENT", "CPU", "UPTIME", "REASON"]
    assert first.split()[:5] == ["a", "fake", "running", "1", "128"]
    assert {line.index("fake") for line in (first, second)} == {head.index("DRIVER")}


def test_info_as_json_is_the_entry_of_the_list(hv: Hv, instance_file: File) -> None:
    hv("start", instance_file())
    facts = json.loads(hv("info", "web1", "--json").stdout)
    assert json.loads(hv("list", "--json").stdout) == [facts]
    assert (facts["name"], facts["driver"], facts["state"], facts["memory_mib"]) == ("web1", "fake", "running", 128)
    assert "state    running\n" in hv("info", "web1").stdout


def test_a_start_keeps_the_full_path_of_its_file_and_none_of_stdin(
    hv: Hv, instance_file: File, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def source() -> object:
        return json.loads((run_dir / "instances/web1/record.json").read_bytes().splitlines()[0])["source"]

    path = Path(instance_file())
    monkeypatch.chdir(path.parent)
    assert hv("start", path.name).exit_code == 0
    assert source() == str(path)
    text = path.read_text()
    path.unlink()
    stderr = hv("reboot", "web1").stderr
    assert f"web1: {str(path)!r}: cannot be read, got No such file or directory" in stderr
    assert "the values of its start are kept" in stderr
    assert hv("stop", "web1").exit_code == 0
    assert hv("start", "-", stdin=text).exit_code == 0
    assert source() == ""
    assert hv("reboot", "web1").stderr == ""


def test_reboot_and_cleanup(hv: Hv, instance_file: File) -> None:
    hv("start", instance_file())
    assert hv("reboot", "web1").stdout.startswith("web1: running again (powerdown, ")
    refused = hv("cleanup", "web1")
    assert refused.exit_code == 1
    assert "web1: is running; use 'hv stop' first" in refused.stderr
    hv("stop", "web1")
    assert hv("cleanup", "web1").exit_code == 4


def test_recover_of_nothing(hv: Hv) -> None:
    assert hv("recover").stderr == "nothing to recover\n"
    assert json.loads(hv("recover", "--json").stdout) == []


def test_check_reads_stdin(hv: Hv) -> None:
    result = hv("check", "-", stdin='name = "web1"\ndriver = "fake"\n')
    assert (result.exit_code, result.stdout) == (0, "web1: ok (fake, 0 parameters set)\n")


def test_check_lists_every_problem(hv: Hv) -> None:
    text = 'name = "We b"\ndriver = "fake"\nvcpus = 0\ncolour = 1\n[params]\nmodt = "x"\nfail_at = "never"\n'
    result = hv("check", "-", stdin=text)
    assert result.exit_code == 2
    head, *problems = result.stderr.splitlines()
    assert head == "hv: stdin: 5 problems"
    assert sorted(line.split(":")[0].strip() for line in problems) == [
        "colour",
        "name",
        "params.fail_at",
        "params.modt",
        "vcpus",
    ]


def test_errors_are_json_too(hv: Hv) -> None:
    result = hv("check", "-", "--json", stdin='name = "web1"\ndriver = "fake"\n[params]\nmodt = "x"\n')
    facts = json.loads(result.stdout)
    assert (facts["error"], facts["exit_code"]) == ("ParamsError", 2)
    assert facts["problems"][0]["todo"] == "did you mean motd?"
    assert result.stderr.startswith("hv: stdin: 1 problem\n")


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("info", "web1", "--json"), 4),
        (("info", "We b", "--json"), 2),
        (("list", "--json", "extra"), 2),
        (("params", "nope", "--json"), 2),
        (("check", "/nonexistent", "--json"), 2),
    ],
)
def test_every_kind_of_error_is_one_json_document(hv: Hv, args: tuple[str, ...], code: int) -> None:
    result = hv(*args)
    facts = json.loads(result.stdout)
    assert (result.exit_code, facts["exit_code"]) == (code, code)
    assert result.stderr.startswith(f"hv: {facts['message']}")


def test_plan_and_explain_show_the_same_plan(hv: Hv, instance_file: File) -> None:
    file = instance_file(params='motd = "hi there"')
    assert "  fake-guest \\\n    --motd 'hi there'\n" in hv("plan", file).stdout
    assert "# fake <- motd (instance): the guest prints it on its console" in hv("explain", file).stdout
    assert json.loads(hv("plan", file, "--json").stdout) == json.loads(hv("explain", file, "--json").stdout)


def test_verify_takes_a_file_or_a_driver(hv: Hv, instance_file: File) -> None:
    assert hv("verify", instance_file()).stdout == "web1: this node can run it (fake)\n"
    assert hv("verify", "fake").stdout.startswith("driver fake: this node can run it; it can start, stop")
    failed = hv("verify", instance_file(params='fail_at = "verify"'))
    assert failed.exit_code == 1
    assert "params.fail_at: fails on purpose here" in failed.stderr
    assert "neither a file nor an installed driver" in hv("verify", "nope").stderr


def test_verify_takes_several_files_and_drivers_and_reports_each(hv: Hv, instance_file: File) -> None:
    good, bad = instance_file("good"), instance_file("bad", params='fail_at = "verify"')
    result = hv("verify", bad, "nope", good, "fake")
    assert result.exit_code == 1  # that of the first failure
    assert "params.fail_at: fails on purpose here" in result.stderr
    assert "'nope': is neither a file nor an installed driver" in result.stderr
    assert result.stdout.startswith("good: this node can run it (fake)\ndriver fake: this node can run it")


def test_verify_of_several_has_a_document_for_each(hv: Hv, instance_file: File) -> None:
    result = hv("verify", instance_file("good"), "nope", "fake", "--json")
    good, nope, fake = json.loads(result.stdout)
    assert (result.exit_code, good["verified"], nope["exit_code"], fake["driver"]) == (2, True, 2, "fake")


def test_params_as_table_rows_and_schema(hv: Hv) -> None:
    assert hv("params", "fake").stdout.splitlines()[0].split() == [
        "PARAMETER",
        "VALUE",
        "DEFAULT",
        "APPLIES",
        "MEANING",
    ]
    keys = [row["key"] for row in json.loads(hv("params", "fake", "--json").stdout)]
    assert sorted([*keys, "unset"]) == sorted(json.loads(hv("params", "fake", "--schema").stdout)["properties"])


def test_params_with_a_key_shows_all_about_it(hv: Hv) -> None:
    shown = hv("params", "fake", "motd", "disks.cache", "motd").stdout
    assert shown.startswith(
        "motd\n    The message that the guest prints on its console.\n\n    Value: one line of text"
    )
    assert shown.count("motd\n") == 1
    assert "\n\ndisks.cache\n" in shown
    assert "        none: Without the node's page cache (O_DIRECT).\n        writeback: " in shown
    rows = json.loads(hv("params", "fake", "nics.mode", "vcpus", "--json").stdout)
    assert [row["key"] for row in rows] == ["nics.mode", "vcpus"]


@pytest.mark.parametrize(("key", "near"), [("mot", "'motd'"), ("mtod", "'motd'"), ("cache", "'disks.cache'")])
def test_params_with_an_unknown_key_names_the_nearest(hv: Hv, key: str, near: str) -> None:
    failed = hv("params", "fake", key)
    assert failed.exit_code == 2
    assert f"{key!r}: no such parameter or key of an instance file; did you mean {near}?" in failed.stderr


def test_unknown_driver_is_bad_input(hv: Hv, instance_file: File) -> None:
    assert hv("params", "fakke").exit_code == 2
    assert hv("start", instance_file(driver="fakke")).exit_code == 2


def test_drivers_lists_the_installed_ones(hv: Hv) -> None:
    found = {entry["name"]: entry for entry in json.loads(hv("drivers", "--json").stdout)}
    assert found["fake"]["verdict"] == "ok"
    assert "fake" in hv("drivers").stdout


@pytest.mark.parametrize("name", NAMES)
def test_help_has_an_example(hv: Hv, name: str) -> None:
    result = hv(name, "--help")
    assert result.exit_code == 0
    assert f"Example:\n    hv {name}" in result.stdout or f"| hv {name}" in result.stdout


def test_help_lists_every_subcommand_under_its_heading(hv: Hv) -> None:
    text = hv("--help").stdout
    assert [heading for heading in COMMANDS if f"\n{heading}:\n" in text] == list(COMMANDS)
    assert [name for name in NAMES if f"\n  {name} " not in text] == []


def test_nothing_to_do_prints_the_help_on_stderr(hv: Hv) -> None:
    result = hv()
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage: hv" in result.stderr


def test_misspelt_subcommand_is_guessed(hv: Hv) -> None:
    result = hv("starrt")
    assert (result.exit_code, result.stderr) == (2, "hv: 'starrt': no such subcommand; did you mean 'start'?\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(hv: Hv, shell: str) -> None:
    assert "_HV_COMPLETE" in hv("completion", shell).stdout


def test_buttons_and_keys(hv: Hv, instance_file: File) -> None:
    hv("start", instance_file())
    assert hv("reset", "web1").stdout == "web1: reset\n"
    assert hv("send-key", "web1", "ctrl-alt-delete", "a").stdout == "web1: pressed\n"
    refused = hv("send-key", "web1", "a", "nokey")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert hv("nmi", "web1").exit_code == 3
    assert hv("powerdown", "--wait", "web1").stdout == "web1: shut down\n"
    again = hv("powerdown", "web1", "--json")
    assert json.loads(again.stdout)["changed"] is False
    assert hv("powerdown", "web1").stdout == "web1: already shutdown\n"
    assert hv("reset", "web1").exit_code == 1


def test_act_says_what_it_did(hv: Hv, instance_file: File) -> None:
    assert (hv("act").exit_code, hv("act").stdout, hv("act", "--json").stdout) == (0, "", "[]\n")
    file = Path(instance_file())
    file.write_text('on_shutdown = "cleanup"\n' + file.read_text())
    hv("start", str(file))
    hv("powerdown", "web1")
    assert hv("act").stdout == "web1: cleaned, shutdown\n".replace("shutdown", "powerdown")
    assert hv("info", "web1").exit_code == 4
