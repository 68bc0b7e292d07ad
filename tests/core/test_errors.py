"""Errors leave the process: pickled, copied, and as JSON with the facts of their texts."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fixture_types import Web

import hvcore
import hvcore.errors
from hv_kvm.qmp.errors import QmpBusyError, QmpCommandError, QmpConnectError, QmpTimeoutError
from hvcore import DriverHandle, HvError, Problem
from hvcore.api.node import Node
from hvcore.model.codec import DecodeError
from hvcore.plain import plain
from hvcore.state.store import Store

PROBLEM = Problem(path="vcpus", what="at least 1", got="0")
ERRORS: tuple[HvError, ...] = (
    hvcore.ParamsError("web1", [PROBLEM]),
    hvcore.VerifyError("web1", [PROBLEM]),
    hvcore.HookError(plugin="kvm.x", hook="check", what="raised", owner="kvm.x (hv-x 1)", place="x.py:1"),
    hvcore.DriverError(owner="fake (hv-fake 1)", method="stop", place="x.py:1", what="raised", todo="report it"),
    hvcore.UnsupportedError(driver="chroot", operation="balloon", reason="no balloon"),
    hvcore.NotFoundError("web1", hint="it belongs to driver kvm"),
    hvcore.BusyError("busy", subject="web1", holder_pid=7, holder_operation="stop web1", waited_s=5.0),
    hvcore.DiskInUseError(path="/a.img", holder="web2"),
    hvcore.StateError(name="web1", state="running", operation="cleanup", allowed=["stop"]),
    hvcore.LaunchError(name="web1", how="exited with 1", output="a\nb", argv=["qemu", "-S"]),
    hvcore.DeadlineError(subject="web1", waiting_for="end", waited_s=5.0, todo="try again"),
    hvcore.LeftoverError.of("web1", ["a mount", "a uid"]),
    hvcore.UnknownDriverError("no driver 'x'", driver="x"),
    QmpBusyError(subject="/s", waited_s=1.0),
    QmpCommandError(subject="/s", command="cont", error_class="GenericError", desc="no"),
    QmpConnectError(subject="/s", reason="gone"),
    QmpTimeoutError(subject="/s", command="cont", waited_s=1.0),
    *(
        kind("text")
        for kind in (
            *(hvcore.HvError, hvcore.InputError, hvcore.InstanceFileError, hvcore.DriverLoadError, hvcore.NodeError),
            *(hvcore.RecordError, hvcore.OperationError, hvcore.ConfinementError, DecodeError),
        )
    ),
)
COPIES: dict[str, Callable[[HvError], HvError]] = {
    "pickle": lambda error: pickle.loads(pickle.dumps(error)),
    "pickle, oldest protocol": lambda error: pickle.loads(pickle.dumps(error, 0)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def test_every_class_of_error_is_tried() -> None:
    known = {thing for name in hvcore.errors.__all__ if issubclass(thing := getattr(hvcore.errors, name), HvError)}
    assert known <= {type(error) for error in ERRORS}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_is_the_same_after_it_was_copied(error: HvError, how: str) -> None:
    error = copy.copy(error)
    error.add_note("web1: what was done")
    again = COPIES[how](error)
    assert (type(again), str(again), vars(again), again.args) == (type(error), str(error), vars(error), error.args)
    again.add_note("another")
    assert error.__notes__ == ["web1: what was done"]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_the_json_of_an_error_has_every_fact(error: HvError) -> None:
    found = error.to_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert list(found)[:3] == ["error", "message", "exit_code"]
    assert vars(error).keys() <= found.keys()
    assert found["notes"] == []


def test_the_facts_of_these_errors_are_in_their_json() -> None:
    found = hvcore.StateError(name="web1", state="running", operation="cleanup", allowed=["stop"]).to_json()
    assert (found["name"], found["state"], found["operation"], found["allowed"]) == (
        *("web1", "running", "cleanup"),
        ["stop"],
    )
    assert hvcore.ParamsError("web1", [PROBLEM]).to_json()["problems"] == [PROBLEM.to_json()]
    assert hvcore.LeftoverError.of("web1", ["a mount"]).to_json()["reasons"] == ["a mount"]


def test_a_busy_instance_names_its_holder_in_facts(run_dir: Path, node: Node, fake: DriverHandle, web: Web) -> None:
    fake.start(web())
    with Store(run_dir).lock("web1", "cleanup"), pytest.raises(hvcore.BusyError) as raised:
        node.pause("web1", deadline_s=0)
    found = raised.value.to_json()
    assert (found["subject"], found["holder_operation"], found["waited_s"]) == ("web1", "cleanup web1", 0.0)
    assert found["holder_pid"] > 1


def _fails(number: int) -> int:
    if number == 1:
        raise hvcore.StateError(name="web1", state="running", operation="cleanup", allowed=["stop"])
    return number


def test_an_error_in_a_pool_of_processes_breaks_no_other_work() -> None:
    with ProcessPoolExecutor(max_workers=1) as pool:
        first, failing, last = (pool.submit(_fails, number) for number in range(3))
        assert (first.result(), last.result()) == (0, 2)
        with pytest.raises(hvcore.StateError, match="web1: is running") as raised:
            failing.result()
    assert raised.value.allowed == ("stop",)


class ForeignError(HvError):
    """Of a driver: with facts that are no JSON, and one that hides a key."""

    def __init__(self, *, where: Path, rates: Any) -> None:
        self.where, self.rates, self.message = where, rates, "hidden"
        super().__init__(f"{where}: too slow")


def test_an_error_of_a_driver_has_its_facts_too() -> None:
    error = pickle.loads(pickle.dumps(ForeignError(where=Path("/a"), rates={1: float("nan"), 2: {3}})))
    found = error.to_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["message"], found["where"], found["rates"]) == ("/a: too slow", "/a", {"1": None, "2": [3]})


@dataclass
class Loud:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


LOOP: list[Any] = []
LOOP.append(LOOP)


STRANGE: tuple[object, ...] = (
    *({"a": {1, 2}}, LOOP, object(), Loud(), b"\xff", "\ud800", 10**5000, float("inf"), {(1, 2): 3}, range(3)),
)


@pytest.mark.parametrize("value", STRANGE, ids=lambda value: type(value).__name__)
def test_any_value_becomes_plain_json(value: object) -> None:
    assert json.dumps(plain({"value": value}), allow_nan=False).encode()
