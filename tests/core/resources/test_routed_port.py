"""Routes to links, and the rules for them, in a network namespace of the test."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from empty_network import NEEDS_ROOT, Network, empty_network
from fixture_types import InChild
from killed import at_event, count, die

from hvcore.host.network.netlink import Netlink
from hvcore.host.network.routes import Rule, rules, table_number
from hvcore.plugin import Job, OperationError, RoutedPort, Site, Tap, address_claim
from hvcore.resources.core_kinds import CORE_KINDS
from hvcore.resources.routed_port import RoutedPortKind

AtWork = Callable[..., Job]
Sites = Callable[..., Site]
TAP = Tap(key="nic0.tap", given_by="nics[0].mode", mac="aa:00:00:4b:c1:01")
PORT = RoutedPort(
    key="nic0.port",
    given_by="nics[0].mode",
    table_given_by="nics[0].link",
    link=TAP,
    addresses=("192.0.2.7", "192.0.2.9", "fd00::7"),
    table="100",
)
OTHER_TAP = replace(TAP, key="nic1.tap", mac="aa:00:00:4b:c1:02")
OTHER = replace(PORT, key="nic1.port", link=OTHER_TAP, addresses=("192.0.2.8", "fd00::8"))

pytestmark = [pytest.mark.live, NEEDS_ROOT]


@pytest.fixture
def net() -> Iterator[Network]:
    with empty_network() as network:
        network.forward()
        yield network


def problems(port: RoutedPort, site: Site) -> list[str]:
    return [str(problem) for problem in RoutedPortKind().verify(port, site)]


def setting(name: str) -> str:
    return Path("/proc/sys/net", name).read_text(encoding="ascii").strip()


def test_addresses_are_routed_to_the_link_in_their_own_table(net: Network, at_work: AtWork, site: Sites) -> None:
    assert problems(PORT, site()) == []
    job = at_work()
    tap = job.acquire(PORT)[TAP].name
    shown = net.ip("route", "show", "table", "100") + net.ip("-6", "route", "show", "table", "100")
    assert all(f"{address} dev {tap} proto 104" in shown for address in PORT.addresses)
    assert tap not in net.ip("route", "show", "table", "main")
    assert sorted(net.rules()) == sorted(
        [
            *(f"from all iif {tap} lookup 100 proto 104",) * 2,
            *(f"from all to {address} lookup 100 proto 104" for address in PORT.addresses),
        ]
    )
    assert "fe80::1/64" in net.ip("-6", "addr", "show", "dev", tap)
    assert "tentative" not in net.ip("-6", "addr", "show", "dev", tap).partition("fe80::1/64")[2].partition("\n")[0]
    for key, value in {"proxy_arp": "1", "forwarding": "1", "rp_filter": "1", "accept_redirects": "0"}.items():
        assert setting(f"ipv4/conf/{tap}/{key}") == value
    for key, value in {"proxy_ndp": "1", "forwarding": "1", "accept_ra": "0", "accept_redirects": "0"}.items():
        assert setting(f"ipv6/conf/{tap}/{key}") == value
    RoutedPortKind().prove(PORT, job.held.site, job)
    job.release()
    assert (net.links(), net.rules()) == (set(), [])


def test_the_main_table_needs_no_rules_and_no_ledger(net: Network, at_work: AtWork) -> None:
    job, port = at_work(), replace(PORT, table=None, mtu=1400)
    tap = job.acquire(port)[TAP].name
    assert f"192.0.2.7 dev {tap}" in net.ip("route", "show", "table", "main")
    assert f"fd00::7 dev {tap}" in net.ip("-6", "route", "show", "table", "main")
    assert net.rules() == []
    assert "mtu 1400" in net.about(tap)
    assert [entry.kind for entry in job.record.ledger] == ["tap"]
    RoutedPortKind().prove(port, job.held.site, job)
    job.release()
    assert net.links() == set()


@pytest.mark.parametrize("mine", [(0, 1), (1, 0)])
def test_a_release_leaves_the_routes_and_rules_of_others_in_the_table(
    net: Network, at_work: AtWork, mine: tuple[int, int]
) -> None:
    net.ip("rule", "add", "to", "192.0.2.50", "lookup", "100")  # the operator's
    net.ip("route", "add", "unreachable", "192.0.2.50", "table", "100")
    jobs = at_work(), at_work("web2")
    ports = PORT, OTHER
    for job, port in zip(jobs, ports, strict=True):
        job.acquire(port)
    first, second = mine
    jobs[first].release()
    left = ports[second]
    tap = jobs[second].held[left.link].name
    for address in left.addresses:
        assert f"dev {tap} table 100" in net.ip("route", "get", address)
    assert not any(address in rule for rule in net.rules() for address in ports[first].addresses)
    RoutedPortKind().prove(left, jobs[second].held.site, jobs[second])
    jobs[second].release()
    assert (net.links(), net.rules()) == (set(), ["from all to 192.0.2.50 lookup 100"])
    assert "unreachable 192.0.2.50" in net.ip("route", "show", "table", "100")


def test_one_nic_is_released_alone(net: Network, at_work: AtWork) -> None:
    job = at_work()
    job.acquire(PORT, OTHER)
    taps = job.held[TAP].name, job.held[OTHER_TAP].name
    job.release("nic1.port", "nic1.tap")
    assert net.links() == {taps[0]}
    assert not any("fd00::8" in rule or taps[1] in rule for rule in net.rules())
    RoutedPortKind().prove(PORT, job.held.site, job)
    job.release()


def test_only_the_versions_of_the_addresses_are_touched(net: Network, at_work: AtWork) -> None:
    net.forward(on=False)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1", encoding="ascii")
    job = at_work()
    tap = job.acquire(replace(PORT, addresses=("192.0.2.7",)))[TAP].name
    assert "fe80::1/64" not in net.ip("-6", "addr", "show", "dev", tap)
    assert net.ip("-6", "rule", "show").count("lookup 100") == 0
    job.release()


def test_a_node_that_does_not_forward_is_refused_with_the_command(net: Network, site: Sites) -> None:
    net.forward(on=False)
    keys = {"IPv4": "net.ipv4.ip_forward", "IPv6": "net.ipv6.conf.all.forwarding"}
    assert problems(PORT, site()) == [
        f"nics[0].mode: needs a node that forwards {name}, and {key} is 0, got 'routed'; set it: sysctl {key}=1"
        for name, key in keys.items()
    ]
    assert len(problems(replace(PORT, addresses=("fd00::7",)), site())) == 1


@pytest.mark.parametrize("table", ["no-such", "0", "255", "local", "4294967296", "-1", "1.5"])
def test_a_table_that_is_none_is_refused_before_and_at_the_start(
    net: Network, at_work: AtWork, site: Sites, table: str
) -> None:
    (problem,) = problems(replace(PORT, table=table), site())
    assert problem.startswith(f"nics[0].link: is not a routing table for guests, got {table!r}")
    with pytest.raises(OperationError, match="is not a routing table for guests"):
        at_work().acquire(replace(PORT, table=table))
    assert net.links() == set()


@pytest.mark.parametrize("table", ["1", "253", "256", "4294967295"])
def test_tables_of_any_number_work(net: Network, at_work: AtWork, table: str) -> None:
    job, port = at_work(), replace(PORT, table=table)
    job.acquire(port)
    RoutedPortKind().prove(port, job.held.site, job)
    with Netlink() as netlink:
        found = list(rules(netlink))
    assert Rule(version=6, table=int(table), address="fd00::7") in found
    assert len(found) == 5
    job.release()
    assert net.rules() == []


def test_the_numbers_of_tables() -> None:
    assert (table_number(None), table_number("main"), table_number("local"), table_number("100")) == (
        254,
        254,
        255,
        100,
    )
    assert table_number("٣") is None  # a digit, but not one of ip


def test_an_address_of_the_node_is_refused(net: Network, site: Sites) -> None:
    net.ip("addr", "add", "192.0.2.7/32", "dev", "lo")
    net.ip("addr", "add", "fd00::7/128", "dev", "lo")
    assert [problem.partition(";")[0] for problem in problems(PORT, site())] == [
        "nics[0].ip: is an address of this node, got '192.0.2.7'",
        "nics[0].ip: is an address of this node, got 'fd00::7'",
    ]


def test_an_address_with_another_route_fails_the_start_and_leaves_nothing(net: Network, at_work: AtWork) -> None:
    net.ip("link", "add", "up0", "type", "veth", "peer", "name", "up1")
    net.ip("link", "set", "up0", "up")
    net.ip("route", "add", "192.0.2.9", "dev", "up0", "table", "100")
    job = at_work()
    with pytest.raises(OperationError, match=r"web1: nics\[0\].mode: 192\.0\.2\.9 has another route in table 100"):
        job.acquire(PORT)
    job.release()
    assert (net.links(), net.rules()) == ({"up0", "up1"}, [])


WAYS = {
    "another interface": (("dev", "up0"), " dev up0"),
    "a route that drops packets": (("unreachable",), ""),
    "a route with the metric of ours": (("dev", "up0", "metric", "1024"), " dev up0"),
}


@pytest.mark.parametrize("table", ["100", None])
@pytest.mark.parametrize("address", ["192.0.2.9", "fd00::7"])
@pytest.mark.parametrize("way", WAYS)
def test_what_verify_says_of_a_foreign_route_is_what_the_start_does(
    net: Network, at_work: AtWork, site: Sites, way: str, address: str, table: str | None
) -> None:
    net.ip("link", "add", "up0", "type", "veth", "peer", "name", "up1")
    for name in ("up0", "up1"):
        net.ip("link", "set", name, "up")
    words, device = WAYS[way]
    kind, to = (words[:1], words[1:]) if words[0] == "unreachable" else ((), words)
    net.ip("route", "add", *kind, address, *to, "table", table or "main")
    port, job = replace(PORT, table=table), at_work()
    found = problems(port, site())
    if "." in address and "metric" in words:  # ours is preferred
        assert found == []
        job.acquire(port)
        RoutedPortKind().prove(port, job.held.site, job)
        return
    family = " -6" if ":" in address else ""
    shown = f"{address}{device} table {table or 'main'}"
    what = f"nics[0].ip: has another route in table {table or 'main'}, got {address!r}"
    assert found == [f"{what}; delete it: ip{family} route del {shown}; or give the guest another"]
    with pytest.raises(OperationError, match="has another route"):
        job.acquire(port)
    job.release()
    net.ip(*family.split(), "route", "del", *shown.split())
    assert problems(port, site()) == []


def test_verify_finds_no_foreign_route_in_the_instances_own_and_in_those_of_other_networks(
    net: Network, at_work: AtWork, site: Sites
) -> None:
    net.ip("link", "add", "up0", "type", "veth", "peer", "name", "up1")
    net.ip("link", "set", "up0", "up")
    net.ip("route", "add", "192.0.2.0/24", "dev", "up0", "table", "100")
    net.ip("route", "add", "192.0.2.9", "dev", "up0", "table", "101")
    net.ip("route", "add", "192.0.2.10", "dev", "up0", "table", "100")
    at_work().acquire(PORT)
    assert problems(PORT, site()) == []
    assert len(problems(PORT, site("web1", run_dir=site().host.run_dir.parent))) == len(PORT.addresses)


def test_a_node_without_ipv6_on_new_interfaces_routes_to_this_one(net: Network, at_work: AtWork, site: Sites) -> None:
    Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1", encoding="ascii")
    assert problems(PORT, site()) == []
    job = at_work()
    job.acquire(PORT)
    RoutedPortKind().prove(PORT, job.held.site, job)
    job.release()
    assert (net.links(), net.rules()) == (set(), [])


def test_an_address_belongs_to_one_instance(net: Network, at_work: AtWork, site: Sites) -> None:
    claims = [address_claim(f"nic0.ip{n}", "nics[0].ip", text) for n, text in enumerate(("192.0.2.7", "fd00::7"))]
    at_work().acquire(*claims)
    found = [str(problem) for problem in CORE_KINDS.problems([replace(claims[1], key="nic3.ip0")], site("web2"))]
    assert found == ["nics[0].ip: is taken by instance web1, got fd00::7; choose another, or unset it"]


def test_a_route_that_is_taken_away_is_noticed(net: Network, at_work: AtWork) -> None:
    job = at_work()
    job.acquire(PORT)
    net.ip("rule", "del", "to", "192.0.2.9")
    with pytest.raises(OperationError, match=r"does not route 192\.0\.2\.9 to hv.*; see 'ip route get 192\.0\.2\.9'"):
        RoutedPortKind().prove(PORT, job.held.site, job)


def test_rules_of_a_link_that_is_gone_are_deleted_and_twice_is_fine(
    net: Network, at_work: AtWork, in_child: InChild
) -> None:
    def starts_and_dies() -> None:
        at_work().acquire(PORT)
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(starts_and_dies) == signal.SIGKILL
    assert net.links() == set()
    assert len(net.rules()) == 5  # the kernel keeps them
    for _ in range(2):
        at_work().release()
        assert net.rules() == []


@pytest.mark.heavy  # a process for each step
@pytest.mark.parametrize("what", ["acquire", "release"])
def test_wherever_the_caller_is_killed_no_rule_is_left(
    net: Network, at_work: AtWork, in_child: InChild, run_dir: Path, what: str
) -> None:
    def act() -> None:
        if what == "acquire":
            at_work().acquire(PORT, OTHER)
        else:
            at_work().release()

    def before() -> None:
        at_work().update(ledger=())
        if what == "release":
            assert in_child(lambda: at_work().acquire(PORT, OTHER)) == 0

    before()
    total = count(in_child, act, run_dir)
    at_work().release()
    for number in range(1, total + 1):
        before()

        def killed(number: int = number) -> None:
            at_event(number, die, run_dir)
            act()

        assert in_child(killed) == signal.SIGKILL
        at_work().release()
        assert (net.links(), net.rules()) == (set(), [])


@pytest.mark.parametrize("number", range(1, 40, 4))
def test_a_caller_killed_between_two_requests_leaves_no_rule(
    net: Network, at_work: AtWork, in_child: InChild, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    asked, sent = Netlink.ask, 0

    def ask(self: Netlink, *arguments: int) -> list[bytes]:
        nonlocal sent
        sent += 1
        if sent == number:
            die()
        return asked(self, *arguments)  # type: ignore[arg-type]

    def act() -> None:
        monkeypatch.setattr(Netlink, "ask", ask)
        at_work().acquire(PORT, OTHER)

    assert in_child(act) in (0, signal.SIGKILL)
    at_work().release()
    assert (net.links(), net.rules()) == (set(), [])


def test_steps_of_a_plan(site: Sites) -> None:
    kind = RoutedPortKind()
    assert [step.what for port in (PORT, replace(OTHER, table=None)) for step in kind.describe(port, site())] == [
        "route 192.0.2.7, 192.0.2.9, fd00::7 to nic0.tap, in table 100, with rules for them",
        "route 192.0.2.8, fd00::8 to nic1.tap, in the main table",
    ]
