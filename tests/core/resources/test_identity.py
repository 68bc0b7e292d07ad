"""Whom an instance runs as: a user that was named, a uid of the pool, or the caller; and uids for the users inside."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable

import pytest

from hvcore.host.confinement.namespaces import UID_RANGE_SIZE, uid_ranges
from hvcore.host.reservations import Reservations
from hvcore.plugin import AsUser, Identity, Job, Level, NodeError, OperationError, Site, UidRange
from hvcore.resources.identity import IdentityKind, UidRangeKind

AtWork = Callable[..., Job]
UID = Identity(key="uid")


def named(user: str) -> Identity:
    return Identity(key="uid", given_by="params.user", user=user)


def test_a_uid_of_the_pool_has_one_instance(at_work: AtWork, uids: Callable[[], dict[str, str]]) -> None:
    first, second = (at_work(name).acquire(UID)[UID] for name in ("web1", "web2"))
    assert first is not None
    assert second is not None
    assert first.uid < second.uid
    assert uids() == {str(first.uid): "web1", str(second.uid): "web2"}


def test_one_instance_can_have_several(at_work: AtWork) -> None:
    other = Identity(key="tpm.uid")
    handles = at_work().acquire(UID, other)
    assert isinstance(handles[UID], AsUser)
    assert isinstance(handles[other], AsUser)
    assert handles[UID] != handles[other]


def test_when_all_are_taken_the_error_says_so(at_work: AtWork) -> None:
    first = 1_881_000_000 + os.getpid()  # no other program of the node uses these
    three = [Identity(key=f"uid{number}") for number in range(3)]
    with pytest.raises(NodeError, match=f"uid pool {first}-{first + 1}: all 2 are taken; stop an instance first"):
        at_work(uid_pool=range(first, first + 2)).acquire(*three)


def test_a_named_user_is_not_reserved(at_work: AtWork, uids: Callable[[], dict[str, str]]) -> None:
    wanted, nobody = named("nobody"), pwd.getpwnam("nobody")
    job = at_work()
    assert job.acquire(wanted)[wanted] == AsUser(nobody.pw_uid, nobody.pw_gid)
    assert job.record.ledger == ()
    assert uids() == {}


@pytest.mark.parametrize(
    ("user", "what"),
    [
        ("no-such-user", "is not a user of this node, got 'no-such-user'; create the user, or name another"),
        ("root", "is root, which a guest never runs as, got 'root'; name another"),
    ],
)
def test_a_user_that_cannot_be_is_refused_before_and_at_the_start(
    at_work: AtWork, site: Callable[..., Site], user: str, what: str
) -> None:
    assert [str(problem) for problem in IdentityKind().verify(named(user), site())] == [f"params.user: {what}"]
    with pytest.raises(OperationError, match=rf"web1: params\.user {what.split(',', maxsplit=1)[0]}"):
        at_work().acquire(named(user))


@pytest.mark.parametrize("level", [Level.USER, Level.OFF])
def test_below_strict_the_user_is_the_caller(at_work: AtWork, level: Level) -> None:
    job = at_work(level=level)
    assert job.acquire(UID)[UID] is None
    assert job.record.ledger == ()
    assert list(IdentityKind().describe(UID, job.held.site)) == []


def test_steps_of_a_plan(site: Callable[..., Site]) -> None:
    wanted = (UID, Identity(key="tpm.uid"), named("nobody"))
    assert [str(step.what) for each in wanted for step in IdentityKind().describe(each, site())] == [
        "take a uid from 1880000000 to 1880000099 that no other guest has",
        "take a uid from 1880000000 to 1880000099 that no other program has",
        "run as the user nobody",
    ]
    assert IdentityKind().placeholder(UID, site()) is None


@pytest.mark.skipif(not uid_ranges(), reason="the uids of this node are not ours to give")
def test_a_range_has_one_instance_and_is_given_back(at_work: AtWork) -> None:
    wanted = UidRange(key="users")
    first, second = at_work("web1"), at_work("web2")
    ranges = [job.acquire(wanted)[wanted] for job in (first, second)]
    assert [len(each) for each in ranges] == [UID_RANGE_SIZE] * 2
    assert not set(ranges[0]) & set(ranges[1])
    reserved = Reservations(first.host.run_dir / "reservations" / "uid-range")
    assert sorted(reserved.items().values()) == ["web1", "web2"]
    first.release("users")
    assert list(reserved.items().values()) == ["web2"]


def test_steps_of_a_plan_for_a_range(site: Callable[..., Site]) -> None:
    (step,) = UidRangeKind().describe(UidRange(key="users"), site())
    assert str(step.what).startswith("65536 uids of the node")
    assert UidRangeKind().placeholder(UidRange(key="users"), site()) == range(65536)
