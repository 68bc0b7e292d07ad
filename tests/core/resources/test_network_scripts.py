"""Scripts of the operator: Ganeti's contract, and every way in which a script fails."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from empty_network import Network, empty_network
from fixture_types import InChild
from killed import at_event, count, die

from hvcore.host.cgroups.group import Group
from hvcore.host.cgroups.hierarchy import control_groups, program_group_name
from hvcore.host.launching.launch import reap
from hvcore.host.network.link_names import link_name
from hvcore.host.processes.launched import members
from hvcore.model.record import LIFE_LOCK, STATUS, of_program
from hvcore.plugin import (
    Instance,
    Job,
    NetworkScripts,
    Nic,
    OperationError,
    Site,
    Tap,
    identify,
    script_environment,
    wait_gone,
)
from hvcore.resources.core_kinds import CORE_KINDS
from hvcore.resources.network_scripts import NetworkScriptsKind
from hvcore.resources.owner import REPORTED

AtWork = Callable[..., Job]
Sites = Callable[..., Site]
pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/dev/net/tun"), reason="needs root and /dev/net/tun"),
]
MAC = "52:54:00:11:22:33"
TAP = Tap(key="nic0.tap", given_by="nics[0].mode", mac=MAC)
KEY = "nic0.scripts"
ENVIRONMENT = script_environment(
    Instance(
        name="web1",
        driver="kvm",
        nics=(Nic(mode="bridged", link="br0", mac=MAC, ip=("192.0.2.7/24", "fd00::7")),),
        tags=("web", "owner:ops"),
    ),
    0,
)
CONNECTS = 'ip link set "$INTERFACE" up && ip link set "$INTERFACE" master "$LINK"'


@pytest.fixture(autouse=True)
def net() -> Iterator[Network]:
    with empty_network() as found:
        found.bridge()
        yield found
    reap()


class Scripts:
    """Writes the scripts of a NIC, as shell commands."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def write(self, name: str, text: str, *, first: str = "#!/bin/bash\n", mode: int = 0o755) -> str:
        path = self.place / name
        path.write_text(f"{first}{text}\n")
        path.chmod(mode)
        return str(path)

    def __call__(self, up: str | None, down: str | None = None, /, **fields: Any) -> NetworkScripts:
        given: dict[str, Any] = {
            "key": KEY,
            "given_by": "params.network_up_script",
            "down_given_by": "params.network_down_script",
            "bridge_given_by": "nics[0].link",
            "link": TAP,
            "up": None if up is None else self.write("up", up),
            "down": None if down is None else self.write("down", down),
            "mode": "bridged",
            "bridge": "br0",
            "environment": ENVIRONMENT,
        }
        return NetworkScripts(**(given | fields))


@pytest.fixture
def scripts(tmp_path: Path) -> Scripts:
    return Scripts(tmp_path)


def tap_of(job: Job) -> str:
    return link_name(job.host.run_dir, job.name, TAP.key)


def reported(job: Job) -> list[str]:
    return list(job.record.bindings.get(REPORTED, ()))


def gone(pid: int) -> bool:
    process = identify(pid)
    return process is None or wait_gone(process, 20.0)


def variables(file: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in file.read_text().splitlines())


def test_scripts_have_the_environment_and_the_argument_of_ganeti(
    at_work: AtWork, scripts: Scripts, net: Network, tmp_path: Path
) -> None:
    seen = shlex.quote(str(tmp_path))
    job = at_work()
    job.acquire(scripts(f"env > {seen}/env; echo $# $1 > {seen}/argv; {CONNECTS}", f"env > {seen}/env-down"))
    tap, found = tap_of(job), variables(tmp_path / "env")
    assert {key: found[key] for key, _ in ENVIRONMENT} == dict(ENVIRONMENT)
    assert (found["INTERFACE"], found["ACTION"], found["IP"], found["TAGS"]) == (
        tap,
        "up",
        "192.0.2.7",
        "web owner:ops",
    )
    assert {"/usr/sbin", "/sbin"} <= set(found["PATH"].split(":"))
    assert (tmp_path / "argv").read_text() == f"1 {tap}\n"
    assert "master br0" in net.about(tap)
    NetworkScriptsKind().prove(scripts(None, up="up"), job.held.site, job)
    job.release()
    after = variables(tmp_path / "env-down")
    assert after.pop("ACTION") == "down"
    assert {**found, "ACTION": "down"}.keys() == {*after, "ACTION"}
    assert reported(job) == []


def test_a_script_gets_nothing_of_the_caller(
    at_work: AtWork, scripts: Scripts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_CALLER", "x")
    monkeypatch.setenv("PATH", f"/nowhere:{os.environ['PATH']}")
    job = at_work()
    fd = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(fd, True)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        facts = "grep ^Sig /proc/self/status; readlink /proc/self/fd/*; pwd; umask"
        job.acquire(scripts(f"env > {tmp_path}/env; ({facts}) > {tmp_path}/facts; {CONNECTS}"))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGHUP, ignored)
        os.close(fd)
    environment, facts = variables(tmp_path / "env"), (tmp_path / "facts").read_text()
    assert "SECRET_OF_THE_CALLER" not in environment
    assert "/nowhere" not in environment["PATH"]
    assert f"SigBlk:\t{0:016x}" in facts
    assert f"SigIgn:\t{0:016x}" in facts
    files = {line for line in facts.splitlines() if line.startswith("/")}
    # The only file of ours is the one by which the script is found; it is not locked.
    ours = {file for file in files if str(job.host.run_dir) in file}
    assert ours == {str(job.dir / of_program(KEY, LIFE_LOCK))}
    assert str(tmp_path) not in files
    assert not {file for file in files if "/dev/net" in file}
    assert facts.splitlines()[-2:] == ["/", "0022"]


@pytest.mark.parametrize(
    ("up", "message"),
    [
        ("echo no such vlan >&2; exit 3", 'exited with 3: "no such vlan"'),
        ("exit 3", "exited with 3, without output"),
        ("kill -9 $$", "was killed by SIGKILL"),
        ("true", "succeeded, but interface TAP is down"),
        ("ip link set $INTERFACE up", "succeeded, but interface TAP is not a port of bridge br0"),
        ('ip link set "$INTERFACE" up; ip link set "$INTERFACE" master nope; exit 0', "is not a port of bridge br0"),
        (f"ip link add br7 type bridge; {CONNECTS.replace('$LINK', 'br7')}", "is not a port of bridge br0"),
        (f"{CONNECTS}; ip link set $INTERFACE name other0", "interface TAP does not exist any more"),
    ],
)
def test_a_script_that_fails_or_did_nothing_fails_the_start_and_is_undone(
    at_work: AtWork, scripts: Scripts, net: Network, tmp_path: Path, up: str, message: str
) -> None:
    job = at_work()
    with pytest.raises(OperationError) as caught:
        job.acquire(scripts(up, f"echo $ACTION >> {tmp_path}/ran"))
    assert str(caught.value).startswith("web1: params.network_up_script: ")
    assert message.replace("TAP", tap_of(job)) in str(caught.value)
    job.release()
    assert (tmp_path / "ran").read_text() == "down\n"
    assert reported(job) == []
    assert net.links() - {"br7"} == {"br0"}


def test_only_the_mode_says_what_a_script_must_have_done(at_work: AtWork, scripts: Scripts) -> None:
    at_work().acquire(scripts("true", mode="ext", bridge=None))
    with pytest.raises(OperationError, match="is down"):
        at_work("web2").acquire(scripts("true", mode="routed", bridge=None))
    at_work("web3").acquire(scripts("ip link set $INTERFACE up", mode="routed", bridge=None))


def test_a_link_that_leaves_its_bridge_during_the_start_is_noticed(
    at_work: AtWork, scripts: Scripts, net: Network
) -> None:
    job, wanted = at_work(), scripts(CONNECTS)
    job.acquire(wanted)
    net.ip("link", "set", tap_of(job), "nomaster")
    with pytest.raises(
        OperationError, match="is not a port of bridge br0; another program changed it during the start"
    ):
        NetworkScriptsKind().prove(wanted, job.held.site, job)


def test_a_script_that_hangs_is_killed_with_what_it_started(at_work: AtWork, scripts: Scripts, tmp_path: Path) -> None:
    job = at_work()
    hangs = f"setsid sleep 100 & echo $! > {tmp_path}/child; sleep 100"
    with pytest.raises(OperationError, match=r"did not end within 0\.5 s and was killed"):
        job.acquire(scripts(hangs, deadline_s=0.5))
    assert gone(int((tmp_path / "child").read_text()))


def test_a_script_that_floods_its_output_is_cut_off(at_work: AtWork, scripts: Scripts) -> None:
    job = at_work()
    with pytest.raises(OperationError, match="exited with 1") as caught:
        job.acquire(scripts("yes flood | head -c 3000000; echo the cause >&2; exit 1"))
    assert len(str(caught.value)) < 1000


def test_a_script_that_forks_without_end_is_stopped(at_work: AtWork, scripts: Scripts) -> None:
    job = at_work()
    forks = "for n in $(seq 20); do (while :; do sleep 0.01 & wait; done) & done; wait"
    with pytest.raises(OperationError, match="was killed"):
        job.acquire(scripts(forks, deadline_s=0.5))
    life, status = (job.dir / of_program(KEY, file) for file in (LIFE_LOCK, STATUS))
    assert members(life, status) == []


def test_what_a_script_leaves_running_ends_with_the_nic(
    at_work: AtWork, scripts: Scripts, tmp_path: Path, net: Network
) -> None:
    job = at_work(cgroups=control_groups())
    job.acquire(scripts(f"setsid sleep 100 >/dev/null 2>&1 & echo $! > {tmp_path}/child; {CONNECTS}"))
    child = int((tmp_path / "child").read_text())
    assert identify(child) is not None
    job.release()
    assert gone(child)
    assert not any(map(os.path.exists, group_of(job).directories))


def group_of(job: Job) -> Group:
    return Group(program_group_name(job.host.run_dir, job.name, KEY), job.host.cgroups)


def test_a_failure_to_disconnect_is_reported_and_keeps_nothing_back(
    at_work: AtWork, scripts: Scripts, net: Network, tmp_path: Path
) -> None:
    job = at_work()
    wanted = scripts(CONNECTS, f"echo x >> {tmp_path}/ran; echo no such route >&2; exit 7")
    job.acquire(wanted)
    tap = tap_of(job)
    job.release()
    assert reported(job) == [f'{wanted.down} for {tap} exited with 7: "no such route"']
    assert net.links() == {"br0"}
    job.release(KEY)
    assert (tmp_path / "ran").read_text() == "x\n"


def test_a_script_to_disconnect_that_hangs_or_is_gone_is_reported(at_work: AtWork, scripts: Scripts) -> None:
    job = at_work()
    job.acquire(scripts(CONNECTS, "sleep 100", deadline_s=1.0))
    job.release()
    assert "did not end within 1.0 s and was killed" in reported(job)[0]
    other = at_work("web2")
    wanted = scripts(CONNECTS, "true")
    other.acquire(wanted)
    os.unlink(str(wanted.down))
    other.release()
    assert "cannot be run (No such file or directory)" in reported(other)[0]


def test_a_nic_is_connected_and_disconnected_alone(at_work: AtWork, scripts: Scripts, tmp_path: Path) -> None:
    first = scripts(CONNECTS, f"echo $INTERFACE >> {tmp_path}/ran")
    other = replace(TAP, key="nic1.tap")
    job = at_work()
    job.acquire(first, replace(first, key="nic1.scripts", link=other))
    taps = tap_of(job), link_name(job.host.run_dir, job.name, other.key)
    job.release("nic1.scripts", "nic1.tap")
    assert (tmp_path / "ran").read_text() == f"{taps[1]}\n"
    assert [entry.key for entry in job.record.ledger] == ["nic0.tap", "nic0.scripts"]
    job.release()
    assert (tmp_path / "ran").read_text() == f"{taps[1]}\n{taps[0]}\n"


def test_a_script_of_a_nic_that_was_never_connected_does_not_run(
    at_work: AtWork, scripts: Scripts, tmp_path: Path
) -> None:
    job = at_work()
    second = replace(scripts("exit 1", f"echo $INTERFACE >> {tmp_path}/ran"), key="nic1.scripts")
    with pytest.raises(OperationError):
        job.acquire(second, replace(second, key="nic2.scripts"))
    job.release()
    assert (tmp_path / "ran").read_text() == f"{tap_of(job)}\n"


def test_a_script_to_disconnect_alone_runs_once(at_work: AtWork, scripts: Scripts, tmp_path: Path) -> None:
    job = at_work()
    job.acquire(scripts(None, f"echo $ACTION >> {tmp_path}/ran"))
    NetworkScriptsKind().prove(scripts(None), job.held.site, job)
    job.release()
    assert (tmp_path / "ran").read_text() == "down\n"


def test_after_a_crash_the_script_to_disconnect_runs_once(
    at_work: AtWork, in_child: InChild, scripts: Scripts, tmp_path: Path
) -> None:
    wanted = scripts(CONNECTS, f"echo $INTERFACE >> {tmp_path}/ran")

    def starts_and_dies() -> None:
        at_work().acquire(wanted)
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(starts_and_dies) == signal.SIGKILL
    again = at_work()
    again.release()
    again.update(ledger=())
    at_work().release()
    assert (tmp_path / "ran").read_text() == f"{tap_of(again)}\n"


def test_a_script_whose_caller_was_killed_is_ended_before_the_other_one_runs(
    at_work: AtWork, in_child: InChild, scripts: Scripts, tmp_path: Path
) -> None:
    # The script to connect kills its caller, and goes on.
    up = f"echo $$ > {tmp_path}/up-pid; kill -9 $PPID; sleep 100"
    down = f"tr -d '\\0' </proc/$(cat {tmp_path}/up-pid)/cmdline | grep -q . && echo alive > {tmp_path}/seen; true"
    wanted = scripts(up, down)
    assert in_child(lambda: at_work().acquire(wanted)) == signal.SIGKILL
    job = at_work()
    job.release()
    assert reported(job) == []
    assert not (tmp_path / "seen").exists()
    assert gone(int((tmp_path / "up-pid").read_text()))


def test_a_release_that_is_killed_after_the_script_does_not_run_it_again(
    at_work: AtWork, scripts: Scripts, tmp_path: Path
) -> None:
    job = at_work()
    job.acquire(scripts(CONNECTS, f"echo x >> {tmp_path}/ran"))
    entries = job.record.ledger
    CORE_KINDS.release([entry for entry in entries if entry.kind == "network-scripts"], job)
    assert [entry.data.get("disconnected") for entry in job.record.ledger if entry.kind == "network-scripts"] == [True]
    job.release()
    assert (tmp_path / "ran").read_text() == "x\n"


@pytest.mark.heavy  # a process for each step
@pytest.mark.parametrize("what", ["acquire", "release"])
def test_wherever_the_caller_is_killed_the_link_is_disconnected_and_nothing_is_left(
    at_work: AtWork, in_child: InChild, scripts: Scripts, net: Network, run_dir: Path, what: str
) -> None:
    ran = scripts.place / "ran"
    wanted = scripts(CONNECTS, f"echo x >> {ran}")

    def act() -> None:
        if what == "acquire":
            at_work().acquire(wanted)
        else:
            at_work().release()

    def before() -> None:
        at_work().update(ledger=())
        ran.unlink(missing_ok=True)
        if what == "release":
            assert in_child(lambda: at_work().acquire(wanted)) == 0

    before()
    total = count(in_child, act, run_dir)
    at_work().release()
    assert total > 5
    for number in range(1, total + 1):
        before()

        def killed(number: int = number) -> None:
            at_event(number, die, run_dir)
            act()

        assert in_child(killed) == signal.SIGKILL
        job = at_work()
        connected = any(entry.data.get("name") for entry in job.record.ledger if entry.key == KEY)
        job.release()
        assert net.links() == {"br0"}
        lines = ran.read_text() if ran.exists() else ""
        # Killed between the script's end and the note of it, a release runs it once more.
        assert lines in ("x\n", "x\nx\n") if connected else lines == ""


@pytest.mark.parametrize(
    ("start", "what", "todo"),
    [
        (("#!/bin/sh\n", 0o644), "is not executable", "use chmod +x "),
        (
            ("#!/bin/sh\n", 0o757),
            "can be changed by others, uid 0, mode 0757",
            "name a program that only root can change",
        ),
        (
            ("", 0o755),
            "has no interpreter, because it does not begin with '#!'",
            "add a first line such as '#!/bin/sh'",
        ),
        (("#!/bin/no\n", 0o755), "needs the interpreter '/bin/no', which is not a program of this node", "install "),
        (
            ("#!/usr/bin/env no-such\n", 0o755),
            "needs the interpreter 'no-such', which is not in the PATH of scripts",
            "",
        ),
        (("#!/bin/sh\r\n", 0o755), "has Windows line ends (CRLF)", "convert it with sed"),
    ],
)
def test_scripts_that_cannot_or_should_not_run_are_refused_before_and_at_the_start(
    at_work: AtWork, scripts: Scripts, site: Sites, start: tuple[str, int], what: str, todo: str
) -> None:
    first, mode = start
    wanted = scripts(None, up=scripts.write("odd", "true", first=first, mode=mode))
    (problem,) = NetworkScriptsKind().verify(wanted, site())
    assert problem.path == "params.network_up_script"
    assert problem.what.startswith(what)
    assert (problem.todo or "").startswith(todo)
    with pytest.raises(OperationError) as caught:
        at_work().acquire(wanted)
    assert what in str(caught.value)


def test_a_missing_bridge_or_script_is_refused_before_the_start(scripts: Scripts, site: Sites, tmp_path: Path) -> None:
    wanted = scripts("true", "true")
    found = list(NetworkScriptsKind().verify(replace(wanted, bridge="br9"), site()))
    assert [str(problem) for problem in found] == [
        "nics[0].link: does not exist on this node, got 'br9'; create it: ip link add br9 type bridge; or name another"
    ]
    for path, what in (
        ("/no/such", "cannot be run (No such file or directory)"),
        (str(tmp_path), "is not a file"),
        (f"{wanted.up}/x", "cannot be run (Not a directory)"),
    ):
        (problem,) = NetworkScriptsKind().verify(replace(wanted, down=path), site())
        assert (problem.path, problem.what) == ("params.network_down_script", what)
    assert list(NetworkScriptsKind().verify(wanted, site())) == []


def test_steps_of_a_plan(scripts: Scripts, site: Sites) -> None:
    wanted = scripts("true", "true")
    assert [step.what for step in NetworkScriptsKind().describe(wanted, site())] == [
        f"{wanted.up} connects nic0.tap (mode bridged)",
        f"{wanted.down} disconnects nic0.tap, after the instance has ended",
    ]
