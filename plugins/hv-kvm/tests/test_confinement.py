"""The confinement of a guest's QEMU, read from /proc by hand, and that a weaker one ends the start."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from world import World

import hvcore
import hvcore.plugin
from hv_kvm.qmp import connect

pytestmark = pytest.mark.live

_NO_CAPABILITIES = "0000000000000000"


def status_of(pid: int | str) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


@pytest.fixture
def root_world(root: None, world: World) -> World:
    return world


def test_every_thread_has_its_own_uid_and_nothing_else(root_world: World) -> None:
    world = root_world
    world.start(vcpus=2)
    pid, uid = world.pid(), world.info().details["uid"]
    assert uid in world.uids
    threads = os.listdir(f"/proc/{pid}/task")
    assert len(threads) > 2
    for thread in threads:
        status = status_of(f"{pid}/task/{thread}")
        assert status["Uid"].split() == [str(uid)] * 4
        assert status["Gid"].split() == [str(uid)] * 4
        assert status["Groups"] == ""
        assert {status[key] for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {_NO_CAPABILITIES}
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    for kind in ("mnt", "pid", "ipc", "uts", "net"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")


def test_two_guests_have_two_uids_and_do_not_see_each_other(root_world: World) -> None:
    world = root_world
    for name in ("web1", "web10"):
        world.start(name)
    infos = [world.info(name) for name in ("web1", "web10")]
    assert len({info.details["uid"] for info in infos}) == 2
    assert len({os.readlink(f"/proc/{info.pid}/ns/pid") for info in infos}) == 2
    assert not [name for name in os.listdir(f"/proc/{infos[0].pid}/root") if "web10" in name]


def test_guests_of_two_run_directories_have_two_uids_also_when_a_start_was_killed(root_world: World) -> None:
    """The first guest has no record: its caller died as soon as it was launched."""
    world = root_world
    other = hvcore.Node(world.run_dir.with_name("other"), uid_pool=world.uids)
    starter = os.fork()
    if starter == 0:
        dying = hvcore.Node(world.run_dir, uid_pool=world.uids, progress=_die_when_launched)
        dying.driver("kvm").start(world.instance())
        os._exit(1)
    assert os.WTERMSIG(os.waitpid(starter, 0)[1]) == signal.SIGKILL
    other.driver("kvm").start(world.instance("web2"))
    first, second = status_of(_confined(world)), status_of(str(other.info("web2").pid))
    assert {first["Uid"], second["Uid"]} == {"\t".join([str(uid)] * 4) for uid in world.uids[:2]}
    assert [one.what for one in world.node.recover()] == ["undone"]
    assert other.info("web2").state is hvcore.State.RUNNING
    other.stop("web2", force=True)


def _die_when_launched(text: str) -> None:
    if text == "waiting for QMP":
        os.kill(os.getpid(), signal.SIGKILL)


def _confined(world: World) -> str:
    """The pid of the guest whose start was killed, when it has changed to its final uid."""
    with connect(str(world.dir() / "qmp"), deadline_s=20) as client:
        client.execute("query-status", deadline_s=20)
    return str(hvcore.plugin.read_status(world.dir() / "status").pid)


def test_nothing_but_the_listed_files_is_there_to_see(root_world: World) -> None:
    world = root_world
    kernel = world.root / "vmlinuz"
    shutil.copy(world.disk("k.img"), kernel)
    world.start(cdrom_image_path=world.disk("cd.iso"))
    inside = Path(f"/proc/{world.pid()}/root")
    system = {"bin", "sbin", "lib", "lib64", "lib32", "libx32", "usr"}
    assert {path.name for path in inside.iterdir()} - system == {"dev", "etc", "guest"}
    assert {path.name for path in (inside / "etc").iterdir()} <= {"ld.so.cache"}
    assert {path.name for path in (inside / "guest").iterdir()} == {"events.in", "events.out", "qemu.pid"}
    devices = {path.name for path in (inside / "dev").iterdir() if stat.S_ISCHR(path.lstat().st_mode)}
    assert devices <= {"null", "zero", "full", "random", "urandom", "tty"}
    mounts = [line.split() for line in Path(f"/proc/{world.pid()}/mountinfo").read_text().splitlines()]
    writable = {fields[4] for fields in mounts if "rw" in fields[5].split(",")}
    # A separate file system in memory, and below it the guest's directory.
    assert not {place for place in writable if place.startswith(("/usr", "/etc", "/bin", "/lib", "/proc", "/sys"))}
    assert "/guest" in writable


def test_the_guest_may_not_touch_the_state_of_its_instance(root_world: World) -> None:
    world = root_world
    world.start()
    assert stat.S_IMODE(world.dir().stat().st_mode) == 0o700
    for name in ("record.json", "alive", "status", "log", "qmp"):
        found = (world.dir() / name).stat()
        assert found.st_uid == 0
        assert not stat.S_IMODE(found.st_mode) & 0o077 or stat.S_ISSOCK(found.st_mode)


def test_qemu_gets_no_descriptor_that_it_was_not_given(world: World, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("not for guests")
    fd = os.open(secret, os.O_RDONLY)
    try:
        os.set_inheritable(fd, True)
        world.start()
        monitor = world.record().monitor
        assert monitor is not None
        for pid in (world.pid(), monitor.pid):
            links = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
            assert str(secret) not in links
            assert not [link for link in links if "/locks/" in link]
    finally:
        os.close(fd)


def wrapper(folder: Path, body: str) -> str:
    """A directory for PATH with a bwrap in it that changes its arguments before it calls the real one."""
    folder.mkdir()
    program = folder / "bwrap"
    real = shutil.which("bwrap")
    program.write_text(
        f"#!{sys.executable}\nimport os, sys\nargs = sys.argv[1:]\nif '--args' in args:\n"
        "    at = args.index('--args')\n    with open(int(args[at + 1])) as given:\n"
        "        args[at:at + 2] = given.read().split('\\0')[:-1]\n"
        f"{body}\nos.execv({real!r}, ['bwrap', *args])\n"
    )
    program.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def without(*tokens: str) -> str:
    return f"args = [arg for arg in args if arg not in {tokens!r}]"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (without("--unshare-net"), "net namespace is the host's"),
        (without("--unshare-ipc"), "ipc namespace is the host's"),
        (without("--unshare-uts"), "uts namespace is the host's"),
        (without("--bounding-set=-all"), "CapBnd has more capabilities than allowed"),
        (
            textwrap.dedent(
                """
                args[args.index('--reuid') + 1] = '65533'
                for name in ('', '/events.in', '/events.out'):
                    os.chown(args[args.index('/guest') - 1] + name, 65533, 65533)
                """
            ),
            "Uid is .*65533",
        ),
        ("at = args.index('--regid'); args[at + 1] = '0'", "Gid is .*0"),
        ("args[args.index('--clear-groups')] = '--groups=4,24'", "belongs to groups 4 24"),
        ("at = args.index('-sandbox'); del args[at:at + 2]", "has no seccomp filter"),
    ],
    ids=["net", "ipc", "uts", "capabilities", "uid", "gid", "groups", "seccomp"],
)
def test_a_weaker_confinement_is_seen_and_ends_the_start(
    root_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, reason: str
) -> None:
    world = root_world
    monkeypatch.setenv("PATH", wrapper(tmp_path / "bin", body))
    with pytest.raises(hvcore.HvError, match=f"(?s)web1.*{reason}") as caught:
        world.start(deadline_s=10)
    assert isinstance(caught.value, hvcore.ConfinementError), caught.value
    assert "confinement" in str(caught.value)
    assert world.leftovers() == []


def test_a_sandbox_that_does_nothing_is_seen_too(
    root_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = "args = args[args.index('--') + 1:]; os.execvp(args[0], args)"
    monkeypatch.setenv("PATH", wrapper(tmp_path / "bin", body))
    with pytest.raises(hvcore.OperationError):
        root_world.start(deadline_s=10)
    assert root_world.leftovers() == []


def test_without_bubblewrap_the_error_names_the_package(
    root_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(hvcore.NodeError, match="bwrap: not found on this node; install bubblewrap"):
        root_world.start(deadline_s=10)
    assert root_world.leftovers() == []


def test_confinement_off_is_off_and_says_so(world: World) -> None:
    world.start(confinement="off")
    assert world.info().details["confinement"] == "off"
    assert os.readlink(f"/proc/{world.pid()}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
    assert status_of(world.pid())["Uid"].split()[0] == str(os.geteuid())
    assert world.node.stop("web1", force=True).stopped_by == "quit"


def test_a_kernel_that_only_root_may_read_is_read_all_the_same(root_world: World) -> None:
    world = root_world
    vmlinuz = Path(__file__).resolve().parents[3] / ".cache/kernel/vmlinuz"
    if not vmlinuz.exists():
        pytest.skip("no kernel: ./dev setup")
    kernel = world.root / "vmlinuz"
    shutil.copyfile(vmlinuz, kernel)
    kernel.chmod(0o600)
    world.start(disks=[], kernel_path=str(kernel), kernel_args="panic=1", memory_mib=128)
    assert world.info().state is hvcore.State.RUNNING
    world.node.stop("web1", force=True)
    assert stat.S_IMODE(kernel.stat().st_mode) == 0o600


def python_for_other_users() -> str:
    # To read it, too: setpriv executes it with root's rights, and then it cannot find its library.
    test = "import sys; open(sys.executable, 'rb'); sys.exit(sys.version_info < (3, 11))"
    for candidate in (sys.executable, "/usr/bin/python3"):
        check = [*AS_NOBODY, candidate, "-c", test]
        if subprocess.run(check, check=False, capture_output=True).returncode == 0:
            return candidate
    pytest.skip("no Python 3.11 that user nobody may execute")


AS_NOBODY = (
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--inh-caps=-all",
    "--bounding-set=-all",
    "--",
)
PROGRAM = textwrap.dedent(
    """
    import os, hvcore, sys
    node = hvcore.Node()
    instance = hvcore.Instance(name="web1", driver="kvm", memory_mib=32, disks=(hvcore.Disk(path=sys.argv[1]),),
                               params={"kvm_flag": "disabled", "confinement": sys.argv[2]})
    try:
        print(node.driver("kvm").start(instance, deadline_s=20).state)
    except hvcore.HvError as error:
        sys.exit(f"{type(error).__name__}: {error}\\n{[one.name for one in node.instances()]}")
    info = node.info("web1")
    print(info.details["confinement"], info.resident_mib > 5, node.run_dir)
    print([os.readlink(f"/proc/{info.pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")
           for kind in ("user", "mnt", "pid", "net")])
    node.pause("web1")
    node.resume("web1")
    print(node.stop("web1", force=True).stopped_by, node.instances())
    """
)


@pytest.fixture
def public(worlds: Callable[..., World]) -> Iterator[World]:
    """A node in a directory that every user may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="hvcore-") as folder:
        os.chmod(folder, 0o755)
        yield worlds(Path(folder))


@pytest.fixture
def as_nobody(root: None, public: World) -> Callable[..., subprocess.CompletedProcess[str]]:
    world = public
    session = world.root / "session"
    session.mkdir(mode=0o700)
    os.chown(session, 65534, 65534)
    disk = world.disk("nobody.img")
    os.chown(disk, 65534, 65534)
    folders = [path for path in sys.path if path and "python3" not in Path(path).name and "lib-dynload" not in path]
    # Editable installs are found by .pth files, which only count in the interpreter's own environment.
    project = Path(__file__).resolve().parents[3]
    folders += [str(project), *map(str, project.glob("plugins/*/src"))]
    if subprocess.run([*AS_NOBODY, "test", "-r", str(project / "hvcore")], check=False).returncode != 0:
        pytest.skip("user nobody may not read this checkout")
    if hvcore.plugin.with_own_root():
        pytest.skip("the kernel makes no user namespaces in a chroot")

    def run(confinement: str, *prefix: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": str(session), "PYTHONPATH": ":".join(folders)}
        command = [*(prefix or AS_NOBODY), python_for_other_users(), "-P", "-c", PROGRAM, disk, confinement]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, timeout=300, cwd="/"
        )

    return run


@pytest.mark.parametrize("confinement", ["auto", "user"])
def test_without_root_a_user_namespace_confines(
    as_nobody: Callable[..., subprocess.CompletedProcess[str]], public: World, confinement: str
) -> None:
    done = as_nobody(confinement)
    assert done.returncode == 0, done.stderr
    state, details, namespaces, stopped_by = done.stdout.splitlines()
    assert (state, namespaces, stopped_by) == ("running", "[True, True, True, True]", "quit []")
    assert details == f"user True {public.root}/session/hvcore"


def test_without_root_strict_is_refused_with_what_to_do(
    as_nobody: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = as_nobody("strict")
    assert done.returncode == 1
    assert "VerifyError" in done.stderr
    assert "params.confinement: needs root, to run the guest with its own uid" in done.stderr
    assert done.stderr.splitlines()[-1] == "[]"


def test_where_user_namespaces_are_refused_the_error_says_so(
    as_nobody: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    forbid = 'echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --inh-caps=-all --ambient-caps=-all -- "$@"'
    prefix = ("unshare", "--user", "--map-user=65534", "--map-group=65534", "--keep-caps", "sh", "-c", forbid, "sh")
    if subprocess.run([*AS_NOBODY, *prefix, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("cannot make a user namespace in which there can be no more")
    done = as_nobody("user", *AS_NOBODY, *prefix)
    assert done.returncode == 1
    assert "user namespace" in done.stderr
    assert 'confinement = "off"' in done.stderr
    assert done.stderr.splitlines()[-1] == "[]"
