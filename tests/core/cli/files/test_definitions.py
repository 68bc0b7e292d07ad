"""``hv define``, ``edit``, ``undefine``, ``rename``, ``autostart``, ``changes``, and names in place of files."""

from __future__ import annotations

import errno
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from fixture_types import File, Hv, Process

from hvcore.cli.files.editing import _offer

HV = (sys.executable, "-c", "from hvcore.cli import main; main()")


@pytest.fixture(autouse=True)
def config_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HVCORE_CONFIG_DIR", str(tmp_path / "etc"))
    for variable in ("VISUAL", "EDITOR"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / "etc"


@pytest.fixture
def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An editor that runs this script: ``$1`` is the file."""
    script = tmp_path / "editor"
    script.write_text("#!/bin/sh\nexit 0\n")
    script.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(script))
    return script


def says(script: Path, *lines: str) -> None:
    script.write_text("\n".join(["#!/bin/sh", *lines, ""]))


def test_define_start_list_and_stop_by_name(hv: Hv, instance_file: File, config_dir: Path) -> None:
    assert hv("define", instance_file()).stdout == "web1: defined\n"
    assert hv("define", instance_file()).stdout == "web1: already defined\n"
    assert hv("list").stderr == "no instances\n"
    listed = hv("list", "--all").stdout
    assert "AUTOSTART" in listed
    assert "web1  fake    stopped" in listed
    assert hv("list", "--state", "stopped", "-q").stdout == "web1\n"
    assert hv("start", "web1").stdout.startswith("web1: running (fake")
    found = json.loads(hv("info", "web1", "--json").stdout)
    assert found["source"] == f"{config_dir}/instances/web1.toml"
    assert found["autostart"] is False
    assert hv("start", "web1").stdout == "web1: already running\n"
    assert hv("stop", "web1").stdout.startswith("web1: stopped (powerdown")
    assert hv("stop", "web1").stdout == "web1: already stopped\n"
    assert "state      stopped" in hv("info", "web1").stdout


def test_a_definition_is_preferred_to_a_file_of_its_name(
    hv: Hv, instance_file: File, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hv("define", instance_file())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "web1").mkdir()
    assert hv("check", "web1").stdout.startswith("web1: ok")
    assert hv("plan", "web1").exit_code == 0
    assert hv("verify", "web1").exit_code == 0
    assert hv("explain", "web1").exit_code == 0


def test_a_near_miss_is_named(hv: Hv, instance_file: File) -> None:
    hv("define", instance_file("webshop"))
    assert hv("start", "webshp").stderr == "hv: 'webshp': no such file; did you mean 'webshop'?\n"
    assert "did you mean 'webshop'?" in hv("stop", "webshp").stderr
    assert hv("reboot", "webshop").stderr.endswith("webshop: is defined and stopped; 'hv start webshop' starts it\n")


def test_a_file_that_is_wrong_or_missing_is_not_defined(hv: Hv, instance_file: File) -> None:
    result = hv("define", instance_file(params="mood = 1"))
    assert (result.exit_code, "params.mood" in result.stderr) == (2, True)
    assert hv("define", "nowhere.toml").stderr.startswith("hv: 'nowhere.toml': no such file")
    assert hv("define", "-", stdin='name = "a"\ndriver = "fake"\n').stdout == "a: defined\n"
    assert hv("define", "-", stdin=b"\xff").exit_code == 2
    found = json.loads(
        hv("define", "--autostart", "--replace", "--json", "-", stdin='name = "a"\ndriver = "fake"\n').stdout
    )
    assert (found["name"], found["action"], found["changed"], found["autostart"]) == ("a", "define", True, True)


def test_autostart_in_a_file_elsewhere_has_no_effect_and_is_said(hv: Hv, tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('name = "a"\ndriver = "fake"\nautostart = true\n')
    result = hv("start", str(file))
    assert result.exit_code == 0
    assert "a: warning: autostart: has no effect here" in result.stderr
    assert "has no effect" in hv("check", str(file)).stderr
    assert hv("list", "--all").stdout.count("\n") == 2
    hv("stop", "a")
    assert hv("define", str(file)).stdout == "a: defined, autostart on\n"
    assert "no effect" not in hv("check", "a").stderr


def test_start_at_boot_starts_what_has_autostart(hv: Hv, instance_file: File, config_dir: Path) -> None:
    assert "no defined instance" in hv("start", "--autostart").stderr
    for name in ("web1", "web2", "web3"):
        hv("define", instance_file(name))
    assert hv("autostart", "web1", "web3").stdout == "web1: autostart on\nweb3: autostart on\n"
    result = hv("start", "--autostart")
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == ["web1", "web3"]
    assert hv("autostart", "--off", "web3").stdout == "web3: autostart off\n"
    assert hv("autostart", "--off", "web3").stdout == "web3: already autostart off\n"
    (config_dir / "instances" / "web2.toml").write_text("name = ")
    result = hv("start", "--autostart", "--json")
    assert result.exit_code == 2
    assert [one.get("error") for one in json.loads(result.stdout)] == [None, "InstanceFileError"]
    assert hv("start", "--autostart", "web1").exit_code == 2
    assert hv("start").exit_code == 2


def test_stop_all(hv: Hv, instance_file: File) -> None:
    assert hv("stop", "--all").stderr == "no instances\n"
    for name in ("web1", "web2", "web3"):
        hv("start", instance_file(name, params="ignores_powerdown = true" if name == "web2" else ""))
    result = hv("stop", "--all")
    assert sorted(line.split(" (")[0] for line in result.stdout.splitlines()) == [
        "web1: stopped",
        "web2: stopped",
        "web3: stopped",
    ]
    assert hv("list").stderr == "no instances\n"
    assert hv("stop", "--all", "web1").exit_code == 2
    assert hv("stop").exit_code == 2
    hv("start", instance_file())
    assert [one["changed"] for one in json.loads(hv("stop", "--all", "--force", "--json").stdout)] == [True]


def test_undefine_rename_and_what_runs(hv: Hv, instance_file: File) -> None:
    hv("define", instance_file())
    hv("start", "web1")
    assert hv("rename", "web1", "web2").exit_code == 1
    result = hv("undefine", "web1")
    assert (result.stdout, result.stderr) == (
        "web1: no longer defined\n",
        "web1: it is running and stays so; 'hv stop web1' stops it\n",
    )
    assert hv("undefine", "web1").exit_code == 4
    hv("stop", "web1")
    hv("define", instance_file())
    assert hv("rename", "web1", "web2").stdout == "web1: is now web2\n"
    assert hv("rename", "web2", "web2").stdout == "web2: already has that name\n"
    assert hv("list", "--all", "-q").stdout == "web2\n"


def test_changes(hv: Hv, instance_file: File) -> None:
    hv("define", instance_file())
    assert "it does not run" in hv("changes", "web1").stderr
    hv("start", "web1")
    assert hv("changes", "web1").stderr == "web1: runs as defined\n"
    file = instance_file(params='motd = "new"')
    assert "params.motd  hello    new      start\n" in hv("changes", "web1", file).stdout
    assert json.loads(hv("changes", "web1", file, "--json").stdout) == [
        {"field": "params.motd", "running": "hello", "defined": "new", "effect": "start", "layer": "instance"}
    ]


def test_edit_saves_what_passes(hv: Hv, instance_file: File, editor: Path) -> None:
    hv("define", instance_file())
    assert hv("edit", "web1").stderr == "web1: no change\n"
    says(editor, 'echo \'motd = "edited"\' >> "$1"')
    assert hv("edit", "web1").stderr == "web1: changed\n"
    assert "edited" in hv("check", "web1", "--json").stdout
    says(editor, ': > "$1"')  # emptied: gives up
    assert hv("edit", "web1").stderr == "web1: no change\n"
    assert hv("edit", "web2").exit_code == 4


def test_edit_keeps_a_faulty_text(hv: Hv, instance_file: File, editor: Path, config_dir: Path) -> None:
    hv("define", instance_file())
    says(editor, 'echo "mood = 1" >> "$1"')
    result = hv("edit", "web1")
    assert result.exit_code == 2
    assert "params.mood" in result.stderr
    assert "the definition is as before; the text is kept in" in result.stderr
    assert "mood" in (config_dir / "instances" / ".web1.edit.toml").read_text()
    assert hv("list", "--all", "-q").stdout == "web1\n"
    assert hv("check", "web1").exit_code == 0


def test_edit_leaves_no_part_of_a_text(
    hv: Hv, instance_file: File, editor: Path, config_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next edit would offer it: on a full disk an empty text."""

    def full(*_given: object, **_named: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    hv("define", instance_file())
    with monkeypatch.context() as patched:
        patched.setattr("hvcore.cli.files.editing.write_whole", full)
        result = hv("edit", "web1")
    assert result.exit_code == 1
    assert "web1: the definition cannot be edited, " in result.stderr
    assert "No space left on device; free some space there" in result.stderr
    draft = config_dir / "instances" / ".web1.edit.toml"
    assert not draft.exists()
    draft.touch()
    assert hv("edit", "web1").stderr == "web1: no change\n"


def test_edit_says_that_the_definition_is_newer_than_the_text(tmp_path: Path) -> None:
    """To go on with the text undoes what 'hv attach --save' has written since."""
    draft, definition = tmp_path / "draft", tmp_path / "web1.toml"
    for path in (draft, definition):
        path.touch()
    os.utime(draft, (2, 2))
    os.utime(definition, (1, 1))
    assert "changed after" not in _offer("web1", draft, definition)
    os.utime(definition, (3, 3))
    assert "the definition was changed after the last edit" in _offer("web1", draft, definition)


@pytest.mark.heavy
def test_edit_notices_another_writer_and_a_second_editor(
    hv: Hv, instance_file: File, editor: Path, config_dir: Path
) -> None:
    hv("define", instance_file())
    other = f"{' '.join(HV[:2])} '{HV[2]}'"
    says(editor, f"{other} autostart web1 >/dev/null", 'echo \'motd = "x"\' >> "$1"')
    result = hv("edit", "web1")
    assert "another program has changed the definition meanwhile" in result.stderr
    says(editor, f"{other} edit web1", "exit 3")
    result = hv("edit", "web1")
    assert "ended with 3" in result.stderr
    assert result.exit_code == 1


def test_an_editor_that_is_missing_or_wrong_is_named(
    hv: Hv, instance_file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    hv("define", instance_file())
    monkeypatch.setenv("VISUAL", "/nowhere/editor -x")
    assert "editor '/nowhere/editor' cannot be run" in hv("edit", "web1").stderr
    monkeypatch.setenv("VISUAL", "'")
    assert "VISUAL: is not a command" in hv("edit", "web1").stderr
    monkeypatch.delenv("VISUAL")
    monkeypatch.setenv("PATH", "/nowhere")
    assert "found no editor" in hv("edit", "web1").stderr


def test_a_directory_that_cannot_be_written_is_named(
    hv: Hv, instance_file: File, editor: Path, config_dir: Path
) -> None:
    hv("define", instance_file())
    (config_dir / "instances" / ".web1.editing").symlink_to("/nowhere")
    result = hv("edit", "web1")
    assert result.exit_code == 1
    assert result.stderr.startswith("hv: web1: the definition cannot be edited")


@pytest.mark.heavy
def test_on_a_terminal_a_faulty_text_is_offered_again(
    hv_process: Process, instance_file: File, editor: Path, config_dir: Path
) -> None:
    hv_process("define", instance_file())
    # The first time it makes a mistake, the second time it corrects it.
    says(editor, 'if grep -q mood "$1"; then sed -i s/mood/motd/ "$1"; else echo \'mood = "x"\' >> "$1"; fi')
    ours, theirs = pty.openpty()
    with subprocess.Popen([*HV, "edit", "web1"], stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        os.write(ours, b"y\n")
        assert process.wait(60) == 0
    os.close(ours)
    assert 'motd = "x"' in (config_dir / "instances" / "web1.toml").read_text()
    assert not (config_dir / "instances" / ".web1.edit.toml").exists()


@pytest.mark.heavy
def test_names_of_definitions_are_completed(instance_file: File, hv: Hv) -> None:
    hv("define", instance_file("webshop"))
    for line in ("hv start web", "hv info web", "hv edit web", "hv undefine web", "hv check web"):
        environment = {**os.environ, "COMP_WORDS": line, "COMP_CWORD": "2", "_HV_COMPLETE": "bash_complete"}
        run = subprocess.run(HV, env=environment, capture_output=True, text=True, check=True, timeout=300)
        assert "plain,webshop" in run.stdout, line
