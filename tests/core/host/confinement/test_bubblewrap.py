"""Confinement: the command, and the proof that reports each missing part."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixture_types import Eventually

from hvcore.host.confinement.bubblewrap import sandboxed
from hvcore.host.confinement.own_root import with_own_root
from hvcore.model.sandbox import capability_mask
from hvcore.plugin import AsCaller, AsRoot, AsUser, HeldNamespaces, Sandbox, View, weaknesses

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
UID = 1_880_000_007
STRICT = Sandbox(
    who=AsUser(UID, groups=(36, 104)),
    view=View(
        read_only=(("/srv/ro", "/ro"),),
        writable=(("/srv/guest dir", "/guest"),),
        devices=(("/dev/kvm", "/dev/kvm"),),
    ),
    hostname="web1",
    environment=(("LC_ALL", "C"),),
)
AS_ROOT = Sandbox(
    who=AsRoot(capabilities=("CAP_CHOWN", "CAP_KILL")), view=View(root="/srv/root", proc=True), reaper=True
)


def words(sandbox: Sandbox, *argv: str) -> str:
    return " ".join(sandboxed(sandbox, argv, 9, 5).argv)


def without_usr(text: str) -> str:
    """Which of /bin and /lib64 are links differs between systems."""
    head, _, tail = text.partition("--ro-bind /usr /usr")
    return head + tail[tail.index("--perms 0755 --dir /etc") :] if tail else head


def test_an_unprivileged_guest_gets_its_own_uid_and_nothing_else() -> None:
    assert without_usr(words(STRICT, "qemu", "-S")) == (
        "bwrap --json-status-fd 9 --unshare-pid --unshare-ipc --unshare-uts --unshare-net --as-pid-1 --hostname web1 "
        "--perms 0755 --dir /etc --ro-bind-try /etc/ld.so.cache /etc/ld.so.cache --dev /dev "
        "--perms 0755 --dir /dev --dev-bind /dev/kvm /dev/kvm --ro-bind /srv/ro /ro --bind /srv/guest dir /guest "
        "--chdir / --clearenv --setenv LC_ALL C -- "
        f"setpriv --reuid {UID} --regid {UID} --groups 36,104 --inh-caps=-all --bounding-set=-all --no-new-privs -- "
        "qemu -S"
    )


def test_an_instance_with_its_own_root_keeps_only_the_listed_capabilities() -> None:
    text = words(AS_ROOT, "/sbin/init")
    assert without_usr(text).startswith(
        "bwrap --perms 0755 --dir /etc --ro-bind-try /etc/ld.so.cache /etc/ld.so.cache --dev /dev "
        "--dev-bind /proc /proc --bind /srv/root /tmp -- "
        "setpriv --inh-caps=-all,+chown,+dac_override,+kill,+net_admin,+setpcap,+sys_admin,+sys_chroot -- "
        "setpriv --bounding-set=-all,+chown,+kill -- bwrap --json-status-fd 9 --sync-fd 5 "
    )
    assert "--cap-drop ALL --cap-add CAP_CHOWN --cap-add CAP_KILL --bind /tmp / --dev /dev --proc /proc" in text
    assert "--ro-bind-try /proc/sys /proc/sys" in text
    assert text.endswith(" --chdir / --clearenv -- /sbin/init")
    assert "--as-pid-1" not in text


def test_without_root_a_user_namespace_is_made() -> None:
    text = words(Sandbox(who=AsCaller(), share_network=True), "qemu")
    assert text.startswith("bwrap --json-status-fd 9 --unshare-pid --unshare-ipc --unshare-uts --unshare-user ")
    assert "--unshare-net" not in text
    # Only root needs a prefix: bubblewrap leaves it the capabilities of the namespace, and other users none.
    assert ("setpriv --inh-caps=-all --bounding-set=-all --no-new-privs -- qemu" in text) == (os.geteuid() == 0)


def test_a_user_of_the_node_keeps_that_gid() -> None:
    assert " --reuid 5 --regid 60 " in words(Sandbox(who=AsUser(5, 60)), "qemu")


def test_without_groups_all_supplementary_groups_are_dropped() -> None:
    assert " --clear-groups " in words(Sandbox(who=AsUser(UID)), "qemu")


@pytest.mark.parametrize("sandbox", [STRICT, AS_ROOT, Sandbox(who=AsCaller())], ids=["strict", "root", "user"])
def test_the_command_can_never_become_an_option_and_outlives_us(sandbox: Sandbox) -> None:
    argv = sandboxed(sandbox, ("--bind", "/", "/"), 9).argv
    assert argv[-4:] == ("--", "--bind", "/", "/")
    assert "--die-with-parent" not in argv
    assert "--clearenv" in argv


@pytest.mark.parametrize("users", [True, False], ids=["users", "network"])
def test_the_outermost_bubblewrap_can_read_its_options_later(*, users: bool) -> None:
    own = range(1_900_019_712, 1_900_085_248) if users else None
    sandbox = replace(AS_ROOT, who=AsRoot(users=own), environment=(("DASHES", "--"), ("B", "bwrap")))
    parts = sandboxed(sandbox, ("/init",), 9, held=HeldNamespaces(pid=77, users=users, network=True))
    joins = ("nsenter", *(["--user=/proc/77/ns/user"] if users else []), "--net=/proc/77/ns/net", "--", "setpriv")
    assert parts.before == ("bwrap",)
    assert " ".join(joins) in " ".join(parts.argv)
    assert parts.after[0] == "--"
    assert "--unshare-net" not in parts.argv
    # The users inside cannot enter the directory of the root: it is shown in another place.
    assert "--bind /tmp / " in " ".join(parts.argv)


def test_capabilities_become_the_bits_of_proc() -> None:
    assert capability_mask(("CAP_CHOWN", "CAP_KILL", "CAP_SETFCAP")) == 1 | 1 << 5 | 1 << 31


# The tests below leave out one protection each. They run bwrap and setpriv without hvcore for that.

PLAIN = Sandbox(who=AsUser(UID))
BWRAP = ["bwrap", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net", "--as-pid-1"]
FILES = ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
SETPRIV = ["setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups", "--inh-caps=-all"]
# bubblewrap always sets no_new_privs; util-linux does not.
UNSHARE = [
    "unshare",
    "--fork",
    *(("--propagation", "unchanged") if with_own_root() else ()),
    "--mount",
    "--pid",
    "--ipc",
    "--uts",
    "--net",
    "--",
    *SETPRIV,
    "--bounding-set=-all",
    "--",
]
FULL = [*BWRAP, *FILES, "--", *SETPRIV, "--bounding-set=-all", "--no-new-privs", "--", "sleep", "100"]


@contextmanager
def running(argv: list[str], eventually: Eventually) -> Any:
    """The pid of the innermost ``sleep`` or ``python`` that the command becomes."""
    if "bwrap" in argv:
        argv = [*with_own_root(), *argv]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL) as popen:
        found: list[int] = []

        def there() -> bool:
            assert popen.poll() is None, "it did not start"
            pid = popen.pid
            while below := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                pid = int(below[0])
            found[:] = [pid]
            cmdline = Path(f"/proc/{pid}/cmdline").read_bytes()
            return cmdline == b"sleep\x00100\x00" or (
                cmdline.startswith(os.fsencode(sys.executable)) and b"own_root" not in cmdline
            )

        try:
            eventually(there)
            yield found[0]
        finally:
            if found:
                with suppress(ProcessLookupError):
                    os.kill(found[0], 9)
            popen.kill()


def changed(remove: str, *add: str) -> list[str]:
    """FULL without one word (and its value, if it is written with one), with others in its place."""
    argv = list(FULL)
    at = argv.index(remove)
    argv[at : at + 1] = add
    return argv


@pytest.mark.live
@ROOT
def test_a_complete_sandbox_has_no_weakness(eventually: Eventually) -> None:
    with running(FULL, eventually) as pid:
        assert weaknesses(PLAIN, pid) == []


LEFT_OUT = [
    (changed("--unshare-ipc"), "ipc namespace is the host's"),
    (changed("--unshare-uts"), "uts namespace is the host's"),
    (changed("--unshare-net"), "net namespace is the host's"),
    ([word for word in FULL if word not in {"--unshare-pid", "--as-pid-1"}], "pid namespace is the host's"),
    (FULL[FULL.index("setpriv") :], "mnt namespace is the host's"),
    ([*UNSHARE, "sleep", "100"], "may gain privileges"),
    (changed("--bounding-set=-all"), "CapBnd has more capabilities than allowed"),
    (changed("--bounding-set=-all", "--bounding-set=-all,+chown"), "CapBnd has more capabilities than allowed, 0x1"),
    (
        [*BWRAP, *FILES, "--", *SETPRIV[:-1], "--inh-caps=-all,+kill", "--", "sleep", "100"],
        "CapInh has more capabilities than allowed",
    ),
    (changed("--clear-groups", "--groups", "6"), "belongs to groups 6"),
    (changed("--regid", "--egid"), "Gid is"),
    ([word if word != str(UID) else str(UID + 1) for word in FULL], f"Uid is ['{UID + 1}'"),
    ([*BWRAP, *FILES, "--", "setpriv", "--no-new-privs", "--clear-groups", "--", "sleep", "100"], "CapEff has more"),
    ([*BWRAP, *FILES, "--", "setpriv", "--no-new-privs", "--clear-groups", "--", "sleep", "100"], "CapPrm has more"),
]


@pytest.mark.live
@ROOT
@pytest.mark.parametrize(("argv", "weakness"), LEFT_OUT, ids=[weakness for _, weakness in LEFT_OUT])
def test_each_missing_protection_is_reported(argv: list[str], weakness: str, eventually: Eventually) -> None:
    with running(argv, eventually) as pid:
        found = weaknesses(PLAIN, pid)
        assert any(weakness in text for text in found), found


def test_an_exited_process_is_reported_as_exited_only() -> None:
    """Its namespaces cannot be read any more, which is not a weakness."""
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert weaknesses(PLAIN, child.pid) == [f"process {child.pid} has already exited"]
    assert weaknesses(PLAIN, child.pid) == [f"process {child.pid} has already exited"]


@pytest.mark.live
@ROOT
def test_ambient_capabilities_are_reported(eventually: Eventually) -> None:
    ambient = ["--inh-caps=-all,+kill", "--ambient-caps=-all,+kill", "--no-new-privs", "--", "sleep", "100"]
    argv = [*BWRAP, *FILES, "--", *SETPRIV[:-1], *ambient]
    with running(argv, eventually) as pid:
        assert any("CapAmb has more capabilities than allowed, 0x20" in text for text in weaknesses(PLAIN, pid))


@pytest.mark.live
@ROOT
def test_a_missing_seccomp_filter_is_reported(eventually: Eventually) -> None:
    with running(FULL, eventually) as pid:
        (only,) = weaknesses(Sandbox(who=AsUser(UID), seccomp=True), pid)
        assert only.endswith("has no seccomp filter")


@pytest.mark.live
@ROOT
def test_every_thread_is_checked(eventually: Eventually) -> None:
    """Credentials belong to a thread: one thread with privileges is enough."""
    # The thread is made first, so that it does not inherit no_new_privs.
    script = (
        "import ctypes, threading, time\n"
        "threading.Thread(target=time.sleep, args=(100,), daemon=True).start()\n"
        "ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)\n"
        "time.sleep(100)\n"
    )
    argv = [*UNSHARE, sys.executable, "-c", script]
    with running(argv, eventually) as pid:
        eventually(lambda: len(os.listdir(f"/proc/{pid}/task")) == 2)
        eventually(lambda: "NoNewPrivs:\t1" in Path(f"/proc/{pid}/status").read_text())
        (only,) = weaknesses(PLAIN, pid)
        assert only.startswith("thread ")
        assert f"thread {pid}:" not in only
        assert "may gain privileges" in only


@pytest.mark.live
@ROOT
def test_a_root_that_can_write_to_proc_sys_is_reported(eventually: Eventually) -> None:
    sandbox = Sandbox(who=AsRoot(), view=View(proc=True))
    argv = list(sandboxed(sandbox, ("sleep", "100"), 1).argv)
    at = argv.index("/proc/sys")
    del argv[at - 1 : at + 2]
    with running(argv, eventually) as pid:
        assert weaknesses(sandbox, pid) == ["/proc/sys can be written to"]


@pytest.mark.live
@ROOT
def test_the_command_of_a_sandbox_has_no_weakness(eventually: Eventually) -> None:
    for sandbox in (
        Sandbox(who=AsUser(UID), hostname="web1"),
        Sandbox(who=AsUser(UID, groups=(6,)), view=View(proc=True), share_network=True),
        Sandbox(who=AsRoot(capabilities=("CAP_CHOWN", "CAP_SETUID")), view=View(proc=True)),
        Sandbox(who=AsRoot(), view=View(proc=True), reaper=True),
    ):
        argv = sandboxed(sandbox, ("sleep", "100"), 1).argv
        with running(list(argv), eventually) as pid:
            assert weaknesses(sandbox, pid) == []


@pytest.mark.live
@ROOT
def test_a_user_without_privileges_is_confined_by_a_user_namespace(eventually: Eventually) -> None:
    sandbox = Sandbox(who=AsCaller())
    become = ["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups", "--"]
    probe = subprocess.run([*become, "unshare", "-U", "true"], check=False, capture_output=True)
    if probe.returncode != 0:
        pytest.skip("no user namespaces for users here")
    with running([*become, *sandboxed(sandbox, ("sleep", "100"), 1).argv], eventually) as pid:
        assert weaknesses(sandbox, pid) == []
        assert int(Path(f"/proc/{pid}/status").read_text().split("Uid:\t")[1].split()[0]) == 12345


def test_with_confinement_off_nothing_is_checked() -> None:
    assert weaknesses(None, os.getpid()) == []


@pytest.mark.live
@ROOT
def test_only_a_program_that_may_make_users_itself_has_a_full_bounding_set(eventually: Eventually) -> None:
    inner = ("unshare", "--user", "setpriv", "--inh-caps=-all", "sleep", "100")
    for who in (AsUser(UID), AsCaller()):
        sandbox = Sandbox(who=who, view=View(proc=True, empty=("/tmp",)), own_users=True)
        argv = sandboxed(sandbox, inner, 1).argv
        with running(list(argv), eventually) as pid:
            eventually(lambda pid=pid: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
            assert weaknesses(sandbox, pid) == []
            found = weaknesses(replace(sandbox, own_users=False), pid)
            assert found
            assert all("CapBnd has more capabilities than allowed" in one for one in found)
