"""A port to serve on: the one that was named, or the first that is free; at an address or at that of an interface."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hvcore.plugin import InterfaceAddress, Job, OperationError, Site, TcpPort
from hvcore.resources.core_kinds import CORE_KINDS

AtWork = Callable[..., Job]
LO = InterfaceAddress(key="spice.address", given_by="params.spice_bind", interface="lo", family=4)


def port(number: int | None, *, first: int = 0, bind: Any = "127.0.0.1") -> TcpPort:
    return TcpPort(key="spice", given_by="params.spice_port", bind=bind, port=number, first=first)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that a program listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def test_one_that_is_taken_is_a_problem(site: Callable[..., Site], taken: int) -> None:
    (problem,) = CORE_KINDS.problems([port(taken)], site())
    assert str(problem) == (
        f"params.spice_port: cannot be opened at 127.0.0.1 (address already in use), got {taken}; "
        "choose another, or unset it"
    )


def test_the_first_free_one_is_taken_and_kept_from_other_starts(at_work: AtWork, taken: int) -> None:
    first, second = at_work("web1"), at_work("web2")
    numbers = [int(job.acquire(port(None, first=taken))[port(None, first=taken)]) for job in (first, second)]
    assert taken < numbers[0] < numbers[1]
    assert first.record.bindings["spice"] == f"127.0.0.1:{numbers[0]}"


def test_a_named_one_is_remembered(at_work: AtWork) -> None:
    job = at_work()
    assert job.acquire(port(5900))[port(5900)] == "5900"
    assert job.record.bindings["spice"] == "127.0.0.1:5900"
    assert job.record.ledger == ()


def test_at_an_interface_its_address_is_looked_up_first(at_work: AtWork) -> None:
    job, wanted = at_work(), port(5900, bind=LO)
    assert job.acquire(wanted)[LO] == "127.0.0.1"
    assert job.record.bindings["spice"] == "127.0.0.1:5900"


def test_an_address_of_another_node_says_what_to_correct(at_work: AtWork) -> None:
    what = r"web1: cannot listen at 192\.0\.2\.1 for spice, got .*; correct params\.spice_port or the address"
    with pytest.raises(OperationError, match=what):
        at_work().acquire(port(None, first=5900, bind="192.0.2.1"))


def test_a_missing_interface_is_reported_once_before_a_start(at_work: AtWork, site: Callable[..., Site]) -> None:
    assert "nope0" not in os.listdir("/sys/class/net")
    nowhere = InterfaceAddress(key="a", given_by="params.spice_bind", interface="nope0")
    (problem,) = CORE_KINDS.problems([port(5900, bind=nowhere), nowhere], site())
    assert problem.path == "params.spice_bind"
    with pytest.raises(OperationError, match=r"web1: params\.spice_bind: "):
        at_work().acquire(port(5900, bind=nowhere))


def test_steps_of_a_plan(site: Callable[..., Site]) -> None:
    wanted = (port(None, first=5900, bind=LO),)
    assert [str(step.what) for step in CORE_KINDS.steps([*wanted, LO], site())] == [
        "take the address of lo for spice_bind",
        "take the first free port from 5900 for spice",
    ]
    handles = CORE_KINDS.placeholders([*wanted, LO], site())
    assert (handles[wanted[0]], handles[LO]) == ("{port:spice}", "{address:lo}")
    assert CORE_KINDS.placeholders([port(5900)], site())[port(5900)] == "5900"


@pytest.mark.parametrize("number", [0, None, 5900])
def test_an_address_that_the_node_does_not_have_is_a_problem_with_any_port(
    site: Callable[..., Site], number: int | None
) -> None:
    (problem,) = CORE_KINDS.problems([port(number, bind="192.0.2.1")], site())
    assert "cannot be opened at 192.0.2.1 (cannot assign requested address)" in str(problem)


def test_a_port_that_the_program_picks_is_no_problem_at_an_address_of_the_node(site: Callable[..., Site]) -> None:
    assert list(CORE_KINDS.problems([port(0)], site())) == []


def test_a_port_that_the_instance_itself_listens_on_is_no_problem(
    site: Callable[..., Site], taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hvcore.resources.network.marked_for", lambda directory, uids: [os.getpid()])
    assert list(CORE_KINDS.problems([port(taken)], site())) == []
