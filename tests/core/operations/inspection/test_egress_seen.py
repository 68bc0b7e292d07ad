"""Egress rules that a running guest has lost: info, doctor and recover say so, and recover puts them back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from node_and_internet import run
from own_network import own_network
from own_uids import OWN_UIDS
from sleeper import Sleeper, SleeperSpec

from hvcore import Instance, Recovered
from hvcore.deadline import Deadline
from hvcore.host.cgroups.hierarchy import ControlGroups
from hvcore.host.environment import Host
from hvcore.host.network.nft import find_nft
from hvcore.operations.context import Context
from hvcore.operations.inspection.info import info
from hvcore.operations.inspection.leftovers import leftovers
from hvcore.operations.lifecycle.start import start
from hvcore.operations.lifecycle.stop import stop
from hvcore.operations.recovery.recover import recover_all
from hvcore.plugin import AsUser, Egress, Identity, Job, Level, Sandbox
from hvcore.plugins.loaded_driver import LoadedDriver
from hvcore.resources.passt_namespace import REFUSED
from hvcore.state.store import Store


class Ruled(Sleeper):
    """A sleeper with egress rules."""

    def start(self, spec: SleeperSpec, job: Job) -> None:
        one = Egress(key="nic0.egress", given_by="nics[0].egress", policy="none", owner=Identity(key="uid"))
        job.acquire(one, level=Level.STRICT)
        super().start(spec, job)


@pytest.fixture
def context(load: Callable[..., LoadedDriver], run_dir: Path) -> Iterator[Context]:
    if os.geteuid() != 0 or find_nft() is None:
        pytest.skip("needs root and nftables: sudo ./dev test")
    sandbox = Sandbox(who=AsUser(OWN_UIDS[0]))
    loaded = load(type("Made", (Ruled,), {"sandbox": sandbox}))
    host = Host(run_dir=run_dir, privileged=True, uid_pool=OWN_UIDS, cgroups=ControlGroups())
    made = Context(host=host, store=Store(run_dir), driver=lambda name: loaded, progress=lambda text: None)
    with own_network():
        for name in ("web1", "web2"):
            start(made, loaded, Instance(name=name, driver="fake"), paused=False, deadline=Deadline(30))
        yield made
        for name in ("web1", "web2"):
            stop(made, name, force=True, deadline=Deadline(30))


def test_lost_rules_are_reported_and_put_back(context: Context) -> None:
    assert info(context, "web1").reason is None
    assert not [finding for finding in leftovers(context) if "egress" in finding.what]
    run("/usr/sbin/nft flush ruleset")
    expected = "egress is not enforced: the nftables table inet hvcore is missing; hv recover restores it"
    assert info(context, "web1").reason == expected
    found = [finding for finding in leftovers(context) if "egress" in finding.what]
    assert [(finding.subject, finding.todo) for finding in found] == [("web1", "hv recover"), ("web2", "hv recover")]
    why = "its egress rules: the nftables table inet hvcore is missing"
    assert recover_all(context, 10) == [Recovered(name=name, what="restored", detail=why) for name in ("web1", "web2")]
    assert info(context, "web1").reason is None
    assert recover_all(context, 10) == []


class Inside(Sleeper):
    """A sleeper with rules in a network namespace, which refuse one address."""

    def start(self, spec: SleeperSpec, job: Job) -> None:
        job.bind(**{REFUSED: {"nic0.passt": ["198.51.100.2"]}})
        super().start(spec, job)


def test_a_new_public_address_of_the_node_is_reported(load: Callable[..., LoadedDriver], run_dir: Path) -> None:
    loaded = load(type("Made", (Inside,), {}))
    host = Host(run_dir=run_dir, privileged=False, uid_pool=range(1), cgroups=ControlGroups())
    made = Context(host=host, store=Store(run_dir), driver=lambda name: loaded, progress=lambda text: None)
    with own_network((4,)):
        start(made, loaded, Instance(name="web1", driver="fake"), paused=False, deadline=Deadline(30))
        try:
            assert info(made, "web1").reason is None
            run("ip addr add 10.77.0.1/24 dev hv-node")  # private: refused on every node
            assert info(made, "web1").reason is None
            run("ip addr add 203.0.113.7/24 dev hv-node")
            run("ip addr add 2001:db8::7/64 dev hv-node nodad")
            assert info(made, "web1").reason == (
                "egress does not refuse new addresses of the node: 2001:db8::7, 203.0.113.7; hv reboot refuses them"
            )
        finally:
            stop(made, "web1", force=True, deadline=Deadline(30))
