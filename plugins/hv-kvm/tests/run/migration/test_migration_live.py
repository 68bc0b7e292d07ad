"""Real guests that move between two nodes: two run directories with uids of their own, and one disk."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import closing
from dataclasses import replace

import pytest
from moved import Side, move
from world import PATIENCE_S

import hvcore
import hvcore.plugin as hv
from hv_kvm.qmp import QmpCommandError, commands, reach
from hv_kvm.run.migration import stream
from hv_kvm.run.migration.credentials import credentials
from hv_kvm.run.migration.progress import SENDING

pytestmark = pytest.mark.live

SLOW_BPS = 1 << 16
ACTIVE = frozenset({hvcore.TransferState.ACTIVE})
WORDS = {"message": "still here\r\n", "repeat": True}


@pytest.fixture
def booted(sides: tuple[Side, Side]) -> tuple[Side, Side]:
    """The same with a guest that runs on the first."""
    sides[0].world.start(paused=True)
    sides[0].world.booted()
    return sides


def answers(side: Side) -> None:
    """The guest runs here, and hears its power button."""
    assert side.world.info().state is hvcore.State.RUNNING
    assert side.world.node.stop("web1", deadline_s=PATIENCE_S).stopped_by == "powerdown"


def test_a_guest_moves_there_and_back(booted: tuple[Side, Side]) -> None:
    one, other = booted
    before = set(one.world.record().bindings)
    move(one, other)
    assert one.world.node.instances() == []
    info = other.world.info()
    assert (info.state, info.reason) == (hvcore.State.RUNNING, None)
    assert set(other.world.record().bindings) == before
    assert {entry.key for entry in other.world.record().ledger} >= {"disk0", "process"}
    assert other.transfer().state is hvcore.TransferState.NONE
    move(other, one, mode="paused")
    answers(one)


@pytest.mark.slow
def test_a_paused_guest_stays_paused(booted: tuple[Side, Side]) -> None:
    one, other = booted
    one.world.node.pause("web1")
    one.does("cancel_transfer", paused=True)
    move(one, other)
    assert other.world.info().state is hvcore.State.PAUSED
    other.world.node.resume("web1")
    answers(other)


def test_a_slow_one_is_made_faster_and_cancelled(booted: tuple[Side, Side]) -> None:
    one, other = booted
    landing = other.land(one)
    assert other.transfer().state is hvcore.TransferState.WAITING
    one.send(landing, bandwidth_bps=SLOW_BPS)
    one.until(ACTIVE)
    one.send(landing, bandwidth_bps=SLOW_BPS)  # again: nothing happens
    one.does("tune_transfer", hvcore.Tuning(bandwidth_bps=SLOW_BPS + 4096, downtime_ms=7))
    with pytest.raises(hvcore.InputError, match="caps: cannot change while a migration runs"):
        one.does("tune_transfer", hvcore.Tuning(caps=("xbzrle",)))
    with reach(one.world.dir(), PATIENCE_S) as client:
        found = client.execute("query-migrate-parameters", deadline_s=PATIENCE_S)
    assert (found["max-bandwidth"], found["downtime-limit"]) == (SLOW_BPS + 4096, 7)
    one.does("cancel_transfer")
    assert one.transfer().state is hvcore.TransferState.CANCELLED
    assert one.transfer().cpus_run
    assert not [entry for entry in one.world.record().ledger if entry.key == "migration"]
    other.end()
    move(one, other, job="j2")
    answers(other)


@pytest.mark.slow
def test_strangers_do_not_end_a_landing(booted: tuple[Side, Side]) -> None:
    one, other = booted
    landing = other.land(one)
    for words in (b"", b"GET / HTTP/1.0\r\n\r\n", os.urandom(4096)):
        with socket.create_connection((landing.host, landing.port)) as stranger:
            stranger.sendall(words)
    with socket.create_connection((landing.host, landing.port)):  # which says nothing
        one.send(landing)
        assert one.until().state is hvcore.TransferState.COMPLETED
    other.run_landed()


@pytest.mark.slow
def test_a_target_that_is_not_the_one_gets_nothing(booted: tuple[Side, Side]) -> None:
    one, other = booted
    landing = other.land(one)
    own = one.offer().certificate
    one.send(replace(landing, certificate=own))
    found = one.until()
    assert found.state is hvcore.TransferState.FAILED
    assert "certificate" in str(found.error)
    assert found.cpus_run
    other.end()
    plain = other.land(one, job="j2", tls=False)
    one.send(replace(plain, job="j2", ticket="guessed"))
    assert one.until().state is hvcore.TransferState.FAILED
    assert other.transfer().state is hvcore.TransferState.WAITING
    one.send(replace(plain, job="j3"))
    assert one.until().state is hvcore.TransferState.COMPLETED
    other.run_landed()
    one.end()


@pytest.mark.slow
def test_a_target_that_is_killed_leaves_the_guest_where_it_was(booted: tuple[Side, Side]) -> None:
    one, other = booted
    one.send(other.land(one), bandwidth_bps=SLOW_BPS)
    one.until(ACTIVE)
    other.world.kill()
    found = one.until()
    assert (found.state, found.cpus_run) == (hvcore.TransferState.FAILED, True)
    assert other.transfer().state is hvcore.TransferState.NONE
    one.does("cancel_transfer")
    answers(one)


@pytest.mark.slow
def test_a_source_that_is_killed_ends_the_target(booted: tuple[Side, Side]) -> None:
    one, other = booted
    one.send(other.land(one), bandwidth_bps=SLOW_BPS)
    one.until(ACTIVE)
    one.world.kill()
    other.world.wait_ended(other.world.record())
    assert other.transfer().state is hvcore.TransferState.NONE
    assert one.transfer() == hvcore.Transfer()


@pytest.mark.slow
def test_a_target_that_hangs_is_cancelled_and_both_sides_refuse_what_is_not_theirs(booted: tuple[Side, Side]) -> None:
    one, other = booted
    one.send(other.land(one), bandwidth_bps=SLOW_BPS)
    one.until(ACTIVE)
    os.kill(other.world.pid(), signal.SIGSTOP)
    one.does("cancel_transfer")
    assert one.transfer().cpus_run
    os.kill(other.world.pid(), signal.SIGCONT)


def test_another_machine_is_refused_by_its_list_and_by_qemu(booted: tuple[Side, Side]) -> None:
    one, other = booted
    offer = one.offer()
    assert other.refusals(offer) == []
    larger = replace(one.world.instance(disks=[str(one.world.root / "web1.img")]), memory_mib=48)
    spec = other.loaded.plan(larger, other.loaded.check(larger))
    problems = other.refusals(replace(offer, spec=hv.encode(spec)))
    assert problems
    assert all("memory" in problem and "at the source" in problem for problem in problems)
    one.send(other.land(one, spec=spec))
    assert one.until().state is hvcore.TransferState.FAILED
    assert one.transfer().cpus_run
    other.world.wait_ended(other.world.record())
    assert "mismatch" in str(other.transfer().error)


@pytest.mark.slow
def test_after_the_arrival_only_the_target_may_write(booted: tuple[Side, Side]) -> None:
    one, other = booted
    one.send(other.land(one))
    assert one.until().state is hvcore.TransferState.COMPLETED
    other.until()
    with reach(one.world.dir(), PATIENCE_S) as client, pytest.raises(QmpCommandError, match="lock"):
        commands.cont(client)
    other.run_landed()
    other.run_landed()  # again: nothing happens
    with reach(other.world.dir(), PATIENCE_S) as client:
        commands.stop(client)
    other.run_landed()  # it has run, and stays as it is
    assert not other.transfer().cpus_run
    other.world.node.resume("web1")
    one.end()
    answers(other)


@pytest.mark.slow
def test_a_target_that_hangs_may_have_run(booted: tuple[Side, Side]) -> None:
    one, other = booted
    one.send(other.land(one))
    other.until()
    os.kill(other.world.pid(), signal.SIGSTOP)
    with pytest.raises(hvcore.DeadlineError):
        other.does("run_landed", deadline_s=3.0)
    os.kill(other.world.pid(), signal.SIGCONT)
    other.run_landed()
    assert other.transfer().cpus_run


@pytest.mark.slow
def test_a_target_whose_qemu_has_died_may_have_run(booted: tuple[Side, Side]) -> None:
    one, other = booted
    one.send(other.land(one))
    other.until()
    other.world.kill()
    with pytest.raises(hvcore.NodeError, match="it is not known whether it runs here"):
        other.does("run_landed")


def test_a_completed_one_goes_on_at_the_source_when_the_target_is_gone(booted: tuple[Side, Side]) -> None:
    one, other = booted
    one.send(other.land(one))
    assert one.until().state is hvcore.TransferState.COMPLETED
    other.end()
    one.does("cancel_transfer")
    one.does("resume")
    found = one.transfer()
    assert (found.state, found.cpus_run) == (hvcore.TransferState.CANCELLED, True)
    one.does("cancel_transfer")  # again: nothing happens
    move(one, other, job="j2")
    answers(other)


@pytest.mark.slow
def test_another_instance_does_not_get_a_disk_that_is_on_its_way(booted: tuple[Side, Side]) -> None:
    one, other = booted
    other.land(one)
    for side in booted:
        with pytest.raises(hvcore.DiskInUseError, match="in use by instance web1"):
            side.world.start("web2", disks=[str(one.world.root / "web1.img")])


@pytest.mark.slow
def test_a_source_whose_caller_was_killed_before_qemu_began_begins_again(booted: tuple[Side, Side]) -> None:
    one, other = booted
    landing = other.land(one)
    job = one.job()
    begun = {"job": landing.job, "disks": [], "copied": False, "sent": False, "switched": False}
    with closing(job.held), reach(job.dir, PATIENCE_S) as client:
        job.update(bindings={**job.record.bindings, SENDING: begun})
        stream.send_to(job, client, landing, credentials(job.dir))
        job.update()
    assert one.transfer().state is hvcore.TransferState.NONE
    one.send(landing)
    assert one.until().state is hvcore.TransferState.COMPLETED
    other.until()
    other.run_landed()
    one.end()
    answers(other)


@pytest.mark.slow
def test_a_port_that_is_in_use_is_refused(booted: tuple[Side, Side]) -> None:
    one, other = booted
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(hvcore.OperationError, match=rf"127.0.0.1 port {port}, got Address already in use; choose"):
            other.land(one, port=port)


def test_guests_that_arrive_at_the_same_time_have_a_port_each() -> None:
    with closing(stream.listen("web1", "127.0.0.1", range(1))) as first:
        port = first.getsockname()[1]
        with closing(stream.listen("web2", "127.0.0.1", range(port, port + 64))) as second:
            assert port < second.getsockname()[1] < port + 64
    with pytest.raises(hvcore.OperationError, match=r"web1: cannot wait for the guest at no.such.host port 0, got "):
        stream.listen("web1", "no.such.host", range(1))
