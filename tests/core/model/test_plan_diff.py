"""What differs between two plans, and why; and that no plan shows a secret."""

from __future__ import annotations

from dataclasses import replace

from hvcore import Argument, Origin, Plan, Step, Value, differences
from hvcore.model.plan import with_params
from hvcore.params.param import Param, ParamGroup
from hvcore.params.schema import Schema
from hvcore.params.types import integer, text


def plan(*options: tuple[str, ...], **params: object) -> Plan:
    """A plan of these options; the last word of each names the parameters that it follows from."""
    arguments = tuple(
        Argument(tokens=option[:-1], origin=Origin(plugin="p", params=tuple(option[-1].split()), why="reasons"))
        for option in (("qemu", "kvm_path"), *options)
    )
    values = {key: Value(value=value, layer="instance") for key, value in params.items()}
    return Plan(name="w", driver="d", steps=(), arguments=arguments, params=values)


def changes_of(first: Plan, second: Plan) -> list[tuple[str, ...]]:
    return [(change.kind, *change.parts(), *change.why) for change in differences(first, second)]


def test_a_plan_does_not_differ_from_itself() -> None:
    one = plan(("-m", "64", ""), ("-device", "a,id=x", ""), ("-device", "a,id=y", ""), m=1)
    assert differences(one, one) == ()


def test_a_changed_option_is_matched_by_its_id_and_shows_only_what_changed() -> None:
    first = plan(("-device", "nic,id=x,mac=1", "mac"), ("-device", "nic,id=y,mac=3", "mac"), mac="1")
    second = plan(("-device", "nic,id=x,mac=1", "mac"), ("-device", "nic,id=y,mac=2", "mac"), mac="2")
    assert changes_of(first, second) == [
        ("changed", "-device id=y,mac=3", "-device id=y,mac=2", "mac: '1' (instance) -> '2' (instance)")
    ]


def test_what_cannot_be_seen_is_shown_as_an_escape() -> None:
    first, second = plan(("-append", "a b", "x"), x=1), plan(("-append", "a\nb", "x"), x=2)
    (change,) = differences(first, second)
    assert change.parts() == ("-append a b", r"-append a\nb")


def test_added_and_removed_arguments_have_reasons() -> None:
    first, second = plan(("-S", ""), ("-k", "de", "keymap"), keymap="de"), plan(("-S", ""), ("-n", "always"))
    assert changes_of(first, second) == [
        ("removed", "-k de", "", "keymap: 'de' (instance) -> unset (not a parameter here)"),
        ("added", "", "-n", "reasons"),
    ]


def test_an_option_that_only_moved_is_reported_once() -> None:
    a, b, c = ("-a", ""), ("-b", ""), ("-c", "")
    assert [(change.kind, change.parts()) for change in differences(plan(a, b, c), plan(b, c, a))] == [
        ("moved", ("-a", "-a"))
    ]


def test_another_qemu_and_its_features_are_reasons() -> None:
    def one(path: str, form: str, can: str) -> Plan:
        made = plan((form, ""), kvm_path=path)
        able = replace(made.arguments[1], origin=Origin(plugin="p", capability=can))
        return replace(made, arguments=(replace(made.arguments[0], tokens=(path,)), able))

    first, second = one("/a", "-x", "no y in option x"), one("/b", "-x", "option x has y")
    second = replace(second, arguments=(second.arguments[0], replace(second.arguments[1], tokens=("-x", "y=on"))))
    assert changes_of(first, second) == [
        ("changed", "/a", "/b", "kvm_path: '/a' (instance) -> '/b' (instance)"),
        ("changed", "-x", "-x y=on", "no y in option x -> option x has y"),
    ]


def test_what_only_the_program_decides_is_put_down_to_it() -> None:
    first, second = plan(("-machine", "pc-1", ""), kvm_path="/a"), plan(("-machine", "pc-2", ""), kvm_path="/b")
    second = replace(second, arguments=(replace(second.arguments[0], tokens=("/b",)), second.arguments[1]))
    assert changes_of(first, second)[1][3:] == ("no parameter differs: the two programs do",)
    assert changes_of(plan(("-smp", "1", "")), plan(("-smp", "2", "")))[0][3:] == ("reasons",)


def test_doubled_commas_do_not_cut_a_value() -> None:
    assert changes_of(plan(("-f", "path=a,,b,ro=on", "")), plan(("-f", "path=a,,c,ro=on", "")))[0][1:3] == (
        "-f path=a,,b",
        "-f path=a,,c",
    )


SECRETS = Schema.compile(
    [("p", ParamGroup("p", Param("word", text(), secret=True, help="Secret."), Param("n", integer(), help="Number.")))]
)


def test_a_secret_is_in_no_part_of_a_plan() -> None:
    params = SECRETS.check({"word": "hunter,2", "n": 5}, "w")
    origin = Origin(plugin="p", params=("word", "n"), why="the word is hunter,2", capability="hunter,2")
    made = Plan(
        name="w",
        driver="d",
        steps=(Step(kind="tell", what="say hunter,2"),),
        arguments=(Argument(tokens=("-x", "a=hunter,,2"), origin=origin),),
    )
    shown = with_params(made, params)
    assert "hunter" not in f"{shown.to_json()} {shown.explain()} {shown}"
    assert shown.arguments[0].tokens == ("-x", "a=<secret>")
    assert shown.params["n"] == Value(value=5, layer="instance")
