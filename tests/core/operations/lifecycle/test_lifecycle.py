"""Every operation in every state, with the fake driver."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixture_types import Uids, Web

from hvcore import (
    BusyError,
    Disk,
    DriverHandle,
    HvError,
    Instance,
    NodeError,
    NotFoundError,
    Op,
    OperationError,
    ParamsError,
    State,
    StateError,
    UnknownDriverError,
    UnsupportedError,
    VerifyError,
)
from hvcore.api.node import Node
from hvcore.model.migration.entry import Request, Side
from hvcore.model.migration.messages import MigrationRequest
from hvcore.model.record import Phase
from hvcore.state.store import Store


def test_an_instance_starts_is_seen_and_stops_without_a_trace(
    node: Node, fake: DriverHandle, web: Web, uids: Uids, nothing_left: Callable[[], None]
) -> None:
    started = fake.start(web())
    assert (started.op, started.changed, started.state) == (Op.START, True, State.RUNNING)
    (info,) = node.instances()
    assert (info.name, info.driver, info.state, info.memory_mib, info.vcpus) == ("web1", "fake", State.RUNNING, 128, 1)
    assert info.uuid == web().uuid
    assert node.info("web1") == info
    assert list(uids().values()) == ["web1"]
    stopped = node.stop("web1")
    assert (stopped.op, stopped.changed, stopped.state, stopped.stopped_by) == (
        Op.STOP,
        True,
        State.STOPPED,
        "powerdown",
    )
    assert node.instances() == []
    nothing_left()


def test_paused_from_the_start(node: Node, fake: DriverHandle, web: Web) -> None:
    assert fake.start(web(), paused=True).state is State.PAUSED
    assert node.info("web1").state is State.PAUSED
    assert node.resume("web1").changed
    assert node.info("web1").state is State.RUNNING


# What each operation says in each state: the outcome's (changed, state), or the error.
DONE, SAME = True, False
EXPECTED: dict[str, dict[str, Any]] = {
    "stopped": {
        "start": (DONE, State.RUNNING),
        "stop": (SAME, State.STOPPED),
        "stop --force": (SAME, State.STOPPED),
        "pause": NotFoundError,
        "resume": NotFoundError,
        "reboot": NotFoundError,
        "console": NotFoundError,
        "exec": NotFoundError,
        "log": NotFoundError,
        "console --log": NotFoundError,
        "cleanup": (SAME, State.STOPPED),
        "attach": NotFoundError,
        "detach": NotFoundError,
        "insert": NotFoundError,
        "eject": NotFoundError,
        "resize": NotFoundError,
    },
    "running": {
        "start": (SAME, State.RUNNING),
        "stop": (DONE, State.STOPPED),
        "stop --force": (DONE, State.STOPPED),
        "pause": (DONE, State.PAUSED),
        "resume": (SAME, State.RUNNING),
        "reboot": (DONE, State.RUNNING),
        "console": None,
        "exec": None,
        "log": UnsupportedError,
        "console --log": UnsupportedError,
        "cleanup": StateError,
        "attach": (DONE, State.RUNNING),
        "detach": (DONE, State.RUNNING),
        "insert": UnsupportedError,
        "eject": UnsupportedError,
        "resize": UnsupportedError,
    },
    "paused": {
        "start": StateError,
        "stop": (DONE, State.STOPPED),
        "stop --force": (DONE, State.STOPPED),
        "pause": (SAME, State.PAUSED),
        "resume": (DONE, State.RUNNING),
        "reboot": (DONE, State.RUNNING),
        "console": None,
        "exec": StateError,
        "log": UnsupportedError,
        "console --log": UnsupportedError,
        "cleanup": StateError,
        "attach": (DONE, State.PAUSED),
        "detach": (DONE, State.PAUSED),
        "insert": UnsupportedError,
        "eject": UnsupportedError,
        "resize": UnsupportedError,
    },
    **{
        ended: {
            "start": (DONE, State.RUNNING),
            "stop": (DONE, State.STOPPED),
            "stop --force": (DONE, State.STOPPED),
            "pause": StateError,
            "resume": StateError,
            "reboot": StateError,
            "console": StateError,
            "exec": StateError,
            "log": UnsupportedError,
            "console --log": UnsupportedError,
            "cleanup": (DONE, State.STOPPED),
            "attach": StateError,
            "detach": StateError,
            "insert": StateError,
            "eject": StateError,
            "resize": StateError,
        }
        for ended in ("crashed", "shutdown")
    },
    "unknown": {
        "start": StateError,
        "stop": StateError,
        "stop --force": (DONE, State.STOPPED),
        "pause": StateError,
        "resume": StateError,
        "reboot": StateError,
        "console": StateError,
        "exec": StateError,
        "log": StateError,
        "console --log": StateError,
        "cleanup": StateError,
        "attach": StateError,
        "detach": StateError,
        "insert": StateError,
        "eject": StateError,
        "resize": StateError,
    },
}
for _state, _ops in EXPECTED.items():
    _refused = NotFoundError if _state == "stopped" else StateError
    _ops |= dict.fromkeys(("balloon", "memory", "vcpus"), (DONE, State.RUNNING) if _state == "running" else _refused)
    _ops["pin"] = (DONE, State(_state)) if _state in {"running", "paused"} else _refused
    _ops["screenshot"] = None if _state in {"running", "paused"} else _ops["detach"]
    _ops["modify"] = (DONE, State(_state)) if _state in {"running", "paused"} else _refused
    _ops["abi"] = _refused if _state in {"stopped", "unknown"} else None
    _ops["upgrade-check"] = None if _state in {"running", "paused"} else NotFoundError  # it asks about those that run
    _ops["vnc-password"] = _ops["detach"]
    _ops["migrate"] = None if _state in {"running", "paused"} else _refused
    _ops["reset"] = _ops["detach"]
    _ops["send-key"] = (DONE, State.RUNNING) if _state == "running" else _refused
    _ops["powerdown"] = (DONE, State.SHUTDOWN) if _state == "running" else _refused  # a fake guest obeys at once
    _ops["nmi"] = UnsupportedError if _state == "running" else _refused
EXPECTED["shutdown"]["powerdown"] = (SAME, State.SHUTDOWN)
OFFER = MigrationRequest(request=Request.LOOK, side=Side.SOURCE, name="web1", job="")
CASES = [(state, op) for state, ops in EXPECTED.items() for op in ops]


def bring_to(state: str, node: Node, fake: DriverHandle, web: Web, store: Store) -> None:
    if state == "stopped":
        return
    instance = web(fail_at="observe") if state == "unknown" else web()
    fake.start(replace(instance, disks=(Disk(path="/srv/a.img"),)), paused=state == "paused")
    if state in {"crashed", "shutdown"}:
        record = store.load("web1")
        assert record is not None
        store.save(changed(record, bindings={**record.bindings, "guest": state}))
    if state != "stopped":
        assert node.info("web1").state == state


def changed(record: Any, **fields: Any) -> Any:
    from dataclasses import replace

    return replace(record, **fields)


def run(op: str, node: Node, fake: DriverHandle, web: Web) -> Any:
    calls: dict[str, Callable[[], Any]] = {
        "start": lambda: fake.start(web()),
        "stop": lambda: node.stop("web1"),
        "stop --force": lambda: node.stop("web1", force=True),
        "pause": lambda: node.pause("web1"),
        "resume": lambda: node.resume("web1"),
        "reboot": lambda: node.reboot("web1"),
        "console": lambda: node.console("web1"),
        "exec": lambda: node.execution("web1", ["true"]),
        "log": lambda: node.log("web1"),
        "console --log": lambda: node.console_log("web1"),
        "cleanup": lambda: node.cleanup("web1"),
        "attach": lambda: node.attach("web1", Disk(path="/srv/more.img")),
        "detach": lambda: node.detach("web1", "disk0"),
        "balloon": lambda: node.balloon("web1", 64),
        "memory": lambda: node.resize_memory("web1", 256),
        "vcpus": lambda: node.resize_vcpus("web1", 2),
        "pin": lambda: node.pin("web1", "0"),
        "insert": lambda: node.insert("web1", "cdrom1", "/srv/a.iso"),
        "eject": lambda: node.eject("web1", "cdrom1"),
        "resize": lambda: node.resize_disk("web1", "disk0", 1 << 20),
        "modify": lambda: node.modify("web1", "disk0", {"cache": "none"}),
        "screenshot": lambda: node.screenshot("web1"),
        "vnc-password": lambda: node.vnc_password("web1", "secret"),
        "reset": lambda: node.reset("web1"),
        "powerdown": lambda: node.powerdown("web1"),
        "send-key": lambda: node.send_keys("web1", "a"),
        "nmi": lambda: node.nmi("web1"),
        "abi": lambda: node.abi("web1"),
        "migrate": lambda: node.migrations.answer(OFFER),
        "upgrade-check": lambda: list(node.upgrade_checks("/bin/sh", "web1", driver="fake")),
    }
    return calls[op]()


@pytest.mark.parametrize(("state", "op"), CASES, ids=[f"{op} while {state}" for state, op in CASES])
def test_each_operation_in_each_state_has_one_answer(state: str, op: str, here: Any, web: Web, uids: Uids) -> None:
    node, fake = here.node, here.fake
    bring_to(state, node, fake, web, here.store)
    wanted = EXPECTED[state][op]
    if isinstance(wanted, type):
        with pytest.raises(wanted):
            run(op, node, fake, web)
        assert [info.state for info in node.instances()] == ([] if state == "stopped" else [state])
        return
    outcome = run(op, node, fake, web)
    if op == "screenshot":
        assert outcome.startswith(b"\x89PNG")
        return
    if op == "upgrade-check":
        assert [(one.name, one.running, one.verdict) for one in outcome] == [("web1", True, "same")]
        return
    if op == "migrate":
        assert (outcome.state, outcome.offer.instance.name) == (state, "web1")
        return
    if op == "abi":
        assert outcome.entries
        return
    if wanted is None:
        assert outcome.argv == {"console": ("printf", "%s\\n", "hello"), "exec": ("true",)}[op]
        return
    assert (outcome.changed, outcome.state) == wanted
    assert outcome.op == op
    left = [info.state for info in node.instances()]
    assert left == ([] if outcome.state is State.STOPPED else [outcome.state])
    assert len(uids()) == len(left)


def test_every_state_that_can_be_made_is_in_the_table() -> None:
    assert {*EXPECTED, "starting", "stopping"} == {str(state) for state in State}
    assert all(set(ops) == {str(op) for op in Op} for ops in EXPECTED.values())


@pytest.mark.parametrize(
    ("force", "stubborn", "stopped_by"), [(False, False, "powerdown"), (True, False, "kill"), (False, True, "kill")]
)
def test_the_outcome_has_what_stopped_the_instance(
    fake: DriverHandle, node: Node, web: Web, *, force: bool, stubborn: bool, stopped_by: str
) -> None:
    fake.start(web(ignores_powerdown=stubborn))
    assert node.stop("web1", force=force).stopped_by == stopped_by


def test_what_had_ended_before_is_only_cleaned_up(node: Node, fake: DriverHandle, web: Web, store: Store) -> None:
    bring_to("shutdown", node, fake, web, store)
    assert node.stop("web1").stopped_by == "gone"


def test_a_refusal_says_why_the_state_is_unknown(node: Node, fake: DriverHandle, web: Web) -> None:
    fake.start(web(fail_at="observe"))
    with pytest.raises(StateError, match="cannot start while unknown; allowed now: stop --force") as caught:
        fake.start(web())
    assert caught.value.__notes__ == ["web1: fails on purpose; unset params.fail_at"]
    assert node.stop("web1", force=True).stopped_by == "kill"


@pytest.mark.parametrize("step", ["acquire", "start"])
def test_a_start_that_fails_is_undone_completely(
    fake: DriverHandle, web: Web, step: str, nothing_left: Callable[[], None], node: Node
) -> None:
    with pytest.raises(OperationError, match="web1: fails on purpose") as caught:
        fake.start(web(fail_at=step))
    assert not hasattr(caught.value, "__notes__")
    nothing_left()
    assert node.instances() == []
    assert fake.start(web()).changed


def test_what_the_node_cannot_run_touches_nothing(
    fake: DriverHandle, web: Web, run_dir: Path, nothing_left: Any
) -> None:
    with pytest.raises(VerifyError, match=r"params\.fail_at: fails on purpose here"):
        fake.start(web(fail_at="verify"))
    with pytest.raises(VerifyError):
        fake.verify(web(fail_at="verify"))
    assert not (run_dir / "instances").exists()
    nothing_left()


def test_wrong_parameters_touch_nothing(fake: DriverHandle, web: Web, run_dir: Path) -> None:
    with pytest.raises(ParamsError) as caught:
        fake.start(web(motdd="x", fail_at="never"))
    assert [problem.path for problem in caught.value.problems] == ["params.motdd", "params.fail_at"]
    assert list(run_dir.iterdir()) == []


def test_a_stop_that_fails_leaves_it_running(node: Node, fake: DriverHandle, web: Web, store: Store) -> None:
    fake.start(web(fail_at="stop"))
    with pytest.raises(OperationError, match="fails on purpose"):
        node.stop("web1")
    assert node.info("web1").state is State.RUNNING
    record = store.load("web1")
    assert record is not None
    assert record.phase is Phase.RUNNING


def test_starting_a_running_one_again_says_when_it_differs(fake: DriverHandle, web: Web) -> None:
    fake.start(web(motd="a"))
    assert fake.start(web(motd="a")).notes == ()
    (note,) = fake.start(web(motd="b")).notes
    assert note.endswith("; the changes of params.motd take effect after hv stop and hv start")
    (note,) = fake.start(web()).notes  # a parameter that was taken away
    assert "the changes of params.motd take effect" in note
    (note,) = fake.start(replace(web(motd="b", ignores_powerdown=True), memory_mib=200, vcpus=3)).notes
    assert "the changes of memory_mib, vcpus, params.ignores_powerdown, params.motd take effect" in note


def test_an_instance_of_another_driver_is_not_this_drivers(fake: DriverHandle, web: Web) -> None:
    with pytest.raises(ParamsError, match="driver: is not fake, got 'kvm'"):
        fake.check(Instance(name="web1", driver="kvm"))


def test_reboot_is_a_stop_and_a_start(node: Node, fake: DriverHandle, web: Web, uids: Uids) -> None:
    fake.start(web(motd="kept"))
    outcome = node.reboot("web1", force=True)
    assert (outcome.op, outcome.stopped_by, outcome.changed, outcome.state) == (Op.REBOOT, "kill", True, State.RUNNING)
    assert node.console("web1").argv[-1] == "kept"
    assert len(uids()) == 1


def test_an_exhausted_uid_pool_is_reported_and_nothing_is_left(run_dir: Path, web: Web) -> None:
    node = Node(run_dir, uid_pool=range(7, 8))
    node.driver("fake").start(web("a"))
    with pytest.raises(NodeError, match=r"uid pool 7-7: all 1 are taken; stop an instance first"):
        node.driver("fake").start(web("b"))
    assert [info.name for info in node.instances()] == ["a"]


def test_names_are_sorted_and_similar_names_are_distinct(node: Node, fake: DriverHandle, web: Web) -> None:
    for name in ("web10", "web1", "a"):
        fake.start(web(name))
    node.stop("web1")
    assert [info.name for info in node.instances()] == ["a", "web10"]


@pytest.mark.parametrize("name", ["../x", "", "a/b", "-f", "x" * 300, "a\n"])
def test_an_impossible_name_is_not_found(node: Node, name: str) -> None:
    for call in (node.info, node.stop, node.cleanup, node.pause, node.reboot, node.console):
        with pytest.raises(HvError) as caught:
            call(name)
        assert caught.value.exit_code == 4
        assert "\n" not in str(caught.value)


def test_an_operation_at_work_keeps_others_out_until_their_deadline(
    node: Node, fake: DriverHandle, web: Web, store: Store
) -> None:
    fake.start(web())
    with store.lock("web1", "start"):
        with pytest.raises(BusyError, match=r"held by pid \d+ \(start web1\) for more than 0\.05 s"):
            node.stop("web1", deadline_s=0.05)
        assert node.info("web1").state is State.RUNNING  # a look waits for no lock
    assert node.stop("web1").changed


@pytest.mark.heavy
def test_one_node_can_be_shared_by_threads(node: Node, fake: DriverHandle, web: Web, uids: Uids) -> None:
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(5):
                fake.start(web(f"web{number}"))
                node.instances()
                node.stop(f"web{number}", force=True)
            fake.start(web(f"web{number}"))
        except BaseException as error:  # noqa: BLE001 - reported below
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert sorted(uids().values()) == sorted(f"web{number}" for number in range(8))


def test_every_problem_of_plain_data_is_reported_at_once_even_with_an_unknown_driver(node: Node) -> None:
    with pytest.raises(ParamsError) as caught:
        node.check({"name": "web1", "driver": "fak", "vcpus": 0})
    assert [problem.path for problem in caught.value.problems] == ["vcpus", "driver"]
    assert "did you mean 'fake'?" in str(caught.value)
    with pytest.raises(ParamsError) as caught:
        node.check({"name": "web1", "driver": "fake", "vcpus": 0, "params": {"motdd": 1}})
    assert [problem.path for problem in caught.value.problems] == ["vcpus", "params.motdd"]
    with pytest.raises(UnknownDriverError):
        node.check({"name": "web1", "driver": "fak"})


def test_checks_across_values_are_the_drivers(node: Node) -> None:
    with pytest.raises(ParamsError, match="vcpus: at most 64 if the guest ignores a powerdown, got 65"):
        node.check({"name": "web1", "driver": "fake", "vcpus": 65, "params": {"ignores_powerdown": True}})


def test_planning_does_nothing(fake: DriverHandle, web: Web, run_dir: Path) -> None:
    plan = fake.plan(web(motd="hi"))
    assert plan.name == "web1"
    assert plan.argv == ("fake-guest", "--motd", "hi")
    assert list(run_dir.iterdir()) == []


def test_the_abilities_of_a_driver_are_listed(fake: DriverHandle) -> None:
    assert fake.capabilities == (
        *("pause", "console", "exec", "screenshot", "vnc-password", "reset", "powerdown", "send-key", "nmi", "attach"),
        *("balloon", "memory", "vcpus", "upgrade-check", "abi", "pin", "migrate", "modify"),
    )
    assert {"fail_at", "motd"} <= set(fake.schema.params)
    assert "motd" in fake.json_schema()["properties"]
    assert {row.key for row in fake.parameters()} == set(fake.schema.params)


def test_a_run_directory_that_is_not_safe_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(NodeError, match="others can write to it"):
        Node(tmp_path / "open")
