"""Extensions around operations: an error names the extension that caused it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

import hvcore
import hvcore.plugin as hv
from hv_fake.plugin import FakeDriver
from hvcore import DriverLoadError, HookError, Instance, NodeError, Outcome, State
from hvcore.deadline import Deadline
from hvcore.operations.context import Context
from hvcore.operations.inspection.observe import observed
from hvcore.operations.lifecycle.pause import pause, resume
from hvcore.operations.lifecycle.start import start
from hvcore.operations.lifecycle.stop import stop
from hvcore.plugin import Param, ParamGroup, Params, hookimpl, text, when_given
from hvcore.plugins.loaded_driver import LoadedDriver

WEB = Instance(name="web1", driver="fake")


def extension(hook: str, act: Callable[..., Any]) -> object:
    """A plugin with that one hook, which takes no argument."""

    def implementation() -> Any:
        return act()

    implementation.__name__ = hook
    return SimpleNamespace(**{hook: hookimpl(implementation)})


def boom() -> None:
    raise ZeroDivisionError("oh")


def leave() -> None:
    raise SystemExit(0)


def refuse() -> None:
    raise NodeError("web1: the moon is full; wait")


@pytest.fixture
def node(load: Callable[..., LoadedDriver], context: Callable[..., Context]) -> Callable[..., Any]:
    def make(**extensions: object) -> tuple[Context, LoadedDriver]:
        loaded = load(FakeDriver, **extensions)
        return context(loaded), loaded

    return make


def up(node: Context, loaded: LoadedDriver) -> Outcome:
    return start(node, loaded, WEB, paused=False, deadline=Deadline(10))


def down(node: Context, *, force: bool = False) -> Outcome:
    return stop(node, "web1", force=force, deadline=Deadline(10))


def test_an_error_of_before_start_refuses_the_start_and_names_the_plugin(
    node: Any, nothing_left: Callable[[], None]
) -> None:
    made = node(audit=extension("before_start", boom))
    with pytest.raises(
        HookError, match=r"plugin audit, hook before_start \(\S+py:\d+\): raised ZeroDivisionError: oh"
    ) as caught:
        up(*made)
    assert (caught.value.plugin, caught.value.hook) == ("audit", "before_start")
    nothing_left()


def test_a_hook_that_exits_the_process_is_reported_like_any_error(node: Any, nothing_left: Callable[[], None]) -> None:
    with pytest.raises(HookError, match=r"plugin audit, hook before_start .*: raised SystemExit: 0"):
        up(*node(audit=extension("before_start", leave)))
    nothing_left()
    outcome = up(*node(audit=extension("after_start", leave)))
    assert "raised SystemExit: 0" in outcome.notes[0]


def test_an_hv_error_of_a_plugin_keeps_its_type_and_names_the_plugin(node: Any) -> None:
    with pytest.raises(NodeError, match="the moon is full") as caught:
        up(*node(audit=extension("before_start", refuse)))
    assert caught.value.__notes__ == ["raised by plugin audit, hook before_start"]


def test_an_error_of_after_start_is_a_note_and_the_instance_runs(node: Any) -> None:
    for act, words in ((boom, "raised ZeroDivisionError: oh"), (refuse, "raised NodeError: web1: the moon is full")):
        made = node(audit=extension("after_start", act))
        outcome = up(*made)
        assert (outcome.changed, outcome.state) == (True, State.RUNNING)
        assert outcome.notes[0].startswith("plugin audit, hook after_start (")
        assert f"): {words}" in outcome.notes[0]
        assert observed(made[0], "web1").state is State.RUNNING
        down(made[0])


@pytest.mark.parametrize("act", [boom, refuse])
def test_an_error_of_before_stop_refuses_a_polite_stop_but_not_a_forced_one(
    node: Any, act: Callable[[], None], nothing_left: Callable[[], None]
) -> None:
    heard: list[str] = []
    made = node(audit=extension("before_stop", act), second=extension("before_stop", lambda: heard.append("second")))
    up(*made)
    with pytest.raises(hvcore.HvError):
        down(made[0])
    assert observed(made[0], "web1").state is State.RUNNING
    heard.clear()
    outcome = down(made[0], force=True)
    assert outcome.stopped_by == "kill"
    assert "plugin audit, hook before_stop" in outcome.notes[0]
    assert heard == ["second"]  # one that fails keeps no other from hearing of it
    nothing_left()


@pytest.mark.parametrize("force", [False, True])
def test_a_stop_has_the_parameters_of_the_start(node: Any, *, force: bool) -> None:
    heard: list[tuple[str, Any, Any]] = []

    class Audit:
        @hookimpl
        def before_start(self, params: Params) -> None:
            heard.append(("before_start", params["motd"], params.layer("motd")))

        @hookimpl
        def before_stop(self, params: Params) -> None:
            heard.append(("before_stop", params["motd"], params["ignores_powerdown"]))

        @hookimpl
        @when_given("motd")
        def after_stop(self, params: Params) -> None:
            heard.append(("after_stop", params["motd"], params.any_given({"motd"})))

        @hookimpl(specname="after_stop")
        @when_given("ignores_powerdown")
        def never(self) -> None:
            heard.append(("never", None, None))

    context, loaded = node(audit=Audit())
    web = Instance(name="web1", driver="fake", params={"motd": "hi"})
    start(context, loaded, web, paused=False, deadline=Deadline(10))
    stop(context, "web1", force=force, deadline=Deadline(10))
    assert heard == [("before_start", "hi", "instance"), ("before_stop", "hi", False), ("after_stop", "hi", True)]


def test_a_record_that_the_driver_refuses_keeps_no_instance_from_being_stopped(node: Any) -> None:
    heard: list[Any] = []

    class Audit:
        @hookimpl
        def after_stop(self, params: Params) -> None:
            heard.append((params["motd"], params["gone"], params["fail_at"]))

    context, loaded = node(audit=Audit())
    start(context, loaded, Instance(name="web1", driver="fake"), paused=False, deadline=Deadline(10))
    record = context.store.load("web1")
    context.store.save(replace(record, params={"motd": 7, "gone": 1}))
    stop(context, "web1", force=True, deadline=Deadline(10))
    assert heard == [(7, 1, None)]


def test_an_error_of_after_stop_is_a_note_and_the_instance_is_stopped(
    node: Any, nothing_left: Callable[[], None]
) -> None:
    made = node(audit=extension("after_stop", boom))
    up(*made)
    note = down(made[0]).notes[0]
    assert note.startswith("plugin audit, hook after_stop (")
    assert "): raised ZeroDivisionError: oh" in note
    nothing_left()


def test_hooks_are_called_in_order_with_the_arguments_that_they_take(node: Any) -> None:
    heard: list[tuple[Any, ...]] = []

    class Listener:
        @hookimpl
        def before_start(self, instance: Instance) -> None:
            heard.append(("before_start", instance.name))

        @hookimpl
        def after_start(self, outcome: Outcome, instance: Instance) -> None:
            heard.append(("after_start", outcome.state, instance.name))

        @hookimpl
        def before_stop(self, force: bool) -> None:  # noqa: FBT001 - hook arguments are passed by name
            heard.append(("before_stop", force))

        @hookimpl
        def after_stop(self, outcome: Outcome) -> None:
            heard.append(("after_stop", outcome.stopped_by))

    made = node(listener=Listener())
    up(*made)
    down(made[0])
    assert heard == [
        ("before_start", "web1"),
        ("after_start", State.RUNNING, "web1"),
        ("before_stop", False),
        ("after_stop", "powerdown"),
    ]


def test_a_check_that_raises_or_returns_a_wrong_item_names_its_plugin(node: Any) -> None:
    for act, words in (
        (boom, "raised ZeroDivisionError"),
        (lambda: ["wrong"], "gave 'wrong', must be Problem"),
        (lambda: 7, "returned 7, must be an iterable"),
    ):
        _, loaded = node(audit=extension("check", act))
        with pytest.raises(HookError, match=rf"plugin audit, hook check \(\S+py:\d+\): {words}"):
            loaded.check(WEB)


def test_a_hook_with_a_condition_is_called_only_if_its_parameter_is_given(node: Any) -> None:
    heard: list[str] = []

    class Audit:
        @hookimpl
        @hv.when_given("motd")
        def check(self, params: hv.Params) -> list[hv.Problem]:
            heard.append(params["motd"])
            return []

        @hookimpl
        @hv.when_given("motd", "boot_seconds")
        def before_start(self, params: hv.Params) -> None:
            heard.append(f"start {params['motd']}")

    _, loaded = node(audit=Audit())
    loaded.check(WEB)
    assert heard == []
    with_motd = Instance(name="web1", driver="fake", params={"motd": "hello"})  # which is its default too
    params = loaded.check(with_motd)
    assert heard == ["hello"]
    assert [plugin for plugin, _ in loaded.hooks.each("before_start", instance=with_motd, params=params)] == ["audit"]
    assert list(loaded.hooks.each("before_start", instance=WEB, params=loaded.check(WEB))) == []
    assert heard == ["hello", "start hello"]


def test_the_error_of_a_condition_names_its_plugin(node: Any) -> None:
    class Audit:
        @hookimpl
        @hv.called_when("params", lambda params: params["no_such_parameter"])
        def check(self) -> list[hv.Problem]:
            return []

    _, loaded = node(audit=Audit())
    with pytest.raises(HookError, match=r"plugin audit, hook check .*: raised KeyError: 'no_such_parameter'"):
        loaded.check(WEB)


def test_a_check_may_return_nothing(node: Any) -> None:
    _, loaded = node(audit=extension("check", lambda: None))
    assert loaded.check(WEB)["motd"] == "hello"


def test_problems_of_all_plugins_are_reported_together(node: Any) -> None:
    problem = hvcore.Problem(path="x", what="is wrong")
    _, loaded = node(a=extension("check", lambda: [problem]), b=extension("check", lambda: iter([problem, problem])))
    with pytest.raises(hvcore.ParamsError) as caught:
        loaded.check(WEB)
    assert len(caught.value.problems) == 3


def test_a_deprecated_parameter_in_use_is_a_warning(node: Any) -> None:
    class Old:
        @hv.hookimpl
        def params(self) -> hv.ParamGroup:
            old = hv.Param("speed", hv.integer(), default=1, help="Hz.", deprecated="use hz", removed_in="2.0")
            return hv.ParamGroup("old", old)

    _, loaded = node(old=Old())
    words = {}
    for name, params in (("set", {"speed": 2}), ("left", {})):
        found = Instance(name=name, driver="fake", params=params)
        words[name] = [str(warning) for warning in loaded.warnings(found, loaded.check(found))]
    assert words == {"set": ["params.speed: is deprecated and will be removed in release 2.0; use hz"], "left": []}


def bad_params() -> ParamGroup:
    key = "q"
    return ParamGroup("audit", Param(key, text(), help="no full stop"))


def test_a_parameter_that_is_refused_names_its_plugin_and_its_line(load: Callable[..., LoadedDriver]) -> None:
    """A list of drivers shows no notes, so the text has both."""
    line = bad_params.__code__.co_firstlineno + 2
    with pytest.raises(DriverLoadError) as caught:
        load(FakeDriver, audit=extension("params", bad_params))
    assert str(caught.value) == (
        f"parameter 'q': help is not a sentence on one line that ends with a full stop (audit, {__file__}:{line})"
    )


MOVES: dict[str, Callable[..., Outcome]] = {"pause": pause, "resume": resume}


def in_state_before(node: Context, loaded: LoadedDriver, op: str) -> None:
    start(node, loaded, WEB, paused=op == "resume", deadline=Deadline(10))


@pytest.mark.parametrize("op", MOVES)
@pytest.mark.parametrize("act", [boom, refuse, leave])
def test_a_hook_before_a_pause_or_a_resume_refuses_it(node: Any, op: str, act: Callable[[], None]) -> None:
    heard: list[str] = []
    context, loaded = node(
        audit=extension(f"before_{op}", act), other=extension(f"after_{op}", lambda: heard.append("after"))
    )
    in_state_before(context, loaded, op)
    before = context.store.load("web1")
    with pytest.raises(hvcore.HvError) as caught:
        MOVES[op](context, "web1", deadline=Deadline(10))
    assert f"plugin audit, hook before_{op}" in f"{caught.value} {getattr(caught.value, '__notes__', '')}"
    assert observed(context, "web1").state is (State.RUNNING if op == "pause" else State.PAUSED)
    assert context.store.load("web1") == before  # the record does not say what did not happen
    assert heard == []


@pytest.mark.parametrize("op", MOVES)
def test_a_hook_after_a_pause_or_a_resume_that_fails_is_a_note(node: Any, op: str) -> None:
    context, loaded = node(audit=extension(f"after_{op}", boom))
    in_state_before(context, loaded, op)
    outcome = MOVES[op](context, "web1", deadline=Deadline(10))
    assert (outcome.changed, len(outcome.notes)) == (True, 1)
    assert f"plugin audit, hook after_{op}" in outcome.notes[0]
    assert observed(context, "web1").state is outcome.state


@pytest.mark.parametrize("op", MOVES)
def test_hooks_around_a_pause_and_a_resume_get_the_parameters_and_are_not_called_for_nothing(
    node: Any, op: str
) -> None:
    heard: list[Any] = []

    class Audit:
        @hookimpl(specname=f"before_{op}")
        def before(self, instance: Instance, params: Params) -> None:
            heard.append(("before", instance.name, params["motd"]))

        @hookimpl(specname=f"after_{op}")
        def after(self, params: Params, outcome: Outcome) -> None:
            heard.append(("after", params["motd"], outcome.op, outcome.changed))

    context, loaded = node(audit=Audit())
    in_state_before(context, loaded, op)
    MOVES[op](context, "web1", deadline=Deadline(10))
    assert heard == [("before", "web1", "hello"), ("after", "hello", op, True)]
    assert not MOVES[op](context, "web1", deadline=Deadline(10)).changed
    assert len(heard) == 2


@pytest.mark.parametrize("op", MOVES)
def test_a_driver_that_fails_at_a_pause_or_a_resume_calls_no_hook_after_it(
    load: Callable[..., LoadedDriver], context: Callable[..., Context], op: str
) -> None:
    class Wrong(FakeDriver):
        def pause(self, live: hv.Live, job: hv.Job) -> None:
            refuse()

        resume = pause

    heard: list[str] = []
    loaded = load(Wrong, audit=extension(f"after_{op}", lambda: heard.append("after")))
    node = context(loaded)
    in_state_before(node, loaded, op)
    with pytest.raises(NodeError, match="the moon is full"):
        MOVES[op](node, "web1", deadline=Deadline(10))
    assert heard == []
