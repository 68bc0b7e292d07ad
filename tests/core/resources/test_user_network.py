"""passt beside an instance: forwarded ports, how it is confined, and that it ends with the instance."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from killed import at_event, count, die
from own_network import ADDRESSES, own_network

from hvcore.host.launching.launch import reap
from hvcore.host.network import installed_passt
from hvcore.host.processes.launched import members
from hvcore.model.record import ProcessId
from hvcore.plugin import Job, Level, OperationError, PortForward, Problem, Site, UserNetwork, alive, forward_of
from hvcore.resources.core_kinds import CORE_KINDS
from hvcore.resources.program import PROGRAMS

AtWork = Callable[..., Job]
PASST = "/usr/bin/passt"
LEVELS = [Level.STRICT, Level.USER, Level.OFF]


def network(*forwards: str, binary: str = PASST) -> UserNetwork:
    return UserNetwork(
        key="nic0.passt",
        given_by="nics[0].mode",
        binary=binary,
        hostname="web1",
        mac="aa:00:00:4b:c1:01",
        forwards=tuple(map(forward_of, forwards)),
        forwards_given_by="nics[0].forward",
    )


def problems(site: Site, *forwards: str) -> list[str]:
    return [str(problem) for problem in CORE_KINDS.problems(network(*forwards).ports, site)]


@pytest.fixture
def own() -> Iterator[None]:
    """A network with routes for both families."""
    if not os.access(PASST, os.X_OK):
        pytest.skip("no passt on this machine: ./dev setup")
    with own_network():
        yield


@pytest.fixture(autouse=True)
def _none_is_left(run_dir: Path) -> Iterator[None]:
    yield
    for directory in (run_dir / "instances").glob("*"):
        for process in members(directory / "nic0.passt.alive", directory / "nic0.passt.status"):
            os.kill(process.pid, signal.SIGKILL)
    reap()


def processes(job: Job) -> list[ProcessId]:
    return members(job.dir / "nic0.passt.alive", job.dir / "nic0.passt.status")


def port_of(job: Job, wanted: PortForward) -> int:
    return int(job.held[wanted])


def answers(family: int, address: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET) as client:
        client.settimeout(60)
        return client.connect_ex((address, port)) == 0


@pytest.mark.live
@pytest.mark.parametrize("level", LEVELS)
def test_root_confines_it_with_its_own_uid_at_every_level(at_work: AtWork, own: None, level: Level) -> None:
    job, wanted = at_work(level=level), network("0:80", "127.0.0.1:0:81", "[::1]:0:82", "0:53/udp")
    job.acquire(wanted)
    job.prove(wanted, level=level)
    about = job.record.bindings[PROGRAMS]["nic0.passt"]
    assert about["uid"] in job.host.uid_pool
    status = Path(f"/proc/{about['process']['pid']}/status").read_text()
    assert f"Uid:\t{about['uid']}\t" in status
    assert "CapEff:\t0000000000000000\n" in status
    ports = [port_of(job, port) for port in wanted.ports]
    assert list(job.record.bindings["forwards"].values()) == [
        f"{ports[0]}:80",
        f"127.0.0.1:{ports[1]}:81",
        f"[::1]:{ports[2]}:82",
        f"{ports[3]}:53/udp",
    ]
    assert answers(4, "127.0.0.1", ports[0])
    assert answers(4, ADDRESSES[4], ports[0])
    assert answers(6, ADDRESSES[6], ports[0])
    assert answers(4, "127.0.0.1", ports[1])
    assert not answers(4, ADDRESSES[4], ports[1])
    assert answers(6, "::1", ports[2])
    found = processes(job)
    assert found
    job.held.close()
    job.release()
    assert not any(map(alive, found))
    assert not list((job.host.run_dir / "reservations" / "uid").iterdir())


@pytest.mark.live
def test_it_ends_with_its_connection(at_work: AtWork, own: None, eventually: Callable[..., None]) -> None:
    job, wanted = at_work(), network()
    job.acquire(wanted)
    job.prove(wanted, level=Level.STRICT)
    found = processes(job)
    job.held.close()
    eventually(lambda: not any(map(alive, found)))


@pytest.mark.live
def test_one_that_cannot_start_is_reported_with_its_output(at_work: AtWork, own: None) -> None:
    job, wanted = at_work(), network("127.0.0.1:2222:22")
    job.acquire(*wanted.ports)
    for port in wanted.ports:
        job.held.forget(port.key)
        job.held[port] = 2222
    with socket.create_server(("127.0.0.1", 2222)):
        job.acquire(wanted)
        with pytest.raises(OperationError, match=r"web1: /usr/bin/passt ended at once: Failed to bind .*2222"):
            job.prove(wanted, level=Level.STRICT)


@pytest.mark.live
def test_a_port_in_use_is_reported_before_and_at_the_start(
    at_work: AtWork, site: Callable[..., Site], own: None
) -> None:
    what = "nics[0].forward[0]: is in use by another program or instance, got"
    with socket.create_server(("127.0.0.1", 2222)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 5353))
        for given in ("2222:22", "127.0.0.1:2222:22", "5353:53/udp"):
            (found,) = problems(site(), given)
            assert found == f"{what} {given!r}; use another port, or 0 for a free one"
            with pytest.raises(OperationError, match="is in use by another program or instance"):
                at_work().acquire(*network(given).ports)
        assert problems(site(), "[::1]:2222:22", "2222:53/udp") == []


@pytest.mark.live
def test_two_starts_never_have_one_port(at_work: AtWork, own: None) -> None:
    jobs = [at_work(f"web{number}") for number in range(20)]
    (wanted,) = network("0:80").ports
    assert len({job.acquire(wanted)[wanted] for job in jobs}) == 20
    (fixed,) = network("2222:22").ports
    (again,) = network("2222:22", binary="/other").ports
    jobs[0].release(wanted.key)
    jobs[0].acquire(fixed)
    jobs[1].release(wanted.key)
    with pytest.raises(OperationError, match="is in use"):
        jobs[1].acquire(again)


@pytest.mark.live
def test_a_low_port_is_refused_with_the_setting_that_decides(site: Callable[..., Site], own: None) -> None:
    what = "is a port below 1024, for which a program needs privileges (net.ipv4.ip_unprivileged_port_start)"
    assert problems(site(), "80:80") == [f"nics[0].forward[0]: {what}, got '80:80'; use a port from 1024 on"]
    Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").write_text("80")
    assert problems(site(), "80:80") == []


@pytest.mark.live
def test_an_address_of_another_node_is_refused(site: Callable[..., Site], own: None) -> None:
    assert problems(site(), "192.0.2.1:8080:80") == [
        (
            "nics[0].forward[0]: is at an address that this node does not have, got '192.0.2.1:8080:80'; "
            "use one of its addresses, or none for all"
        )
    ]


@pytest.mark.live
@pytest.mark.parametrize("family", [4, 6])
def test_a_node_with_one_family(at_work: AtWork, site: Callable[..., Site], family: int) -> None:
    other = {4: "[::1]:8080:80", 6: "127.0.0.1:8080:80"}[family]
    with own_network([family]):
        assert installed_passt.default_routes() == {family}
        (found,) = problems(site(), other)
        assert f"at an IPv{10 - family} address, and this node has no default route for IPv{10 - family}" in found
        job, wanted = at_work(), network("0:80")
        job.acquire(wanted)
        job.prove(wanted, level=Level.STRICT)
        assert answers(family, {4: "127.0.0.1", 6: "::1"}[family], port_of(job, wanted.ports[0]))
        job.held.close()
        job.release()


@pytest.mark.live
def test_a_node_without_a_route_is_reported(site: Callable[..., Site]) -> None:
    if shutil.which("passt") is None:
        pytest.skip("no passt on this machine: ./dev setup")
    with own_network(()):
        (problem,) = CORE_KINDS.problems([network()], site())
    assert isinstance(problem, Problem)
    assert str(problem) == (
        "nics[0].mode: passt needs a default route, which this node does not have, got '/usr/bin/passt'; "
        'correct this, or set user_network = "slirp"'
    )


def test_a_missing_program_is_reported_with_its_package(site: Callable[..., Site]) -> None:
    found = [str(problem) for problem in CORE_KINDS.problems([network(binary="/usr/bin/no-such-passt")], site())]
    assert found == [
        "nics[0].mode: passt is not installed on this node, got '/usr/bin/no-such-passt'; install it (Debian: passt)"
    ]


def test_the_plan_shows_the_program_and_where_each_port_leads(site: Callable[..., Site]) -> None:
    steps = [step.what for step in CORE_KINDS.steps([network("127.0.0.1:8080:80", "0:53/udp")], site())]
    assert steps[:3] == [
        "take a uid from 1880000000 to 1880000099 that no other program has",
        "tcp port 8080 at 127.0.0.1 leads to port 80 of the guest",
        "a free udp port at all addresses of the node leads to port 53 of the guest",
    ]
    assert steps[3] == "/usr/bin/passt beside the instance, with its own uid; it ends with the guest"


SAMPLE = (1, 8, 15, 17)


@pytest.mark.live
@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), None], ids=["each", "sample"])
def test_nothing_is_left_wherever_its_caller_is_killed(
    at_work: AtWork, in_child: Callable[..., int], run_dir: Path, own: None, step: int | None
) -> None:
    """Not a process, a uid or a port."""
    wanted = network("0:80", "2222:22", "5353:53/udp")

    def acquire() -> None:
        job = at_work()
        job.acquire(wanted)
        job.prove(wanted, level=Level.STRICT)

    def cleared() -> None:
        job = at_work()
        job.release()
        assert not processes(job)
        assert not [link for link in (run_dir / "reservations" / "uid").glob("*") if link.is_symlink()]
        assert not bound_ports()
        job.update(ledger=(), bindings={})

    assert in_child(acquire) == 0  # what is made only once is there before anything is counted
    cleared()
    total = count(in_child, acquire, run_dir)
    cleared()
    assert total >= max(SAMPLE)
    ended_before = 0  # a wait on a busy node has more events than usual, so the counted run may have had more
    for number in range(1, total + 1) if step else SAMPLE:

        def killed(number: int = number) -> None:
            at_event(number, die, run_dir)
            acquire()

        ended = in_child(killed)
        assert ended in (0, signal.SIGKILL)
        ended_before += ended == 0
        cleared()
    assert ended_before <= (total // 2 if step else 0)


def bound_ports() -> list[str]:
    """The sockets of this network that are bound to a port."""
    found = []
    for name in ("tcp", "tcp6", "udp", "udp6"):
        rows = Path("/proc/thread-self/net", name).read_text().splitlines()[1:]
        found += [f"{name} {row.split()[1]}" for row in rows if row.split()[3] in ("0A", "07")]
    return found
