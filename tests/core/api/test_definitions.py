"""The definitions of a node: each change is checked, made in one step, and leaves the rest of the file as it was."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hvcore import (
    BusyError,
    Effect,
    InputError,
    Instance,
    InstanceFileError,
    Node,
    NodeError,
    NotFoundError,
    ParamsError,
    State,
    StateError,
)
from hvcore.api.node_definitions import Definitions
from hvcore.config import default_definitions_dir
from hvcore.host.files import write_atomic
from hvcore.testing.isolate import act_at, forked

FILE = """\
# the shop
name = "web1"  # as in DNS
driver = "fake"
memory_mib = 256

[params]
motd = "hello"  # shown
"""


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path / "run", config_dir=tmp_path / "etc")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "somewhere.toml"
    path.write_text(FILE)
    return path


@pytest.fixture
def stopped(node: Node) -> Iterator[None]:
    yield
    for one in node.instances():
        node.stop(one.name, force=True)


def by_hand(node: Node, name: str, text: str | bytes) -> Path:
    path = node.definitions.path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_file_is_copied_as_it_is(node: Node, file: Path) -> None:
    outcome = node.definitions.define(file)
    assert (outcome.changed, outcome.action, outcome.name) == (True, "define", "web1")
    assert Path(outcome.file).read_text() == FILE == node.definitions.text("web1")
    assert Path(outcome.file).stat().st_mode & 0o777 == 0o600
    assert node.definitions.names() == ["web1"]
    assert "web1" in node.definitions
    found = node.definitions.get("web1")
    assert (found.problem, found.autostart, found.driver) == (None, False, "fake")
    assert node.definitions.instance("web1").memory_mib == 256
    assert not node.definitions.define(file).changed


def test_relative_paths_become_absolute_in_the_text(node: Node, tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('name = "a"\ndriver = "kvm"\n[[disks]]\npath = "a.img" # here\n[params]\nkernel_path = "../k"\n')
    node.definitions.define(file)
    text = node.definitions.text("a")
    assert f'path = "{tmp_path}/a.img" # here\n' in text
    assert f'kernel_path = "{tmp_path.parent}/k"\n' in text
    file.write_text('name = "b"\ndriver = "kvm"\ndisks = [{ path = "a.img" }]\n')
    with pytest.raises(InputError, match=r"disks\[0\]\.path: is a relative path, and the file is written in a form"):
        node.definitions.define(file)


def test_data_and_instances_can_be_defined(node: Node) -> None:
    instance = Instance(name="a", driver="fake", tags=("x",), params={"motd": 'a"b\\'})
    assert node.definitions.define(instance, autostart=True).autostart
    assert node.definitions.instance("a") == instance
    node.definitions.define({"name": "b", "driver": "fake", "autostart": True})
    assert [(one.name, one.autostart) for one in node.definitions.entries()] == [("a", True), ("b", True)]
    with pytest.raises(ParamsError, match="absolute"):
        node.definitions.define({"name": "c", "driver": "fake", "disks": [{"path": "relative"}]})
    with pytest.raises(InputError, match="cannot have"):
        node.definitions.define({"name": "c", "driver": "fake", "params": {"motd": object()}})


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('name = "web1"\ndriver = "fake"\n[params]\nmood = 1\n', "params.mood: is not a parameter"),
        ('name = "web1"\ndriver = "none-such"\n', "none-such"),
        ('name = "Web 1"\ndriver = "fake"\n', "is not an instance name"),
        ('name = "web1"\ndriver = "fake"\nautostart = "yes"\n', "autostart: "),
        ('name = "web1\n', "is not TOML"),
    ],
)
def test_what_does_not_pass_is_not_defined(node: Node, file: Path, text: str, match: str) -> None:
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        node.definitions.define(file)
    assert match in str(caught.value)
    assert node.definitions.names() == []


def test_another_definition_is_replaced_only_on_request(node: Node, file: Path) -> None:
    node.definitions.define(file, autostart=True)
    file.write_text(FILE.replace("256", "512"))
    with pytest.raises(InputError, match=r"is defined in .* and differently"):
        node.definitions.define(file)
    outcome = node.definitions.define(file, replace=True)
    assert outcome.notes == ("autostart was on, and the new definition has it off",)
    assert node.definitions.instance("web1").memory_mib == 512


def test_autostart_changes_one_key(node: Node, file: Path) -> None:
    node.definitions.define(file)
    assert node.definitions.autostart("web1").changed
    assert node.definitions.text("web1") == FILE.replace("256\n", "256\nautostart = true\n")
    assert not node.definitions.autostart("web1").changed
    node.definitions.autostart("web1", on=False)
    assert node.definitions.text("web1") == FILE.replace("256\n", "256\nautostart = false\n")
    with pytest.raises(NotFoundError):
        node.definitions.autostart("web2")


def test_autostart_of_a_definition_that_no_longer_passes_can_be_set(node: Node) -> None:
    by_hand(node, "web1", FILE.replace("motd", "mood"))
    assert "params.mood" in node.definitions.autostart("web1").notes[0]
    assert node.definitions.autostart("web1", on=False).notes == ()


def test_mode_and_link_of_a_definition_are_kept(node: Node, tmp_path: Path) -> None:
    target = tmp_path / "repository" / "web1.toml"
    target.parent.mkdir()
    target.write_text(FILE)
    target.chmod(0o640)
    link = node.definitions.path("web1")
    link.parent.mkdir(parents=True)
    link.symlink_to(target)
    node.definitions.autostart("web1")
    assert "autostart = true" in target.read_text()
    assert target.stat().st_mode & 0o777 == 0o640
    with pytest.raises(InputError, match="is a link"):
        node.definitions.rename("web1", "web2")
    node.definitions.remove("web1")
    assert target.exists()
    assert node.definitions.names() == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (FILE.replace("web1", "web2"), "name: is not the name of the file, 'web1', got 'web2'"),
        (FILE.replace("motd", "mood"), "params.mood: is not a parameter"),
        (FILE.replace("fake", "gone"), "gone"),
        (FILE[:20], "is not TOML"),
        ("", "name: is required"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"x" * (1024 * 1024 + 2), "larger than 1 MiB"),
    ],
)
def test_a_definition_that_cannot_be_used_is_listed_with_its_problem(
    node: Node, file: Path, text: str | bytes, problem: str
) -> None:
    by_hand(node, "web1", text)
    file.write_text(FILE.replace("web1", "good"))
    node.definitions.define(file)
    good, bad = node.instances(defined=True)
    assert (good.name, good.state, good.reason, good.memory_mib) == ("good", State.STOPPED, None, 256)
    assert (bad.name, bad.state) == ("web1", State.STOPPED)
    assert problem in (bad.reason or "")
    assert node.info("web1").reason == bad.reason
    with pytest.raises(InputError, match=r"web1|gone"):
        node.definitions.instance("web1")
    assert node.definitions.remove("web1").changed


def test_files_that_are_not_definitions_are_left_out_or_named(node: Node, tmp_path: Path) -> None:
    by_hand(node, "Web 1", FILE)
    by_hand(node, "fifo", "").unlink()
    os.mkfifo(node.definitions.path("fifo"))
    node.definitions.path("gone").symlink_to(tmp_path / "nowhere")
    for other in (".web.edit.toml", "notes.txt", ".web1.toml.swp"):
        (node.definitions.directory / other).write_text("")
    node.definitions.path("folder").mkdir()
    problems = {one.name: one.problem or "" for one in node.definitions.entries()}
    assert list(problems) == ["Web 1", "fifo", "folder", "gone"]
    assert "is not an instance name" in problems["Web 1"]
    assert "not a regular file" in problems["fifo"]
    assert "is a directory" in problems["folder"]
    assert "cannot be read" in problems["gone"]


def test_a_definition_that_others_can_change_is_refused(node: Node) -> None:
    by_hand(node, "web1", FILE).chmod(0o666)
    with pytest.raises(InstanceFileError, match="can be changed by others"):
        node.definitions.instance("web1")


@pytest.mark.parametrize("name", ["../run", "Web", "", "a/b", "x" * 300, "a\0b"])
def test_impossible_names_have_no_definition(node: Node, name: str) -> None:
    for act in (node.definitions.text, node.definitions.instance, node.definitions.remove, node.definitions.get):
        with pytest.raises(NotFoundError):
            act(name)
    with pytest.raises(NotFoundError):
        node.info(name)


@pytest.mark.parametrize("name", ["Web", "we b", "we\nb", "ünï", "-web"])
def test_a_file_whose_name_is_no_instance_name_is_named_as_the_fault(node: Node, name: str) -> None:
    """Not as one that does not exist, when 'hv start --autostart' reports it."""
    by_hand(node, name, FILE)
    assert "the name of its file" in str(node.definitions.get(name).problem)
    for act in (node.definitions.text, node.definitions.instance):
        with pytest.raises(InstanceFileError, match=r"the name of its file .*; rename the file"):
            act(name)


@pytest.mark.parametrize("root", [True, False])
def test_autostart_of_other_users_says_that_no_unit_starts_it(node: Node, file: Path, *, root: bool) -> None:
    context = replace(node._context, host=replace(node._context.host, privileged=root))
    definitions = Definitions(context, node.definitions.directory, node.definitions._checks)
    for outcome in (definitions.define(file, autostart=True), definitions.autostart("web1")):
        assert any("root's definitions" in note for note in outcome.notes) is not root
    assert definitions.autostart("web1", on=False).notes == ()


def test_a_rename_keeps_what_the_guest_sees(node: Node, file: Path) -> None:
    file.write_text(f"{FILE}[[nics]]\n")
    node.definitions.define(file)
    before = node.definitions.instance("web1")
    assert node.definitions.rename("web1", "shop").name == "shop"
    after = node.definitions.instance("shop")
    assert (after.uuid, after.mac(0)) == (before.uuid, before.mac(0))
    assert "# as in DNS" in node.definitions.text("shop")
    assert node.definitions.names() == ["shop"]
    assert not node.definitions.rename("shop", "shop").changed
    with pytest.raises(NotFoundError):
        node.definitions.rename("web1", "other")
    with pytest.raises(ParamsError):
        node.definitions.rename("shop", "Not A Name")


def test_a_rename_refuses_a_name_in_use(node: Node, file: Path, stopped: None) -> None:
    node.definitions.define(file)
    node.definitions.define({"name": "web2", "driver": "fake"})
    with pytest.raises(InputError, match="web2: is defined in"):
        node.definitions.rename("web1", "web2")
    node.start(Instance(name="web3", driver="fake"))
    with pytest.raises(StateError, match="web3: cannot rename while running"):
        node.definitions.rename("web1", "web3")
    node.start(node.definitions.instance("web1"))
    with pytest.raises(StateError, match="web1: cannot rename while running"):
        node.definitions.rename("web1", "web4")
    assert node.definitions.names() == ["web1", "web2"]


def test_a_running_instance_outlives_its_definition(node: Node, file: Path, stopped: None) -> None:
    node.definitions.define(file)
    node.start(node.definitions.instance("web1"), source=node.definitions.path("web1"))
    assert node.info("web1").autostart is False
    assert node.definitions.remove("web1").notes == ("it is running and stays so; 'hv stop web1' stops it",)
    assert node.info("web1").state is State.RUNNING
    again = node.definitions.define(file)
    assert again.notes == ("it is running; 'hv changes web1' shows when the changes take effect",)
    node.definitions.remove("web1")
    assert (
        "was started from" in node.definitions.define({"name": "web1", "driver": "fake"}, replace=True).notes[0] or True
    )


def test_a_change_is_checked_and_sees_the_text(node: Node, file: Path) -> None:
    node.definitions.define(file)
    node.definitions.change("web1", lambda text: text.replace("256", "512"))
    assert node.definitions.instance("web1").memory_mib == 512
    for wrong in ("motd = 1\n", 'name = "x"\n', "x = "):
        with pytest.raises(InputError):
            node.definitions.change("web1", lambda text, wrong=wrong: f"{wrong}{text}")  # type: ignore[misc]
    assert node.definitions.instance("web1").memory_mib == 512


def test_changes_say_when_they_take_effect(node: Node, file: Path, stopped: None) -> None:
    node.definitions.define(file)
    with pytest.raises(NotFoundError):
        node.changes("web1")
    node.start(node.definitions.instance("web1"), source=node.definitions.path("web1"))
    assert node.changes("web1") == ()
    text = FILE.replace("256", "512").replace('"hello"', '"bye"') + '[[disks]]\npath = "/srv/a"\n'
    node.definitions.change("web1", lambda _: text)
    found = node.changes("web1")
    assert [one.field for one in found] == ["memory_mib", "disks[0]", "params.motd"]
    assert (found[0].running, found[0].defined, found[0].effect) == (256, 512, Effect.NOW)
    other = Instance(name="web1", driver="fake", memory_mib=256, params={"motd": "hello"})
    assert node.changes("web1", other) == ()
    with pytest.raises(InputError, match="another instance"):
        node.changes("web1", Instance(name="web2", driver="fake"))


def test_two_writers_exclude_each_other(node: Node, file: Path, tmp_path: Path) -> None:
    node.definitions.define(file)
    inside, on = threading.Event(), threading.Event()

    def slow(text: str) -> str:
        inside.set()
        on.wait(20)
        return text.replace("256", "512")

    writer = threading.Thread(target=lambda: node.definitions.change("web1", slow))
    writer.start()
    assert inside.wait(20)
    threading.Timer(0.2, on.set).start()
    Node(tmp_path / "run", config_dir=tmp_path / "etc").definitions.autostart("web1")
    writer.join()
    text = node.definitions.text("web1")
    assert "512" in text
    assert "autostart = true" in text


def test_a_writer_that_hangs_makes_others_give_up(node: Node, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hvcore.host.definition_files._LOCK_S", 0.05)
    node.definitions.define(file)

    def nested(text: str) -> str:
        with pytest.raises(BusyError, match="busy, held by another process"):
            node.definitions.autostart("web1")
        return text

    node.definitions.change("web1", nested)


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path, file: Path) -> None:
    (tmp_path / "etc").write_text("")
    node = Node(tmp_path / "run", config_dir=tmp_path / "etc")
    assert node.definitions.names() == []
    with pytest.raises(NodeError, match="cannot be made"):
        node.definitions.define(file)


def test_a_directory_that_is_made_is_not_open_to_others(tmp_path: Path, file: Path) -> None:
    node = Node(tmp_path / "run", config_dir=tmp_path / "a" / "etc")
    before = os.umask(0)
    try:
        node.definitions.define(file)
    finally:
        os.umask(before)
    for path in (tmp_path / "a", tmp_path / "a/etc", node.definitions.directory):
        assert path.stat().st_mode & 0o777 == 0o755


# --- crashes and a full disk

Act = Callable[[Node], object]
ACTS: dict[str, Act] = {
    "define": lambda node: node.definitions.define({"name": "new", "driver": "fake"}),
    "replace": lambda node: node.definitions.define({"name": "web1", "driver": "fake"}, replace=True),
    "edit": lambda node: node.definitions.change("web1", lambda text: text.replace("256", "512")),
    "rename": lambda node: node.definitions.rename("web1", "shop"),
    "remove": lambda node: node.definitions.remove("web1"),
    "autostart": lambda node: node.definitions.autostart("web1"),
}


def contents(node: Node) -> dict[str, str]:
    return {name: node.definitions.text(name) for name in node.definitions.names()}


def at_each_change(tmp_path: Path, act: Act, at: Callable[[], None]) -> Iterator[tuple[Node, dict[str, str], bool]]:
    """The node after ``act`` with ``at`` before each of its changes; what it had before, and whether the act succeeded."""
    number, total = 0, -1
    while number <= total or total < 0:
        place = tmp_path / str(number)
        node = Node(place / "run", config_dir=place / "etc")
        node.definitions.define_text(FILE, subject="x", directory=None)
        before = contents(node)

        def work(node: Node = node, number: int = number, place: Path = place) -> int:
            seen = act_at(number or -1, at, place)
            act(node)
            return seen()

        ending = forked(work)
        if total < 0:
            total = ending.result()
            assert total >= 2
        yield node, before, ending.error is None and not ending.signal
        number += 1


def die() -> None:
    os.kill(os.getpid(), 9)


def refuse() -> None:
    raise OSError(28, os.strerror(28))


@pytest.mark.heavy
@pytest.mark.parametrize("name", ACTS)
def test_a_crash_leaves_the_old_or_the_new(tmp_path: Path, name: str) -> None:
    after: dict[str, str] | None = None
    ends = set()
    for node, before, _ in at_each_change(tmp_path, ACTS[name], die):
        found = contents(node)
        after = found if after is None else after
        assert found in (before, after)
        ends.add(found == after)
        assert all(one.problem is None for one in node.definitions.entries())
        node.definitions.define({"name": "later", "driver": "fake"})  # settles
        assert contents(node) == {**found, "later": node.definitions.text("later")}
        left = {path.name for path in node.definitions.directory.iterdir()}
        assert left == {f"{one}.toml" for one in [*found, "later"]}
        node.definitions.remove("later")
        if found != after:
            ACTS[name](node)
        assert contents(node) == after
    assert ends == {True, False}


@pytest.mark.heavy
@pytest.mark.parametrize("name", ACTS)
def test_a_full_disk_is_an_error_and_changes_nothing(tmp_path: Path, name: str) -> None:
    after: dict[str, str] | None = None
    for node, before, done in at_each_change(tmp_path, ACTS[name], refuse):
        found = contents(node)
        after = found if after is None else after
        assert found == after if done else found in (before, after), (found, done)
        assert all(one.problem is None for one in node.definitions.entries())
        if found != after:
            ACTS[name](node)
        assert contents(node) == after


def test_an_old_mark_of_a_rename_hides_no_new_definition(node: Node) -> None:
    by_hand(node, "web1", FILE)
    (node.definitions.directory / ".web1.renamed").write_text('{"to": "shop", "crc32": 1}')
    by_hand(node, "shop", FILE.replace("web1", "shop"))
    assert node.definitions.names() == ["shop", "web1"]
    for bad in ("", "[]", "{}", '{"to": null, "crc32": "x"}'):
        (node.definitions.directory / ".web1.renamed").write_text(bad)
        assert node.definitions.names() == ["shop", "web1"]


def test_write_atomic_takes_the_mode_of_another_file(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.touch(0o640)
    other.chmod(0o640)
    write_atomic(tmp_path / "new", b"x", like=other.stat())
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("uid", "environment", "directory"),
    [
        (0, {"HOME": "/root"}, "/etc/hvcore/instances"),
        (0, {"XDG_CONFIG_HOME": "/root/x"}, "/etc/hvcore/instances"),
        (1000, {"HOME": "/home/a"}, "/home/a/.config/hvcore/instances"),
        (1000, {"XDG_CONFIG_HOME": "/home/a/x"}, "/home/a/x/hvcore/instances"),
        (1000, {"XDG_CONFIG_HOME": "x"}, "/etc/hvcore/instances"),
        (1000, {"HVCORE_CONFIG_DIR": "/srv/etc"}, "/srv/etc/instances"),
    ],
)
def test_users_have_their_own_definitions(
    monkeypatch: pytest.MonkeyPatch, uid: int, environment: dict[str, str], directory: str
) -> None:
    for name in ("HOME", "XDG_CONFIG_HOME", "HVCORE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    assert default_definitions_dir() == Path(directory)
