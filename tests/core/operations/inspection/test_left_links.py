"""What NICs left in the node's network and no record names: doctor lists it, and a later start or a forced stop removes it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from empty_network import NEEDS_ROOT, Network, empty_network
from open_vswitch import NEEDS_OVS, open_vswitch

from hvcore import Finding, Node
from hvcore.host.network.link_names import is_ours, link_mark, link_name, owner_of_mark
from hvcore.host.network.marked import marked, remove_marked
from hvcore.model.record import Entry, Record
from hvcore.operations.inspection.left_links import left_links
from hvcore.state.store import Store

pytestmark = [pytest.mark.live, NEEDS_ROOT]


@pytest.fixture
def net() -> Iterator[Network]:
    with empty_network() as network:
        network.forward()
        yield network


@pytest.fixture
def node(run_dir: Path) -> Node:
    return Node(run_dir)


@pytest.fixture
def make(net: Network, run_dir: Path) -> Callable[..., str]:
    """``make("tuntap", "mode", "tap")``: an interface with the name and the mark of a NIC of an instance."""

    def making(
        *words: str, instance: str = "web1", key: str = "nic0.tap", directory: Path = run_dir, mark: bool = True
    ) -> str:
        name = link_name(directory, instance, key)
        net.ip(*(("tuntap", "add", name, "mode", "tap") if not words else ("link", "add", name, *words)))
        if mark:
            net.ip("link", "set", name, "alias", link_mark(directory, instance, key))
        net.ip("link", "set", name, "up")
        return name

    return making


@pytest.fixture
def save(store: Store, record: Callable[..., Record]) -> Callable[..., Record]:
    def saving(*entries: Entry, name: str = "web1") -> Record:
        store.create(name)
        made = replace(record(name=name), ledger=entries)
        store.save(made)
        return made

    return saving


def found(node: Node, unrecorded: frozenset[str] = frozenset()) -> dict[str, Finding]:
    return {finding.subject: finding for finding in left_links(node._context, unrecorded)}


def of_tap(name: str) -> Entry:
    return Entry(kind="tap", key="nic0.tap", data={"name": name, "owner": "..."})


def routed(name: str, table: int = 100, *addresses: str) -> Entry:
    data = {"name": name, "table": table, "addresses": list(addresses)}
    return Entry(kind="routed-port", key="nic0.port", data=data)


def rule(net: Network, *words: str, table: str = "100") -> None:
    family = ("-6",) if any(":" in word for word in words) else ()
    net.ip(*family, "rule", "add", *words, "lookup", table, "protocol", "104", "pref", "5200")


KINDS = pytest.mark.parametrize(
    ("key", "words"),
    [
        ("nic0.tap", ()),
        ("nic0.veth", ("type", "veth")),
        ("nic0.limits", ("type", "ifb")),
        ("nic0.tap", ("link", "v0", "type", "macvtap")),
    ],
    ids=["tap", "veth", "ifb", "macvtap"],
)


@KINDS
def test_each_kind_of_interface_without_a_record_is_listed_with_its_command(
    net: Network, node: Node, make: Callable[..., str], key: str, words: tuple[str, ...]
) -> None:
    net.ip("link", "add", "v0", "type", "veth")
    name = make(*words, key=key)
    (finding,) = found(node).values()
    assert (finding.subject, finding.todo) == (name, f"ip link del {name}")
    assert finding.what == f"is left of web1: interface {name}, which no record names"
    subprocess.run((finding.todo or "").split(), check=True)
    assert found(node) == {}


def test_an_interface_that_a_ledger_names_is_not_listed(
    node: Node, make: Callable[..., str], save: Callable[..., Record]
) -> None:
    name = make()
    assert name in found(node)
    save(of_tap(name))
    assert found(node) == {}


def test_an_interface_of_another_nic_than_those_of_the_record_is_listed(
    node: Node, make: Callable[..., str], save: Callable[..., Record]
) -> None:
    save(of_tap(make()))
    other = make(key="nic1.tap")
    assert set(found(node)) == {other}


def test_a_record_that_cannot_be_read_may_name_anything(
    net: Network, node: Node, store: Store, make: Callable[..., str]
) -> None:
    name = make()
    rule(net, "iif", "hv000000000000")
    store.create("web1")
    (store.dir("web1") / "record.json").write_text("torn")
    assert found(node) == {}
    (store.dir("web1") / "record.json").unlink()
    assert set(found(node)) == {name, "rule for hv000000000000"}


def test_interfaces_of_an_operation_in_progress_are_not_listed(
    node: Node, store: Store, make: Callable[..., str]
) -> None:
    make()
    with store.lock("web1", "start"):
        assert found(node) == {}
    assert len(found(node)) == 1


def test_interfaces_of_others_are_not_listed(
    net: Network, node: Node, make: Callable[..., str], tmp_path: Path
) -> None:
    make(directory=tmp_path / "other")
    make(key="nic1.tap", mark=False)
    net.ip("link", "add", "va", "type", "veth", "peer", "name", "vb")
    net.ip("link", "set", "va", "alias", "hvcore is great")
    assert found(node) == {}


def test_an_instance_of_which_more_is_left_is_ended_by_one_command(node: Node, make: Callable[..., str]) -> None:
    name = make()
    assert found(node, frozenset({"web1"}))[name].todo == "hv stop --force web1"


@pytest.mark.parametrize("table", ["100", "2000"])
@pytest.mark.parametrize("words", [("iif", "hv000000000000"), ("to", "192.0.2.7"), ("to", "fd00::7")])
def test_a_rule_that_leads_nowhere_is_listed_and_its_command_deletes_it(
    net: Network, node: Node, words: tuple[str, str], table: str
) -> None:
    family = ("-6",) if ":" in words[1] else ()
    net.ip(*family, "rule", "add", *words, "lookup", table, "pref", "5000")  # the operator's
    rule(net, *words, table=table)
    before = len(net.rules())
    (finding,) = found(node).values()
    assert finding.subject == f"rule for {words[1]}"
    assert f"for table {table}" in finding.what
    subprocess.run((finding.todo or "").split(), check=True)
    assert found(node) == {}
    assert len(net.rules()) == before - 1
    assert not any("proto 104" in line for line in net.rules())


def test_rules_that_a_ledger_names_are_not_listed(net: Network, node: Node, save: Callable[..., Record]) -> None:
    for words in (("iif", "hv000000000000"), ("to", "192.0.2.7"), ("to", "192.0.2.8")):
        rule(net, *words)
    save(routed("hv000000000000", 100, "192.0.2.7"))
    assert set(found(node)) == {"rule for 192.0.2.8"}


def test_rules_of_a_living_guest_of_another_run_directory_are_not_listed(
    net: Network, node: Node, make: Callable[..., str], tmp_path: Path
) -> None:
    name = make(directory=tmp_path / "other")
    rule(net, "iif", name)
    rule(net, "to", "192.0.2.7")
    net.ip("route", "add", "192.0.2.7", "dev", name, "table", "100", "proto", "104")
    assert found(node) == {}
    net.ip("link", "set", name, "down")  # it has then no route
    assert found(node) == {}
    net.ip("link", "del", name)
    assert set(found(node)) == {f"rule for {name}", "rule for 192.0.2.7"}


@pytest.mark.parametrize("table", ["main", "100"])
@pytest.mark.parametrize("address", ["192.0.2.7", "fd00::7"])
def test_a_route_by_an_interface_that_is_not_ours_is_listed_and_its_command_deletes_it(
    net: Network, node: Node, address: str, table: str
) -> None:
    net.ip("link", "add", "va", "type", "veth", "peer", "name", "vb")
    net.ip("link", "set", "va", "up")
    net.ip("route", "add", address, "dev", "va", "table", table, "proto", "104")
    net.ip("route", "add", "192.0.2.99", "dev", "va")  # the operator's
    (finding,) = found(node).values()
    assert (finding.subject, "by interface va" in finding.what) == (f"route {address}", True)
    subprocess.run((finding.todo or "").split(), check=True)
    assert found(node) == {}
    assert "192.0.2.99" in net.ip("route")


def test_a_forced_stop_without_a_record_removes_interfaces_with_their_rules(
    net: Network, node: Node, store: Store, make: Callable[..., str], tmp_path: Path
) -> None:
    name, other = make(), make(instance="web2")
    net.ip("route", "add", "192.0.2.7", "dev", name, "table", "100", "proto", "104")
    for words in (("iif", name), ("to", "192.0.2.7"), ("iif", other)):
        rule(net, *words)
    store.create("web1")
    (store.dir("web1") / "record.json").write_text("torn")
    node.stop("web1", force=True)
    assert net.links() == {other}
    assert net.rules() == [f"from all iif {other} lookup 100 proto 104"]


def test_an_interface_that_got_another_mark_is_left_alone(
    net: Network, run_dir: Path, make: Callable[..., str]
) -> None:
    name = make()
    (thing,) = marked(run_dir)
    net.ip("link", "set", name, "alias", "of another")
    remove_marked(thing)
    assert net.links() == {name}


@NEEDS_OVS
def test_ports_of_open_vswitch_are_listed_and_removed_by_the_same_loop(
    net: Network, node: Node, run_dir: Path, tmp_path: Path, save: Callable[..., Record]
) -> None:
    with open_vswitch(tmp_path / "ovs") as ovs:
        for name, directory, instance in (("p1", run_dir, "web1"), ("p2", run_dir, "web2"), ("p3", tmp_path, "web3")):
            mark = link_mark(directory, instance, "nic0.port")
            ovs.ask("add-port", "ovs0", name, "--", "set", "Port", name, f'external_ids:hvcore="{mark}"')
        save(Entry(kind="ovs-port", key="nic0.port", data={}), name="web2")
        (finding,) = left_links(node._context, (), ovs.socket)
        assert (finding.subject, finding.todo) == ("p1", "ovs-vsctl del-port p1")
        assert "is left of web1: port of Open vSwitch p1" in finding.what
        first = next(thing for thing in marked(run_dir, ovs.socket) if thing.name == "p1")
        remove_marked(first, ovs.socket)
        remove_marked(first, ovs.socket)
        assert ovs.ports() == {"p2", "p3"}
        assert list(left_links(node._context, (), ovs.socket)) == []
        assert list(left_links(node._context, (), "/nonexistent/db.sock")) == []


def test_names_and_marks_say_whose_they_are(tmp_path: Path) -> None:
    mark = link_mark(tmp_path, "web1", "nic0.tap")
    assert owner_of_mark(tmp_path, mark) == ("web1", "nic0.tap")
    assert owner_of_mark(tmp_path / "other", mark) is None
    for prefix in ({}, {"prefix": "gnt.com."}):
        assert is_ours(link_name(tmp_path, "web1", "nic0.tap", **prefix), "")
    assert is_ours("renamed", mark)
    assert not is_ours("hvac0", "")
