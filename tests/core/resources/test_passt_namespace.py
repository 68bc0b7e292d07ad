"""passt of a user who is not root, in a network namespace: what is reached from there, and that nothing is left of it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from another_user import as_user as as_command
from another_user import become_user, environment
from killed import at_event, count, die
from node_and_internet import NODE, OUTSIDE, PORT, PRIVATE, Target, node_and_internet, reached_by, run

from hvcore.host.launching.launch import reap
from hvcore.host.network import pasta
from hvcore.host.network.installed_passt import passt_options
from hvcore.host.network.nft import find_nft
from hvcore.host.network.pasta import child_of
from hvcore.host.processes.launched import members
from hvcore.model.network.passt_arguments import CLOSES_LOOPBACK
from hvcore.model.record import ProcessId
from hvcore.plugin import (
    Egress,
    Job,
    Level,
    OperationError,
    Site,
    UserNetwork,
    alive,
    forward_of,
    identify,
    kill_and_wait,
    wait_gone,
)
from hvcore.resources.core_kinds import CORE_KINDS
from hvcore.resources.passt_namespace import REFUSED
from hvcore.resources.program import PROGRAMS

AtWork = Callable[..., Job]
InChild = Callable[..., int]
PASST = "/usr/bin/passt"
PYTHON = shutil.which("python3", path=os.defpath) or ""  # of the node: the user can execute it
ADDRESSES = {*NODE, *OUTSIDE, *PRIVATE, "127.0.0.1", "::1"}
REACHED = {"none": set(), "internet": {*OUTSIDE}, "all": {*NODE, *OUTSIDE, *PRIVATE}}


def network(policy: str = "internet", *forwards: str, binary: str = PASST) -> UserNetwork:
    return UserNetwork(
        key="nic0.passt",
        given_by="nics[0].egress",
        binary=binary,
        hostname="web1",
        mac="aa:00:00:4b:c1:01",
        forwards=tuple(map(forward_of, forwards)),
        forwards_given_by="nics[0].forward",
        policy=policy,
    )


def egress(policy: str = "internet", *, required: bool = True, passt: str = PASST) -> Egress:
    return Egress(
        key="nic0.egress",
        given_by="nics[0].egress",
        policy=policy,
        owner=network().owner,
        required=required,
        passt=passt,
    )


@pytest.fixture(scope="module")
def internet() -> Iterator[None]:
    if not PYTHON or find_nft() is None or not os.access(PASST, os.X_OK) or shutil.which("bwrap") is None:
        pytest.skip("no passt, nft, bwrap or python3 on this machine: ./dev setup")
    with node_and_internet():
        yield


@pytest.fixture
def as_user(in_child: InChild, run_dir: Path) -> Iterator[Callable[[Callable[[], None]], int]]:
    """``as_user(work)``: what the work does in a process of a user who is not root; its wait status."""

    tried = subprocess.run(
        as_command(sys.executable, "-c", "import hvcore"), check=False, capture_output=True, env=environment(run_dir)
    )
    if tried.returncode != 0:
        pytest.skip("another user cannot execute the Python of these tests: its directory is private")

    def within(work: Callable[[], None]) -> int:
        def become_and_work() -> None:
            become_user(run_dir.parent, run_dir)
            work()

        return in_child(become_and_work)

    yield within
    for directory in (run_dir / "instances").glob("*"):
        for process in members(directory / "nic0.passt.alive", directory / "nic0.passt.status"):
            os.kill(process.pid, signal.SIGKILL)
    reap()


def started(at_work: AtWork, wanted: UserNetwork, level: Level = Level.USER) -> Job:
    job = at_work(level=level, privileged=False)
    job.acquire(wanted)
    job.prove(wanted, level=level)
    return job


def pasta_of(job: Job) -> tuple[ProcessId, ProcessId]:
    """pasta, and the passt that it runs."""
    pasta = identify(job.record.bindings[PROGRAMS]["nic0.passt"]["process"]["pid"])
    assert pasta is not None
    passt = child_of(pasta)
    assert passt is not None
    return pasta, passt


def kept_by_passt(policy: str, run_dir: Path) -> bool:
    """Newer releases keep policy ``all`` on their own, without a namespace. tests/e2e/test_egress.py tries it."""
    return policy == "all" and CLOSES_LOOPBACK in passt_options(PASST, run_dir / "cache")


def inside(job: Job) -> list[str]:
    pasta, passt = pasta_of(job)
    return [
        *("nsenter", "--preserve-credentials"),
        *(f"--user=/proc/{pasta.pid}/ns/user", f"--net=/proc/{passt.pid}/ns/net", "--"),
    ]


def targets(addresses: set[str]) -> set[Target]:
    return {(kind, address, PORT) for kind in ("tcp", "udp") for address in addresses}


def ended(job: Job) -> None:
    """The release, and that no process is left."""
    pasta, passt = pasta_of(job)
    job.held.close()
    job.release()
    assert not alive(pasta)
    assert wait_gone(passt, 10)


@pytest.mark.live
@pytest.mark.usefixtures("internet")
@pytest.mark.parametrize("policy", list(REACHED))
def test_the_policy_holds_in_the_namespace(
    at_work: AtWork, as_user: Callable[[Callable[[], None]], int], run_dir: Path, policy: str
) -> None:
    if kept_by_passt(policy, run_dir):
        pytest.skip("this passt needs no namespace for policy all")

    def work() -> None:
        job = started(at_work, network(policy, "0:80", "127.0.0.1:0:81", "[::1]:0:82", "0:53/udp"))
        found = reached_by(inside(job), targets(ADDRESSES), python=PYTHON)
        assert found == targets(REACHED[policy])
        ports = [int(job.held[port]) for port in network(policy, *["0:80", "127.0.0.1:0:81", "[::1]:0:82"]).ports]
        for address, port in (("127.0.0.1", ports[0]), ("::1", ports[0]), (NODE[0], ports[0]), (NODE[1], ports[0])):
            socket.create_connection((address, port), 10).close()
        socket.create_connection(("127.0.0.1", ports[1]), 10).close()
        socket.create_connection(("::1", ports[2]), 10).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((NODE[0], ports[1]), 10)
        ended(job)

    assert as_user(work) == 0
    assert not subprocess.run(["/usr/sbin/nft", "list", "ruleset"], check=True, capture_output=True).stdout


@pytest.mark.live
@pytest.mark.usefixtures("internet")
def test_the_record_has_the_public_addresses_that_are_refused(
    at_work: AtWork, as_user: Callable[[Callable[[], None]], int], run_dir: Path
) -> None:
    refused = {"internet": {"nic0.passt": [*NODE]}, "none": None, "all": None}
    with_namespace = [policy for policy in refused if not kept_by_passt(policy, run_dir)]

    def work() -> None:
        for policy in with_namespace:
            expected = refused[policy]
            job = started(at_work, network(policy))
            assert job.record.bindings.get(REFUSED) == expected
            ended(job)
            job.update(ledger=(), bindings={})

    assert as_user(work) == 0


@pytest.mark.live
@pytest.mark.usefixtures("internet")
@pytest.mark.parametrize("level", [Level.USER, Level.OFF])
def test_passt_has_no_rights_over_its_namespace(
    at_work: AtWork, as_user: Callable[[Callable[[], None]], int], level: Level
) -> None:
    def work() -> None:
        job = started(at_work, network(), level)
        pasta, passt = pasta_of(job)
        status = Path(f"/proc/{passt.pid}/status").read_text()
        for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            assert f"{name}:\t0000000000000000\n" in status
        assert "NoNewPrivs:\t1\n" in status
        users = [os.readlink(f"/proc/{pid}/ns/user") for pid in ("self", pasta.pid, passt.pid)]
        assert len(set(users)) == 3
        ended(job)

    assert as_user(work) == 0


@pytest.mark.live
@pytest.mark.usefixtures("internet")
def test_each_ends_with_the_other_and_with_the_connection(
    at_work: AtWork, as_user: Callable[[Callable[[], None]], int]
) -> None:
    def work() -> None:
        for number in range(3):
            job = started(at_work, network())
            pasta, passt = pasta_of(job)
            if number == 2:
                job.held.close()
            else:
                assert kill_and_wait((pasta, passt)[number], subject="web1", deadline_s=60)
            assert wait_gone(pasta, 10)
            assert wait_gone(passt, 10)
            job.held.close()
            job.release()
            job.update(ledger=(), bindings={})

    assert as_user(work) == 0


@pytest.mark.live
@pytest.mark.usefixtures("internet")
def test_rules_that_are_not_there_stop_the_start(
    at_work: AtWork, as_user: Callable[[Callable[[], None]], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def work() -> None:
        job = started(at_work, network())
        for change in ("insert rule inet hvcore output accept", "flush ruleset"):
            run(f"/usr/sbin/nft {change}", inside(job))
            with pytest.raises(OperationError, match="egress 'internet' is not enforced, the table inet hvcore "):
                job.prove(network(), level=Level.USER)
        ended(job)

    assert as_user(work) == 0


@pytest.mark.live
@pytest.mark.usefixtures("internet")
def test_a_passt_that_cannot_start_is_reported_with_its_output(
    at_work: AtWork, as_user: Callable[[Callable[[], None]], int]
) -> None:
    def work() -> None:
        job, wanted = at_work(level=Level.USER, privileged=False), network("internet", "127.0.0.1:2222:22")
        job.acquire(*wanted.ports)
        for port in wanted.ports:
            job.held.forget(port.key)
            job.held[port] = 2222
        with (
            socket.create_server(("127.0.0.1", 2222)),
            pytest.raises(OperationError, match=r"web1: /usr/bin/pasta ended at once: Failed to bind .*2222"),
        ):
            job.acquire(wanted)
        job.release()

    assert as_user(work) == 0


def problems(site: Site, one: Egress) -> list[str]:
    return [str(problem) for problem in CORE_KINDS.problems([one], site) if problem.path == one.where]


def test_what_is_missing_is_refused_with_what_to_do(
    site: Callable[..., Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = site(level=Level.USER, privileged=False)
    (text,) = problems(place, egress(passt=str(tmp_path / "passt")))
    assert text == (
        f"nics[0].egress: needs the program {tmp_path}/pasta, which is not installed on this node, got 'internet'; "
        "install it (Debian: passt)"
    )
    (tmp_path / "pasta").write_text("#!/bin/sh\n")
    (tmp_path / "pasta").chmod(0o755)
    there = replace(egress(), passt=str(tmp_path / "passt"))
    monkeypatch.setattr(pasta, "TUN", str(tmp_path / "tun"))
    monkeypatch.setattr(pasta, "find_nft", lambda: None)
    (text,) = problems(place, there)
    assert "needs the program nft, which is not installed on this node, got 'internet'; " in text
    (text,) = problems(place, replace(there, policy="all"))
    assert f"needs {tmp_path}/tun, which this user cannot open, got 'all'; modprobe tun, and chmod 666" in text
    assert not problems(place, replace(there, policy="all", required=False))


def test_the_plan_says_what_keeps_the_policy(
    site: Callable[..., Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("passt", "pasta"):
        (tmp_path / name).write_text("#!/bin/sh\necho '  --no-map-gw'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(pasta, "TUN", str(tmp_path))
    place, passt = site(level=Level.USER, privileged=False), str(tmp_path / "passt")
    for policy, how in (("all", "pasta"), ("internet", "pasta and nftables")):
        if policy == "internet" and find_nft() is None:
            continue
        said = [
            step.what
            for wanted in (egress(policy, passt=passt), network(policy, binary=passt))
            for step in CORE_KINDS.steps([wanted], place)
        ]
        assert any(text.startswith(f"a network namespace with {how} lets the guest reach ") for text in said)
        launch = f"{passt} beside the instance, in a network namespace of pasta; it ends with the guest"
        assert launch in said


SAMPLE = (1, 6, 10, 13)


@pytest.mark.live
@pytest.mark.usefixtures("internet")
@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), None], ids=["each", "sample"])
def test_nothing_is_left_wherever_its_caller_is_killed(
    at_work: AtWork, as_user: Callable[[Callable[[], None]], int], run_dir: Path, step: int | None
) -> None:
    """Not a process, and with the last process no namespace."""
    wanted = network("internet", "0:80", "5353:53/udp")

    def acquire() -> None:
        started(at_work, wanted)

    def clear() -> None:
        job = at_work(level=Level.USER, privileged=False)
        job.release()
        assert not members(job.dir / "nic0.passt.alive", job.dir / "nic0.passt.status")
        job.update(ledger=(), bindings={})

    assert as_user(acquire) == 0  # what is made only once is there before anything is counted
    assert as_user(clear) == 0
    total = count(as_user, acquire, run_dir)
    assert as_user(clear) == 0
    assert total >= max(SAMPLE)
    ended_before = 0  # a wait on a busy node has more events than usual, so the counted run may have had more
    for number in range(1, total + 1) if step else SAMPLE:

        def killed(number: int = number) -> None:
            at_event(number, die, run_dir)
            acquire()

        status = as_user(killed)
        assert status in (0, signal.SIGKILL)
        ended_before += status == 0
        assert as_user(clear) == 0
        give_up = time.monotonic() + 10
        while (
            launched_for(run_dir) and time.monotonic() < give_up
        ):  # one that was killed shows its environment until it exits
            time.sleep(0.01)
        assert not launched_for(run_dir)
    assert ended_before <= (total // 2 if step else 0)


def launched_for(run_dir: Path) -> list[str]:
    """Every process that was launched for an instance there, by its environment."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.fsencode(run_dir) in (place / "environ").read_bytes() and place.name != str(os.getpid()):
                found.append((place / "cmdline").read_text())
    return found
