"""The loops over all kinds: their order, the ledger at each step, and the plugin that is blamed for a fault."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
from things import Fleeting, Runs, Thing, ThingKind, Who, kinds, left

import hvcore
import hvcore.plugin
from hvcore import DriverLoadError, HookError, LeftoverError, OperationError
from hvcore.plugin import Entry, Held, Identity, Job, Link, Requirement, Resource, ResourceKind, Site, Turn
from hvcore.plugins.loaded_driver import LoadedDriver
from hvcore.resources.core_kinds import CORE_KINDS, with_kinds
from hvcore.resources.kinds import Kinds
from hvcore.state.store import Store

AtWork = Callable[..., Job]


class Said:
    """What the kinds were called for, in order. ``fails`` is raised at a step of a key."""

    def __init__(self, fails: Mapping[tuple[str, str], BaseException] | None = None) -> None:
        self.steps: list[tuple[str, str]] = []
        self.fails = dict(fails or {})

    def __call__(self, what: str, key: str) -> None:
        self.steps.append((what, key))
        if (what, key) in self.fails:
            raise self.fails[what, key]

    def keys(self, what: str) -> list[str]:
        return [key for step, key in self.steps if step == what]


def on_disk(job: Job) -> list[str]:
    """The keys in the ledger as the next operation reads them after a crash."""
    record = Store(job.host.run_dir).load(job.name)
    assert record is not None
    return [entry.key for entry in record.ledger]


# ------------------------------------------------------------------------------------------------------------- order


def ordered(*resources: Resource[Any]) -> list[str]:
    return [resource.key for resource in kinds().order(resources)]


def test_turns_decide_the_order_and_the_driver_decides_within_a_turn() -> None:
    assert ordered(Runs(key="r"), Thing(key="b"), Fleeting(key="f"), Thing(key="a"), Who(key="w")) == list("wbafr")


def test_what_a_resource_needs_comes_before_it_whatever_its_turn() -> None:
    program = Runs(key="r")
    assert ordered(Who(key="w", on=(Thing(key="t", on=(program,)),)), Thing(key="a")) == ["r", "t", "w", "a"]
    assert ordered(Thing(key="b", on=(Thing(key="a"),)), Thing(key="a")) == ["a", "b"]


def test_what_is_needed_is_meant_by_its_key() -> None:
    # A device knows that it needs the guest's user, and not which one the driver has chosen.
    chosen, on = Runs(key="r", size=7), Thing(key="t", on=(Runs(key="r"),))
    assert kinds().order([on, chosen]) == (chosen, on)


def test_a_key_is_there_once() -> None:
    assert ordered(Thing(key="t"), Thing(key="t")) == ["t"]
    with pytest.raises(ValueError, match=r"two resources have the key 't': Thing\(.*size=0\) and Thing\(.*size=1\)"):
        ordered(Thing(key="t"), Thing(key="t", size=1))


def test_a_resource_without_a_kind_is_refused() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Unknown(Thing):
        pass

    with pytest.raises(TypeError, match="resource 'u': no plugin has a kind for Unknown; see hook resource_kinds"):
        ordered(Unknown(key="u"))


# ------------------------------------------------------------------------------------------------- which there can be


class Twin(ThingKind):
    """Of the same class as another, under another name."""

    name: ClassVar[str] = "twin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Other(Resource[str]):
    """A resource of another plugin."""


class SameName(ResourceKind[Other, str]):
    name: ClassVar[str] = "thing"
    resource: ClassVar[type[Other]] = Other
    turn: ClassVar[Turn] = Turn.FILE

    def acquire(self, resource: Other, held: Held) -> str:
        return ""


@pytest.mark.parametrize("second", [Twin(), SameName()], ids=["class", "name"])
def test_two_plugins_with_one_kind_are_both_named(second: ResourceKind[Any, Any]) -> None:
    both = rf"resource kind '{second.name}': declared by both kvm\.things and kvm\.others; rename one"
    with pytest.raises(DriverLoadError, match=both):
        Kinds([("kvm.things", ThingKind()), ("kvm.others", second)])


class OtherUid(Twin):
    name: ClassVar[str] = "uid"


def test_a_plugin_cannot_take_a_kind_of_the_core() -> None:
    with pytest.raises(DriverLoadError, match="resource kind 'uid': declared by both hvcore and mine"):
        with_kinds([("mine", OtherUid())])


class HeaderKind(ResourceKind[Other, str], name="header", turn=Turn.SOCKET, runs=True, in_ledger=True):
    def acquire(self, resource: Other, held: Held) -> str:
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain(Resource[None]):
    """A resource without a handle."""


class Bare(ResourceKind[Plain, None], name="bare", turn=Turn.FILE):
    def acquire(self, resource: Plain, held: Held) -> None: ...


def test_a_kinds_header_says_what_it_is() -> None:
    assert (HeaderKind.name, HeaderKind.resource, HeaderKind.turn) == ("header", Other, Turn.SOCKET)
    assert (HeaderKind.runs, HeaderKind.in_ledger) == (True, True)
    assert (Bare.runs, Bare.in_ledger) == (False, False)


def test_what_a_kind_says_for_itself_when_it_says_nothing(site: Callable[..., Site]) -> None:
    other, bare = Other(key="o"), Plain(key="b")
    assert (HeaderKind().placeholder(other, site()), HeaderKind().entry(other, site())) == ("{fd:o}", {})
    assert (Bare().placeholder(bare, site()), Bare().entry(bare, site())) == (None, None)


class NumberKind(ResourceKind[Other, int]):
    name: ClassVar[str] = "number"
    resource: ClassVar[type[Other]] = Other
    turn: ClassVar[Turn] = Turn.FILE

    def acquire(self, resource: Other, held: Held) -> int:
        return 7


class OtherRequirement(Requirement[Other]):
    name: ClassVar[str] = "requirement"
    resource: ClassVar[type[Other]] = Other
    turn: ClassVar[Turn] = Turn.FILE


@pytest.mark.parametrize("kind", [NumberKind(), type("Heir", (NumberKind,), {})()], ids=["itself", "inherited"])
def test_a_handle_of_another_type_than_the_resource_says_is_refused(kind: ResourceKind[Any, Any]) -> None:
    what = (
        r"resource kind 'number' of mine: gives a handle of .*int.*, and Other has one of .*str.*; make them one type"
    )
    with pytest.raises(DriverLoadError, match=what):
        Kinds([("mine", kind)])


def test_a_requirement_has_no_handle() -> None:
    with pytest.raises(DriverLoadError, match=r"'requirement' of mine: gives a handle of .*None"):
        Kinds([("mine", OtherRequirement())])


def test_the_kinds_of_the_core_fit_their_resources_and_have_a_word_each() -> None:
    assert len(CORE_KINDS.names) == len(set(CORE_KINDS.names))
    for name in CORE_KINDS.names:
        kind = CORE_KINDS.named(name)
        assert kind is not None
        assert kind.name == name
        assert issubclass(kind.resource, Resource)


def test_plugins_of_a_driver_and_its_extensions_add_kinds(load: Callable[..., LoadedDriver]) -> None:
    from hv_fake.plugin import FakeDriver

    class Plugin:
        @hvcore.plugin.hookimpl
        def resource_kinds(self) -> Iterator[ResourceKind[Any, Any]]:
            yield ThingKind()

    loaded = load(FakeDriver, things=Plugin())
    assert isinstance(loaded.hooks.kinds.named("thing"), ThingKind)
    assert loaded.hooks.kinds.named("uid") is not None
    with pytest.raises(DriverLoadError, match="resource kind 'thing': declared by both things and more"):
        _ = load(FakeDriver, things=Plugin(), more=Plugin()).hooks.kinds


# ----------------------------------------------------------------------------------------------- verify, describe, plan


def test_problems_steps_and_placeholders_come_in_the_order_of_a_start(site: Callable[..., Site]) -> None:
    there, wanted = site("web1"), (Runs(key="r"), Thing(key="t", given_by="disks[0].path"), Who(key="w"))
    assert [str(problem) for problem in kinds().problems(wanted, there)] == [
        "w: is looked for, got web1",
        "disks[0].path: is looked for, got web1",
        "r: is looked for, got web1",
    ]
    assert [str(step.what) for step in kinds().steps(wanted, there)] == ["w", "t", "r"]
    handles = kinds().placeholders(wanted, there)
    assert [handles[each] for each in wanted] == ["{r}", "{t}", "{w}"]


def test_a_placeholder_of_a_descriptor_need_not_be_written(site: Callable[..., Site]) -> None:
    socket = hvcore.plugin.UnixSocket(key="monitor")
    assert CORE_KINDS.placeholders([socket], site())[socket] == "{fd:monitor}"


# ----------------------------------------------------------------------------------------------------------- acquire


def test_the_ledger_on_disk_has_everything_before_the_first_thing_is_acquired(at_work: AtWork) -> None:
    seen: list[list[str]] = []

    def look(what: str, key: str) -> None:
        if what == "acquire":
            seen.append(on_disk(job))

    job = at_work(kinds=kinds(look))
    job.acquire(Thing(key="b"), Who(key="a"), Runs(key="c", size=3))
    assert seen == [["a", "b", "c"]] * 3
    assert [entry.data for entry in job.record.ledger] == [{"size": 0}, {"size": 0}, {"size": 3}]
    assert job._store.saved == 1  # type: ignore[attr-defined]


def test_what_the_ledger_need_not_know_costs_no_write(at_work: AtWork) -> None:
    job = at_work(kinds=kinds())
    assert job.acquire(Fleeting(key="f"))[Fleeting(key="f")] == "f"
    assert job.record.ledger == ()
    assert job._store.saved == 0  # type: ignore[attr-defined]


def test_a_resource_gets_the_handles_of_what_it_needs(at_work: AtWork) -> None:
    top = Runs(key="c", on=(Thing(key="b", on=(Who(key="a"),)), Who(key="a")))
    assert at_work(kinds=kinds()).acquire(top)[top] == "c b a a"


def test_a_second_acquire_gets_only_what_is_not_held(at_work: AtWork) -> None:
    said = Said()
    job = at_work(kinds=kinds(said))
    job.acquire(Who(key="a"), Thing(key="b"))
    handles = job.acquire(Thing(key="b"), Thing(key="c", on=(Who(key="a"),)))
    assert said.keys("acquire") == ["a", "b", "c"]
    assert (handles[Thing(key="b")], handles[Thing(key="c")]) == ("b", "c a")
    assert on_disk(job) == ["a", "b", "c"]


def test_a_failure_leaves_the_rest_to_the_ledger(at_work: AtWork) -> None:
    said = Said({("acquire", "b"): OperationError("web1: no")})
    job = at_work(kinds=kinds(said))
    with pytest.raises(OperationError, match="web1: no"):
        job.acquire(Thing(key="a"), Thing(key="b"), Thing(key="c"))
    assert said.keys("acquire") == ["a", "b"]
    assert (on_disk(job), left(job)) == (["a", "b", "c"], ["a"])
    assert Thing(key="a") in job.held
    assert Thing(key="b") not in job.held
    job.release()
    assert left(job) == []


def test_what_turns_out_on_acquiring_is_noted_in_its_entry(at_work: AtWork) -> None:
    job = at_work(kinds=kinds())
    job.acquire(Thing(key="a", size=1), Thing(key="b", size=2))
    job.note("b", owner=7)
    record = Store(job.host.run_dir).load("web1")
    assert record is not None
    assert [entry.data for entry in record.ledger] == [{"size": 1}, {"size": 2, "owner": 7}]


def test_a_level_holds_from_the_acquire_that_names_it(at_work: AtWork) -> None:
    job = at_work()
    assert job.acquire(Identity(key="none"), level=hvcore.plugin.Level.USER)[Identity(key="none")] is None
    assert job.acquire(Identity(key="uid"), level=hvcore.plugin.Level.STRICT)[Identity(key="uid")] is not None
    assert on_disk(job) == ["uid"]


# ----------------------------------------------------------------------------------------------------------- release


def test_what_runs_is_released_first_and_the_rest_the_last_acquired_first(at_work: AtWork) -> None:
    said = Said()
    job = at_work(kinds=kinds(said))
    job.acquire(Who(key="a"), Thing(key="b"), Runs(key="p"))
    job.acquire(Thing(key="hot"))  # as a disk that was plugged in: it stands behind the process in the ledger
    job.acquire(Runs(key="q"))
    job.release()
    assert said.keys("release") == ["q", "p", "hot", "b", "a"]


def test_the_advice_to_try_again_is_given_once(at_work: AtWork) -> None:
    job = at_work(kinds=kinds(Said({("release", "a"): LeftoverError("a is held by pid 7; end that and try again")})))
    job.acquire(Thing(key="a"))
    with pytest.raises(LeftoverError, match=r"released: a is held by pid 7; end that and try again$"):
        job.release()


def test_a_process_that_does_not_go_keeps_everything_reserved(at_work: AtWork) -> None:
    said = Said({("release", "p"): LeftoverError("pid 7 does not go; kill it")})
    job = at_work(kinds=kinds(said))
    job.acquire(Thing(key="a"), Runs(key="p"), Runs(key="q"))
    with pytest.raises(LeftoverError, match="web1: not everything could be released: pid 7 does not go; kill it; try"):
        job.release()
    assert said.keys("release") == ["q", "p"]
    assert (on_disk(job), left(job)) == (["a", "p"], ["a", "p"])
    said.fails.clear()
    job.release()
    assert left(job) == []


def test_any_other_failure_keeps_nothing_from_being_released_and_all_are_named(at_work: AtWork) -> None:
    said = Said({("release", "b"): LeftoverError("b is hot; wait"), ("release", "d"): OSError(16, "Busy", "/d")})
    job = at_work(kinds=kinds(said))
    job.acquire(*(Thing(key=key) for key in "abcd"))
    with pytest.raises(LeftoverError, match=r"released: /d: cannot be changed, got Busy; b is hot; wait; try again"):
        job.release()
    assert said.keys("release") == ["d", "c", "b", "a"]
    assert (on_disk(job), left(job)) == (["b", "d"], ["b", "d"])


def test_an_entry_that_no_plugin_knows_says_what_to_do_and_keeps_nothing_else(at_work: AtWork) -> None:
    job = at_work(kinds=kinds())
    job.acquire(Thing(key="a"))
    job.update(ledger=(*job.record.ledger, Entry(kind="teapot", key="t")))
    with pytest.raises(LeftoverError, match="web1: no plugin of its driver can release 'teapot'; install what started"):
        job.release()
    assert (on_disk(job), left(job)) == (["t"], [])


def test_a_release_by_key_leaves_the_rest(at_work: AtWork) -> None:
    said = Said()
    job = at_work(kinds=kinds(said))
    job.acquire(Who(key="a"), Thing(key="b"), Thing(key="c"))
    job.release("b", "never-acquired")
    assert (said.keys("release"), on_disk(job), left(job)) == (["b"], ["a", "c"], ["a", "c"])
    assert Thing(key="b") not in job.held
    assert job.held[Thing(key="c")] == "c"
    job.acquire(Thing(key="b"))
    assert (on_disk(job), left(job)) == (["a", "c", "b"], ["a", "b", "c"])


def test_a_release_by_keys_that_are_not_held_changes_nothing(at_work: AtWork) -> None:
    job = at_work(kinds=kinds())
    job.acquire(Thing(key="a"))
    before = job._store.saved  # type: ignore[attr-defined]
    job.release("b")
    assert job._store.saved == before  # type: ignore[attr-defined]
    assert on_disk(job) == ["a"]


def test_what_was_reserved_by_one_resource_stays_when_another_is_released(
    at_work: AtWork, uids: Callable[[], dict[str, str]]
) -> None:
    job = at_work()
    job.acquire(Identity(key="uid"), Identity(key="tpm.uid"))
    job.held.close()
    assert len(uids()) == 2
    kept = job.held[Identity(key="uid")]
    job.release("tpm.uid")
    assert kept is not None
    assert list(uids()) == [str(kept.uid)]


def test_an_entry_of_an_old_record_releases_all_of_its_kind(
    at_work: AtWork, uids: Callable[[], dict[str, str]]
) -> None:
    # Before version 5 the ledger had kinds only, and a reservation named the instance.
    job, other = at_work(), at_work("web10")
    job.acquire(Identity(key="uid"), Identity(key="tpm.uid"))
    other.acquire(Identity(key="uid"))
    old = job.host.run_dir / "reservations" / "uid" / "1880000099"
    old.symlink_to("web1")
    job.update(ledger=(Entry(kind="uid"),))
    job.release()
    assert list(uids().values()) == ["web10"]


def test_a_release_that_is_done_twice_is_fine_for_every_kind_of_the_core(at_work: AtWork) -> None:
    job = at_work()
    job.acquire(Identity(key="uid"), Link(key="link", path=str(job.host.run_dir / "link"), target="x"))
    entries = job.record.ledger
    job.release()
    job.update(ledger=entries)
    job.release()
    assert not os.path.lexists(job.host.run_dir / "link")


# ------------------------------------------------------------------------------------------------------------- blame


STEPS: dict[str, Callable[[Job, Thing], object]] = {
    "verify": lambda job, thing: list(job.kinds.problems([thing], job.held.site)),
    "describe": lambda job, thing: list(job.kinds.steps([thing], job.held.site)),
    "placeholder": lambda job, thing: job.kinds.placeholders([thing], job.held.site),
    "entry": lambda job, thing: job.acquire(thing),
    "acquire": lambda job, thing: job.acquire(thing),
    "prove": lambda job, thing: job.prove(thing, level=hvcore.plugin.Level.USER),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_kind_that_raises_is_its_plugins_fault(at_work: AtWork, step: str) -> None:
    job = at_work(kinds=kinds(Said({(step, "t"): KeyError("x")})))
    with pytest.raises(HookError) as caught:
        STEPS[step](job, Thing(key="t"))
    assert (caught.value.plugin, caught.value.hook) == ("things", "resource_kinds")
    assert re.fullmatch(
        rf"plugin things, hook resource_kinds \({__file__}:\d+\): kind 'thing' raised KeyError: 'x'; "
        "report this to the plugin's authors",
        str(caught.value),
    )


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("error", [OperationError("web1: no"), FileNotFoundError(2, "No such file", "/x")])
def test_an_error_of_the_node_is_not_blamed_on_the_plugin(at_work: AtWork, step: str, error: Exception) -> None:
    job = at_work(kinds=kinds(Said({(step, "t"): error})))
    with pytest.raises(type(error)) as caught:
        STEPS[step](job, Thing(key="t"))
    assert caught.value is error


def test_a_release_that_raises_is_its_plugins_fault_and_keeps_nothing_else(at_work: AtWork) -> None:
    job = at_work(kinds=kinds(Said({("release", "b"): RuntimeError("oh")})))
    job.acquire(*(Thing(key=key) for key in "abc"))
    with pytest.raises(
        LeftoverError, match=r"plugin things, hook resource_kinds .*kind 'thing' raised RuntimeError: oh"
    ):
        job.release()
    assert left(job) == ["b"]


def test_an_interrupt_is_passed_on(at_work: AtWork) -> None:
    job = at_work(kinds=kinds(Said({("acquire", "t"): KeyboardInterrupt()})))
    with pytest.raises(KeyboardInterrupt):
        job.acquire(Thing(key="t"))


def test_a_proof_sees_what_was_acquired_by_the_same_order(at_work: AtWork) -> None:
    said = Said()
    job = at_work(kinds=kinds(said))
    job.prove(Runs(key="r"), Who(key="w"), level=hvcore.plugin.Level.USER)
    assert said.steps == [("prove", "w"), ("prove", "r")]
    assert job.held.site == replace(job.held.site, level=hvcore.plugin.Level.STRICT)  # a proof changes nothing
