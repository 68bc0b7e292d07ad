"""Egress as a resource: acquired before its program, released also after a crash, refused or said where it is impossible."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from node_and_internet import OUTSIDE, PORT, PRIVATE, node_and_internet, reached_as, run
from own_uids import OWN_UIDS

from hvcore.host.network.egress_table import EGRESS
from hvcore.host.network.nft import find_nft
from hvcore.plugin import Egress, HvError, Identity, Job, Level, OperationError, PortForward, Site, forward_of
from hvcore.resources import egress
from hvcore.resources.core_kinds import CORE_KINDS

AtWork = Callable[..., Job]
MakeSite = Callable[..., Site]
WHO = Identity(key="nic0.passt.uid", at_any_level=True)
DNS = PortForward(key="nic0.passt.forward0", forward=forward_of("0:53/udp"), program="nic0.passt")


def wanted(policy: str = "internet", *, required: bool = True, key: str = "nic0.egress", who: Identity = WHO) -> Egress:
    return Egress(key=key, given_by="nics[0].egress", policy=policy, owner=who, required=required, udp=(DNS,))


@pytest.fixture(scope="module")
def network() -> Iterator[None]:
    if find_nft() is None:
        pytest.skip("needs nftables: apt-get install nftables")
    with node_and_internet():
        yield


@pytest.fixture
def internet(network: None) -> Iterator[None]:
    run("/usr/sbin/nft flush ruleset")
    yield
    run("/usr/sbin/nft flush ruleset")


@pytest.fixture
def site(site: MakeSite) -> MakeSite:
    """With uids of its own: the elements of a uid stay in the table while any process of the node has it."""
    return partial(site, uid_pool=OWN_UIDS)


def tables() -> str:
    return subprocess.run(["/usr/sbin/nft", "list", "ruleset"], check=True, capture_output=True, text=True).stdout


def uid_of(job: Job) -> int:
    user = job.held[WHO]
    assert user is not None
    return user.uid


@pytest.mark.usefixtures("internet")
@pytest.mark.parametrize("level", [Level.STRICT, Level.USER, Level.OFF])
def test_a_guest_is_in_the_table_until_it_is_released(at_work: AtWork, level: Level) -> None:
    job, one = at_work(level=level), wanted()
    job.acquire(one)
    job.prove(one, level=level)
    targets = {("tcp", address, PORT) for address in (*OUTSIDE, *PRIVATE, "127.0.0.1", "::1")}
    assert reached_as(uid_of(job), targets) == {("tcp", address, PORT) for address in OUTSIDE}
    assert str(job.held[DNS]) in tables()
    assert [entry.data for entry in job.record.ledger if entry.kind == EGRESS] == [{"policy": "internet"}]
    job.release()
    assert not tables()
    assert not list((job.host.run_dir / "reservations" / EGRESS).iterdir())


@pytest.mark.usefixtures("internet")
def test_a_release_after_a_crash_and_a_flush_leaves_nothing(at_work: AtWork) -> None:
    for number, change in enumerate(("", "flush ruleset", "delete element inet hvcore guests { %d }")):
        job = at_work(f"web{number}")
        job.acquire(wanted())
        if change:
            run(f"/usr/sbin/nft {change % uid_of(job) if '%' in change else change}")
        job.held.close()
        again = at_work(f"web{number}")
        again.release()
        again.release()
        assert not tables()


@pytest.mark.usefixtures("internet")
def test_a_release_that_was_killed_before_it_removed_its_notes_is_finished(at_work: AtWork) -> None:
    job = at_work()
    job.acquire(wanted())
    root = job.host.run_dir / "reservations"
    run("/usr/sbin/nft flush ruleset")
    for link in (root / EGRESS).iterdir():
        link.unlink()
    assert list((root / "owners/web1" / EGRESS).iterdir())
    job.release("nic0.egress")
    assert not (root / "owners/web1" / EGRESS).exists()


@pytest.mark.usefixtures("internet")
def test_two_nics_are_released_one_at_a_time(at_work: AtWork) -> None:
    job = at_work()
    other = Identity(key="nic1.passt.uid", at_any_level=True)
    job.acquire(wanted("none"), wanted("all", key="nic1.egress", who=other))
    job.release("nic0.egress")
    assert str(uid_of(job)) not in tables()
    user = job.held[other]
    assert user is not None
    assert f"{user.uid} : goto to_all" in tables()
    job.release()
    assert not tables()


@pytest.mark.usefixtures("internet")
def test_a_table_that_the_operator_changed_is_put_back_by_a_start(at_work: AtWork) -> None:
    first, second = at_work("web1"), at_work("web2")
    first.acquire(wanted("none"))
    run("/usr/sbin/nft insert rule inet hvcore output accept")
    second.acquire(wanted("none"))
    second.prove(wanted("none"), level=Level.STRICT)
    assert reached_as(uid_of(first), {("tcp", OUTSIDE[0], PORT)}) == set()
    assert reached_as(uid_of(second), {("tcp", OUTSIDE[0], PORT)}) == set()


def problems(site: Site, one: Egress) -> list[str]:
    return [str(problem) for problem in CORE_KINDS.problems([one], site) if problem.path == one.where]


def test_without_a_uid_of_its_own_a_policy_is_refused_and_a_default_is_a_note(site: MakeSite, at_work: AtWork) -> None:
    place = site(level=Level.USER, privileged=False)
    (text,) = problems(place, wanted("all"))
    assert text.startswith("nics[0].egress: cannot be enforced for a program with the caller's uid, got 'all'; ")
    assert not problems(place, wanted("all", required=False))
    (step,) = [step for step in CORE_KINDS.steps([wanted("all", required=False)], place) if step.kind == "note"]
    assert "the guest can reach the node's loopback addresses" in step.what
    job = at_work(level=Level.USER, privileged=False)
    job.acquire(wanted("all", required=False))
    assert job.remarks == [step.what]
    assert job.record.bindings["egress"] == {"nic0.egress": step.what}
    with pytest.raises(OperationError, match=r"nics\[0\].egress: cannot be enforced"):
        job.acquire(wanted("internet", key="nic1.egress"))


def test_a_named_user_of_several_guests_is_refused(site: MakeSite) -> None:
    (text,) = problems(site(), wanted(who=Identity(key="uid", user="nobody")))
    assert "cannot be enforced for a named user" in text


def test_without_nft_the_package_is_named(site: MakeSite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(egress, "find_nft", lambda: None)
    (text,) = problems(site(privileged=True), wanted())
    assert "needs the program nft, which is not installed on this node" in text
    assert "nftables" in text


@pytest.mark.usefixtures("network")
def test_an_nft_that_fails_stops_the_start_and_leaves_nothing(
    at_work: AtWork, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "nft"
    broken.write_text("#!/bin/sh\necho 'Error: Operation not permitted' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    job = at_work()
    with pytest.raises(HvError, match="Operation not permitted"):
        job.acquire(wanted())
    monkeypatch.undo()
    job.release()
    assert not list((job.host.run_dir / "reservations" / EGRESS).iterdir())


def test_a_uid_that_other_connections_have_is_refused(site: MakeSite) -> None:
    one = replace(wanted(), uid_shared_with="the network disks of QEMU")
    (text,) = problems(site(privileged=True), one)
    assert "cannot be enforced, because the network disks of QEMU have the same uid, got 'internet'; use passt" in text


@pytest.mark.parametrize("closes", [True, False])
def test_a_passt_that_closes_the_loopback_needs_no_rule_for_all(
    site: MakeSite, at_work: AtWork, tmp_path: Path, *, closes: bool
) -> None:
    passt = tmp_path / "passt"
    passt.write_text(f"#!/bin/sh\necho '  {'--map-host-loopback ADDR' if closes else '--no-map-gw'}'\n")
    passt.chmod(0o755)
    place = site(level=Level.USER, privileged=False)
    one = replace(wanted("all"), passt=str(passt))
    assert bool(problems(place, one)) is not closes
    assert problems(place, replace(one, policy="internet"))
    job = at_work(level=Level.USER, privileged=False)
    job.acquire(replace(one, required=False))
    assert bool(job.remarks) is not closes
