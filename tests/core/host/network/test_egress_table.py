"""The node's egress table, tried with real packets of a plain program that has a uid of the pool."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from empty_network import empty_network
from fixture_types import InChild
from node_and_internet import NODE, OUTSIDE, PORT, PRIVATE, Target, node_and_internet, reached_as, run
from own_uids import OWN_UIDS

from hvcore.host.cgroups.hierarchy import ControlGroups
from hvcore.host.environment import Host
from hvcore.host.network import egress_table, table_reference
from hvcore.host.network.egress_table import enforce, put_back, weakness, weaknesses, withdraw
from hvcore.host.network.nft import find_nft, generation, list_table
from hvcore.host.uids import UidClaims
from hvcore.model.network.egress_rules import elements_of

pytestmark = pytest.mark.heavy  # a process of nft for each change, and real packets

PYTHON = os.path.realpath(sys.executable)
UID, OTHER = OWN_UIDS[:2]
LOOPBACK = ("127.0.0.1", "127.8.9.1", "::1")


def both(*addresses: str, port: int = PORT) -> set[Target]:
    return {(kind, address, port) for kind in ("tcp", "udp") for address in addresses}


EVERYTHING = both(*LOOPBACK, *NODE, *OUTSIDE, *PRIVATE)


@pytest.fixture
def host(run_dir: Path) -> Host:
    return Host(run_dir=run_dir, privileged=True, uid_pool=OWN_UIDS[:10], cgroups=ControlGroups())


@pytest.fixture(scope="module")
def network() -> Iterator[int]:
    if find_nft() is None:
        pytest.skip("needs nftables: apt-get install nftables")
    with node_and_internet() as pid:
        yield pid


@pytest.fixture
def internet(network: int) -> Iterator[int]:
    """A pid in the internet's namespace. No table is there before."""
    run("/usr/sbin/nft flush ruleset")
    yield network
    run("/usr/sbin/nft flush ruleset")


def tables() -> str:
    return subprocess.run(["/usr/sbin/nft", "list", "ruleset"], check=True, capture_output=True, text=True).stdout


@pytest.mark.usefixtures("internet")
def test_without_rules_everything_answers() -> None:
    assert reached_as(UID, EVERYTHING) == EVERYTHING


@pytest.mark.usefixtures("internet")
def test_internet_is_public_addresses_only(host: Host) -> None:
    enforce(host, "web1/nic0.egress", elements_of("internet", UID))
    assert reached_as(UID, EVERYTHING) == both(*OUTSIDE)
    assert reached_as(OTHER, EVERYTHING) == EVERYTHING


@pytest.mark.usefixtures("internet")
def test_none_is_nothing_and_all_is_all_but_loopback(host: Host) -> None:
    enforce(host, "web1/nic0.egress", elements_of("none", UID, OUTSIDE))
    enforce(host, "web2/nic0.egress", elements_of("all", OTHER))
    assert reached_as(UID, EVERYTHING | both(*OUTSIDE, port=53)) == set()
    assert reached_as(OTHER, EVERYTHING) == EVERYTHING - both(*LOOPBACK)


@pytest.mark.usefixtures("internet")
def test_the_name_server_answers_at_its_port_only(host: Host) -> None:
    enforce(host, "web1/nic0.egress", elements_of("internet", UID, ("127.0.0.1", "::1", PRIVATE[0])))
    asked = both("127.0.0.1", "::1", PRIVATE[0], port=53)
    assert reached_as(UID, asked | both("127.0.0.1", "::1", *PRIVATE)) == asked
    enforce(host, "web2/nic0.egress", elements_of("internet", OTHER))
    assert reached_as(OTHER, asked) == set()


@pytest.mark.usefixtures("internet")
def test_a_refused_connection_fails_at_once(host: Host) -> None:
    enforce(host, "web1/nic0.egress", elements_of("none", UID))
    assert reached_as(UID, {("tcp", OUTSIDE[0], PORT)}, wait_s=60) == set()


SERVER = """
import socket, sys
made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
made.bind(("::", 5353))
listening = socket.create_server(("::", 2222), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
for line in sys.stdin:
    words = line.split()
    if words[0] == "answer":
        data, sender = made.recvfrom(10)
        made.sendto(b"here", sender)
        connected, _ = listening.accept()
        connected.sendall(b"here")
        connected.close()
    else:
        try:
            made.sendto(b"there?", (words[1], int(words[2])))
            made.settimeout(0.3)
            made.recvfrom(10)
            print("answered", flush=True)
        except OSError:
            print("silent", flush=True)
"""
CLIENT = """
import socket, sys
for kind, port in ((socket.SOCK_DGRAM, 5353), (socket.SOCK_STREAM, 2222)):
    with socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, kind) as tried:
        tried.settimeout(10)
        tried.connect((sys.argv[1], port))
        if kind == socket.SOCK_DGRAM:
            tried.send(b"there?")
        assert tried.recv(10) == b"here"
"""


@pytest.mark.parametrize("policy", ["none", "internet", "all"])
def test_forwarded_ports_answer_and_are_no_way_out(host: Host, internet: int, policy: str) -> None:
    """The server has the guest's uid, as passt. Its clients are on this node and in the internet."""
    enforce(host, "web1/nic0.egress", elements_of(policy, UID, (), [5353]))
    user = ["setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups"]
    argv = [*user, PYTHON, "-I", "-c", SERVER]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as server:
        try:
            assert server.stdin is not None
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            there = ["nsenter", "-t", str(internet), "-n"]
            for prefix, address in (([], "127.0.0.1"), ([], "::1"), (there, NODE[0]), (there, NODE[1])):
                server.stdin.write("answer\n")
                subprocess.run([*prefix, PYTHON, "-I", "-c", CLIENT, address], check=True)
            for address in ("::ffff:127.0.0.1", "::1", *([] if policy == "all" else [f"::ffff:{PRIVATE[0]}"])):
                server.stdin.write(f"ask {address} {PORT}\n")
                assert server.stdout.readline() == "silent\n"
        finally:
            server.kill()


@pytest.mark.usefixtures("internet")
def test_the_table_goes_with_the_last_guest_and_other_tables_stay(host: Host) -> None:
    run("/usr/sbin/nft add table inet operators")
    enforce(host, "web1/nic0.egress", elements_of("internet", UID, OUTSIDE, [5353]))
    enforce(host, "web2/nic0.egress", elements_of("none", OTHER, OUTSIDE, [5353]))
    withdraw(host, "web1/nic0.egress")
    assert "5353" in tables()  # of the other guest
    assert str(UID) not in tables()
    assert weakness(host, "web1") is None
    assert reached_as(OTHER, both(*OUTSIDE)) == set()
    for _ in range(2):
        withdraw(host, "web2/nic0.egress")
        assert tables().split() == ["table", "inet", "operators", "{", "}"]


@pytest.mark.usefixtures("internet")
def test_a_table_of_another_run_directory_stays(host: Host, other: Host) -> None:
    enforce(host, "web1/nic0.egress", elements_of("none", UID))
    enforce(other, "web1/nic0.egress", elements_of("none", OTHER))
    put_back(host)
    withdraw(host, "web1/nic0.egress")
    assert reached_as(UID, both(*OUTSIDE)) == both(*OUTSIDE)
    assert reached_as(OTHER, both(*OUTSIDE)) == set()
    withdraw(other, "web1/nic0.egress")
    assert not tables()


CHANGES = {
    "flush ruleset": "is missing",
    "delete element inet hvcore guests { UID }": "lacks its uid",
    "flush chain inet hvcore refuse": "was changed",
    "insert rule inet hvcore output accept": "was changed",
    "add rule inet hvcore answers ip daddr 127.0.0.1 accept": "was changed",
    "add set inet hvcore more { type uid; }": "was changed",
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.usefixtures("internet")
def test_a_changed_table_is_seen_and_put_back(host: Host, change: str) -> None:
    enforce(host, "web1/nic0.egress", elements_of("internet", UID))
    put_back(host)
    enforce(host, "web2/nic0.egress", elements_of("none", OTHER))
    assert (weakness(host, "web1"), weakness(host, "web2")) == (None, None)
    run(f"/usr/sbin/nft {change.replace('UID', str(UID))}")
    assert CHANGES[change] in (weakness(host, "web1") or "")
    put_back(host)
    assert (weakness(host, "web1"), weakness(host, "web2")) == (None, None)
    assert reached_as(UID, both(*OUTSIDE, *LOOPBACK)) == both(*OUTSIDE)


@pytest.mark.usefixtures("internet")
def test_a_start_after_a_flush_brings_back_the_other_guests(host: Host) -> None:
    enforce(host, "web1/nic0.egress", elements_of("none", UID))
    run("/usr/sbin/nft flush ruleset")
    enforce(host, "web2/nic0.egress", elements_of("none", OTHER))
    assert reached_as(UID, both(*OUTSIDE)) == set()
    run("/usr/sbin/nft flush ruleset")
    withdraw(host, "web1/nic0.egress")
    assert weakness(host, "web2") is not None


@pytest.mark.usefixtures("internet")
def test_a_uid_that_a_dead_guest_left_gets_its_new_policy(host: Host, tmp_path: Path) -> None:
    gone = Host(run_dir=tmp_path / "gone", privileged=True, uid_pool=host.uid_pool, cgroups=ControlGroups())
    enforce(gone, "web1/nic0.egress", elements_of("internet", UID))
    shutil.rmtree(gone.run_dir)
    enforce(host, "web1/nic0.egress", elements_of("none", UID))
    assert reached_as(UID, both(*OUTSIDE)) == set()


@pytest.fixture
def other(host: Host, tmp_path: Path) -> Host:
    """The same node with another run directory."""
    return Host(run_dir=tmp_path / "other", privileged=True, uid_pool=host.uid_pool, cgroups=ControlGroups())


@contextmanager
def running_as(uid: int) -> Iterator[None]:
    """A process of that uid."""
    argv = ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", "sh", "-c", "echo; exec sleep 600"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield
        finally:
            process.kill()


@pytest.mark.parametrize("policy", ["none", "internet"])
@pytest.mark.usefixtures("internet")
def test_the_cleanup_of_a_crashed_guest_leaves_the_rules_of_the_guest_that_has_its_uid_now(
    host: Host, other: Host, policy: str
) -> None:
    """A crashed guest keeps its uid in its own run directory only: no process has it."""
    enforce(other, "web1/nic0.egress", elements_of("internet", UID, OUTSIDE, [5353]))
    enforce(host, "web9/nic0.egress", elements_of(policy, UID))
    reached = both(*OUTSIDE) if policy == "internet" else set()
    with running_as(UID):
        withdraw(other, "web1/nic0.egress")
        assert not weaknesses(other)
        assert reached_as(UID, EVERYTHING) == reached
        assert weakness(host, "web9") is None
    withdraw(host, "web9/nic0.egress")
    assert f"{UID} : " not in tables()


@pytest.mark.usefixtures("internet")
def test_the_cleanup_of_a_crashed_guest_leaves_the_rules_of_a_guest_that_is_starting(
    host: Host, other: Host, in_child: InChild
) -> None:
    enforce(other, "web1/nic0.egress", elements_of("none", UID))
    claims = UidClaims(host.run_dir, "web9", node_wide=True)
    assert claims.take_one("uid", range(UID, UID + 1)) == UID
    enforce(host, "web9/nic0.egress", elements_of("none", UID))
    assert in_child(withdraw, other, "web1/nic0.egress") == 0  # as another hv
    assert reached_as(UID, both(*OUTSIDE)) == set()
    claims.close()


@pytest.mark.usefixtures("internet")
def test_an_operation_that_fails_withdraws_what_it_has_just_enforced(host: Host) -> None:
    claims = UidClaims(host.run_dir, "web1", node_wide=True)
    assert claims.take_one("uid", range(UID, UID + 1)) == UID
    enforce(host, "web1/nic0.egress", elements_of("none", UID))
    withdraw(host, "web1/nic0.egress")
    assert not tables()
    claims.close()


@pytest.mark.usefixtures("internet")
def test_a_uid_whose_last_guest_could_not_withdraw_gets_its_new_policy(host: Host) -> None:
    """Its release failed at the table, and gave back the uid all the same."""
    enforce(host, "web1/nic0.egress", elements_of("internet", UID, OUTSIDE, [5353]))
    enforce(host, "web2/nic0.egress", elements_of("none", UID))
    assert reached_as(UID, both(*OUTSIDE)) == set()
    assert weaknesses(host) == {}
    withdraw(host, "web1/nic0.egress")
    assert reached_as(UID, both(*OUTSIDE)) == set()
    withdraw(host, "web2/nic0.egress")
    assert f"{UID} : " not in tables()


@pytest.mark.usefixtures("internet")
def test_elements_of_another_policy_are_not_in_the_way_of_a_release(host: Host) -> None:
    """As after a race: a table was replaced with what its writer had read before."""
    enforce(host, "web1/nic0.egress", elements_of("internet", UID))
    enforce(host, "web2/nic0.egress", elements_of("internet", OTHER))
    run(f"/usr/sbin/nft delete element inet hvcore guests {{ {UID} }}")
    run(f"/usr/sbin/nft add element inet hvcore guests {{ {UID} : goto to_none }}")
    withdraw(host, "web1/nic0.egress")
    assert f"{UID} : goto to_none" in tables()
    withdraw(host, "web1/nic0.egress")


@pytest.fixture
def listings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Has an entry for each time that nft lists the table."""
    found: list[str] = []

    def counted(family: str, table: str) -> object:
        found.append(table)
        return list_table(family, table)

    monkeypatch.setattr(egress_table, "list_table", counted)
    return found


@pytest.mark.usefixtures("internet")
def test_only_a_change_by_others_needs_another_look(host: Host, listings: list[str]) -> None:
    enforce(host, "web1/nic0.egress", elements_of("none", UID))
    assert weakness(host, "web1") is None
    listings.clear()
    enforce(host, "web2/nic0.egress", elements_of("none", OTHER))
    assert weaknesses(host) == {}
    withdraw(host, "web1/nic0.egress")
    assert weaknesses(host) == {}
    withdraw(host, "web2/nic0.egress")  # the table goes, and comes again
    enforce(host, "web1/nic0.egress", elements_of("none", UID))
    assert weaknesses(host) == {}
    assert not listings
    assert reached_as(UID, both(*OUTSIDE)) == set()
    run("/usr/sbin/nft add table inet operators")
    assert (weaknesses(host), weaknesses(host), listings) == ({}, {}, ["hvcore"])


@pytest.mark.usefixtures("internet")
def test_a_change_by_others_is_seen_through_changes_of_ours(host: Host, listings: list[str]) -> None:
    """Each change of ours adds one to the kernel's number, but does not hide that of another program."""
    enforce(host, "web1/nic0.egress", elements_of("none", UID))
    assert weaknesses(host) == {}
    run("/usr/sbin/nft insert rule inet hvcore output accept")
    enforce(host, "web2/nic0.egress", elements_of("none", OTHER))
    assert set(weaknesses(host)) == {"web1", "web2"}
    withdraw(host, "web2/nic0.egress")
    assert set(weaknesses(host)) == {"web1"}
    put_back(host)
    listings.clear()
    assert weaknesses(host) == {}
    assert not listings


@pytest.mark.usefixtures("internet")
def test_what_is_known_of_one_network_is_not_taken_for_another(host: Host) -> None:
    enforce(host, "web1/nic0.egress", elements_of("none", UID))
    assert weaknesses(host) == {}
    known, number = (host.cache_dir / "egress-table.json").read_bytes(), generation()
    assert number is not None
    with empty_network():
        more = number - (generation() or 0)
        lines = [f"add chain inet operators more{each}" for each in range(1, more)]
        for line in ("add table inet operators", *lines):
            run(f"/usr/sbin/nft {line}")
        assert generation() == number
        assert "is missing" in weaknesses(host)["web1"]
    assert (host.cache_dir / "egress-table.json").read_bytes() == known
    assert weaknesses(host) == {}


@pytest.mark.usefixtures("internet")
def test_a_kernel_that_does_not_count_costs_a_look_each_time(
    host: Host, listings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (egress_table, table_reference):
        monkeypatch.setattr(module, "generation", lambda: None)
    enforce(host, "web1/nic0.egress", elements_of("none", UID))
    listings.clear()
    assert (weaknesses(host), weaknesses(host), listings) == ({}, {}, ["hvcore", "hvcore"])
    run("/usr/sbin/nft flush ruleset")
    assert "is missing" in weaknesses(host)["web1"]
