"""The check of a mapping: all problems at once, in words, and without secrets."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvcore.errors import DriverLoadError, ParamsError, Problem
from hvcore.params.host_types import cpu_mask, file
from hvcore.params.param import Param, ParamGroup, ParamType
from hvcore.params.schema import Schema
from hvcore.params.types import boolean, integer, one_of, port, regexp, seconds, size_mib, text
from hvcore.params.values import Params
from hvcore.params.words import shortened

SECRET = "hunter2hunter2"

VNC = ParamGroup(
    "vnc",
    Param("vnc_port", port(5900), default=5900, help="Where VNC listens."),
    Param("vnc_password", text(64), secret=True, help="What VNC asks for."),
    Param("vnc_pin", integer(0, 9999), secret=True, default=1234, help="The same in digits."),
    Param("vnc_code", regexp("[a-z]{4}", "four letters"), secret=True, help="The same in letters."),
    help="The screen.",
)
MACHINE = ParamGroup(
    "machine",
    Param("memory_limit", size_mib(64), default="2G", help="The most memory."),
    Param("acpi", boolean(), default=True, help="Whether there is ACPI."),
    Param("disk_type", one_of("ide", "paravirtual", "scsi-hd"), default="paravirtual", help="The disk's controller."),
    Param("kernel_path", file(), help="The kernel to boot."),
    Param("cpu_mask", cpu_mask(), default="all", help="The CPUs to run on."),
    Param("downtime", integer(0, 1000), default=30, unit="milliseconds", help="The longest pause.", changes="live"),
    Param("wait_s", seconds(0, 60), default=5, help="How long to wait."),
)
SCHEMA = Schema.compile([("hv-kvm 0.1", MACHINE), ("hv-vnc 2.0", VNC)])


def lines(values: object, **layers: object) -> list[str]:
    params, problems = SCHEMA.problems(values, below=tuple(layers.items()))
    assert (params is None) == bool(problems)
    return [str(problem) for problem in problems]


def test_every_parameter_is_there_and_defaults_are_clean() -> None:
    params = SCHEMA.check({}, "web1")
    assert len(params) == 11
    assert (params["memory_limit"], params["wait_s"], params["kernel_path"]) == (2048, 5.0, None)
    assert (params.given, params.layer("acpi")) == (frozenset(), "default")


def test_what_a_record_keeps_is_read_back_with_its_layers() -> None:
    params = SCHEMA.check({"memory_limit": "1G", "vnc_password": SECRET}, "web1", below=[("node", {"wait_s": 7})])
    kept = json.loads(json.dumps(params.kept()))
    assert "vnc_password" not in kept
    assert params.withheld() == ("vnc_password",)
    found, problems = SCHEMA.restored(kept, ["memory_limit"])
    assert problems == ()
    assert found is not None
    assert {**found, "vnc_password": SECRET} == dict(params)
    assert {key: found.layer(key) for key in found.given} == {"memory_limit": "instance", "wait_s": "record"}
    assert found.taking(params, ["vnc_password", "wait_s"]).layer("wait_s") == "node"
    assert dict(found.taking(params, ["vnc_password", "no such key"])) == dict(params)


def test_a_saved_value_that_this_release_refuses_is_reported() -> None:
    found, problems = SCHEMA.restored({"memory_limit": 1, "disk_type": "nvme", "of another release": 7}, ())
    assert found is None
    assert [problem.path for problem in problems] == ["params.memory_limit", "params.disk_type"]
    schema = Schema.compile([("x", ParamGroup("x", Param("needed", boolean(), required=True, help="Needed.")))])
    assert [str(problem) for problem in schema.restored({}, ())[1]] == [
        "params.needed: is required and not in the record"
    ]


def test_given_values_are_cleaned_and_known_as_given() -> None:
    params = SCHEMA.check({"memory_limit": "1G", "acpi": True}, "web1")
    assert params["memory_limit"] == 1024
    assert params.given == {"memory_limit", "acpi"}
    assert [params.layer(key) for key in ("acpi", "cpu_mask")] == ["instance", "default"]
    with pytest.raises(KeyError):
        params.layer("nothing")
    with pytest.raises(KeyError):
        params["nothing"]
    assert "acpi" in params
    assert "nothing" not in params


def test_all_problems_come_at_once_in_the_order_of_the_input() -> None:
    assert lines({"acpi": 1, "disk_typ": "ide", "vnc_port": 80, "disk_type": "scsi", "downtime": 2000}) == [
        "params.acpi: is a whole number, not true or false, got 1; give true or false",
        "params.disk_typ: is not a parameter of this driver; did you mean disk_type?",
        "params.vnc_port: is below the minimum of 5900, got 80; give a port number from 5900 to 65535",
        "params.disk_type: is not a known choice, got 'scsi'; did you mean 'scsi-hd'? give one of 'ide', 'paravirtual', 'scsi-hd'",
        "params.downtime: is above the maximum of 1000, got 2000; give a whole number from 0 to 1000, in milliseconds",
    ]


def test_check_raises_one_error_that_names_the_subject() -> None:
    with pytest.raises(ParamsError, match=r"^web1: 2 problems\n  params\.acpi: .*\n  params\.x: ") as caught:
        SCHEMA.check({"acpi": "yes", "x": 1}, "web1")
    assert [problem.path for problem in caught.value.problems] == ["params.acpi", "params.x"]
    assert caught.value.__context__ is None


@pytest.mark.parametrize("name", ["VNC_PORT", "vnc-port", "vncport", "vnc_prt"])
def test_an_unknown_name_gets_the_nearest_known_one(name: str) -> None:
    assert lines({name: 5900}) == [f"params.{name}: is not a parameter of this driver; did you mean vnc_port?"]


def test_an_unknown_name_near_nothing_says_where_to_look() -> None:
    assert lines({"zzz": 1}) == ["params.zzz: is not a parameter of this driver; see 'hv params DRIVER' for a list"]


def test_a_strange_name_is_shown_escaped_and_short() -> None:
    (line,) = lines({"a\n\x1b[2J" + "b" * 1000: 1})
    assert line.startswith("params['a\\n\\x1b[2Jb")
    assert len(line) < 200


@pytest.mark.parametrize("name", [1, None, True, 1.5, (1, 2), b"acpi"])
def test_a_name_that_is_no_text_is_a_problem(name: object) -> None:
    (line,) = lines({name: 1})
    assert line.startswith(f"params[{name!r}]: is ")


@pytest.mark.parametrize("values", [None, [], "acpi", 1, True, [("acpi", True)], object()])
def test_what_is_no_mapping_is_a_problem(values: object) -> None:
    (line,) = lines(values)
    assert line.startswith("params: is ")
    assert line.endswith(", not a table; give names with values")


def test_any_mapping_will_do() -> None:
    assert SCHEMA.check(MappingProxyType({"acpi": False}), "web1")["acpi"] is False


def test_the_mapping_that_was_checked_may_change_afterwards() -> None:
    values: dict[str, object] = {"acpi": False}
    params = SCHEMA.check(values, "web1")
    values["acpi"] = values["vnc_port"] = 1
    assert params["acpi"] is False
    assert params.given == {"acpi"}


def test_none_is_a_value_only_of_what_can_be_unset() -> None:
    assert SCHEMA.check({"kernel_path": None}, "web1").given == {"kernel_path"}
    assert lines({"acpi": None}) == ["params.acpi: is nothing (null), not true or false, got None; give true or false"]


def test_a_required_parameter_that_no_layer_sets_is_a_problem() -> None:
    schema = Schema.compile([("x 1", ParamGroup("g", Param("root", file(), required=True, help="The root.")))])
    assert [str(problem) for problem in schema.problems({})[1]] == [
        "params.root: is required and not set; give the absolute path of a file"
    ]
    assert [problem.what for problem in schema.problems({"root": None})[1]] == ["is nothing (null), not a path"]
    assert schema.check({"root": "/a"}, "web1")["root"] == "/a"
    assert schema.check({}, "web1", below=(("node", {"root": "/b"}),)).layer("root") == "node"


def test_a_higher_layer_wins_and_is_named() -> None:
    below = (("node", {"acpi": False, "vnc_port": 6000, "kernel_path": "/k"}), ("profile", {"vnc_port": 6001}))
    params = SCHEMA.check({"cpu_mask": "1", "kernel_path": None}, "web1", below=below)
    assert {key: (params[key], params.layer(key)) for key in params.given} == {
        "acpi": (False, "node"),
        "vnc_port": (6001, "profile"),
        "kernel_path": (None, "instance"),
        "cpu_mask": ("1", "instance"),
    }


def test_a_problem_in_a_lower_layer_names_the_layer() -> None:
    assert lines({"acpi": False}, node={"acpi": 1}, profile=[]) == [
        "node.params.acpi: is a whole number, not true or false, got 1; give true or false",
        "profile.params: is a list, not a table; give names with values",
    ]


def test_two_plugins_with_one_key_are_both_named() -> None:
    other = ParamGroup("other", Param("acpi", boolean(), help="Mine too."))
    with pytest.raises(
        DriverLoadError, match=r"parameter 'acpi': declared by both hv-kvm 0.1 and hv-x 3; .*rename one"
    ):
        Schema.compile([("hv-kvm 0.1", MACHINE), ("hv-x 3", other)])
    with pytest.raises(DriverLoadError, match=r"parameter 'acpi': declared twice by hv-kvm 0.1"):
        Schema.compile([("hv-kvm 0.1", MACHINE), ("hv-kvm 0.1", other)])
    assert SCHEMA.owner("vnc_port") == "hv-vnc 2.0"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"key": "Acpi"}, "not a parameter name"),
        ({"key": "a-b"}, "not a parameter name"),
        ({"key": ""}, "not a parameter name"),
        ({"help": "No stop"}, "full stop"),
        ({"help": "Two\nlines."}, "full stop"),
        ({"default": 101}, "'k': default is above the maximum of 100, got 101; give a whole number from 0 to 100"),
        ({"default": True}, "'k': default is true or false, not a whole number"),
        ({"example": "x"}, "'k': example is a text, not a whole number"),
        ({"since": "v1"}, "since is not a release"),
        ({"changes": "never"}, "changes is not"),
        ({"required": True, "default": 1}, "is required and has a default"),
        ({"required": True, "default_means": "none"}, "is required and has a default"),
        ({"default_means": "QEMU decides."}, "default_means is not a phrase"),
        ({"default_means": ""}, "default_means is not a phrase"),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(DriverLoadError, match=message):
        Param(**{"key": "k", "type": integer(0, 100), "help": "Good.", **fields})


def test_a_secret_default_is_not_shown_when_it_is_refused() -> None:
    with pytest.raises(DriverLoadError) as caught:
        Param("k", integer(), default=SECRET, secret=True, help="Good.")
    assert SECRET not in str(caught.value)


def test_secrets_are_in_the_values_and_nowhere_else() -> None:
    params = SCHEMA.check({"vnc_password": SECRET, "acpi": False}, "web1")
    assert params["vnc_password"] == SECRET
    assert repr(params) == "Params(acpi=False, vnc_password='<secret>')"
    shown = params.redacted()
    assert (shown["vnc_password"], shown["vnc_pin"], shown["vnc_code"]) == ("<secret>", "<secret>", None)
    assert SECRET not in json.dumps(shown)


HIDING = st.sampled_from(
    [SECRET, SECRET + "\n", "\0" + SECRET, [SECRET], {"a": SECRET}, {SECRET: 1}, (SECRET,), SECRET * 50]
)


@given(
    st.sampled_from(["vnc_password", "vnc_pin", "vnc_code", "vnc_pasword", "VNC-PIN", "x", 7]), HIDING, st.booleans()
)
def test_a_secret_never_appears_in_an_error(name: object, value: object, below: bool) -> None:  # noqa: FBT001
    values: object = {name: value}
    layers = (("node", values),) if below else ()
    try:
        SCHEMA.check({"acpi": 1} if below else values, "web1", below=layers)
    except ParamsError as error:
        message = f"{error}{error!r}{json.dumps(error.to_json())}{error.__context__}{error.__cause__}"
        assert SECRET not in message


def test_a_secret_given_in_place_of_the_table_is_not_shown() -> None:
    assert SECRET not in lines(SECRET)[0]
    assert SECRET not in lines([SECRET])[0]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
)
NAMES = st.sampled_from(sorted(SCHEMA.params)) | st.text(max_size=6) | st.integers() | st.none()


@given(JSON | st.dictionaries(NAMES, JSON, max_size=6))
def test_no_input_causes_anything_but_problems(values: Any) -> None:
    params, problems = SCHEMA.problems(values)
    assert (params is None) == bool(problems)
    for problem in problems:
        assert problem.path.startswith("params")
        assert "\n" not in str(problem)
        assert len(problem.got or "") <= 80
        json.dumps(problem.to_json()).encode()
    if params is not None:
        again = SCHEMA.check(dict(params), "web1")
        assert dict(again) == dict(params)
        json.dumps(params.redacted())


@given(st.dictionaries(NAMES, JSON, max_size=6))
def test_every_key_of_the_input_is_given_or_a_problem(values: dict[Any, Any]) -> None:
    params, problems = SCHEMA.problems(values)
    given_keys = params.given if params is not None else frozenset()
    assert given_keys == values.keys() or problems
    if problems:
        bad = [key for key in values if SCHEMA.problems({key: values[key]})[1]]
        assert len(problems) == len(bad)


@pytest.mark.parametrize("value", ["x" * 10**6, [[[[[[1]]]]]], list(range(10**5)), {"a": "\x1b[2J" * 100}])
def test_a_value_is_shown_short_and_escaped(value: object) -> None:
    shown = shortened(value)
    assert len(shown) <= 80
    assert shown.isprintable()
    (problem,) = SCHEMA.problems({"acpi": value})[1]
    assert problem.got == shown


def test_a_number_too_long_for_python_to_print_is_a_problem_like_others() -> None:
    (problem,) = SCHEMA.problems({"vnc_port": 10**5000})[1]
    assert (problem.what, problem.got) == ("is above the maximum of 65535", "a number too long to show")


def test_ten_thousand_unknown_names_are_reported_quickly() -> None:
    assert len(lines({f"vnc_prt{n}": n for n in range(10_000)})) == 10_000


def test_a_type_of_a_plugin_that_raises_value_error_is_a_problem() -> None:
    def parse(value: object) -> int:
        return int(str(value))

    schema = Schema.compile([("x 1", ParamGroup("g", Param("n", ParamType("n", "digits", parse, {}), help="N.")))])
    assert schema.problems({"n": "x"})[1] == (
        Problem(path="params.n", what="is not valid", got="'x'", todo="give digits"),
    )


def test_params_are_read_only_comparable_and_copyable() -> None:
    params = SCHEMA.check({"acpi": False}, "web1")
    assert isinstance(params, Mapping)
    assert not hasattr(params, "__setitem__")
    other = copy.deepcopy(params)
    assert isinstance(other, Params)
    assert other == params == dict(params)
    assert other.given == params.given


def test_a_deprecated_parameter_says_what_to_do_and_when() -> None:
    gone = Param("p", text(), help="Words.", deprecated="use q", removed_in="2.0")
    assert gone.deprecation == "is deprecated and will be removed in release 2.0; use q"
    assert Param("p", text(), help="Words.").deprecation is None


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"deprecated": "use q"}, "go together"),
        ({"removed_in": "2.0"}, "go together"),
        ({"deprecated": "use q", "removed_in": "soon"}, "removed_in is not a release such as '2.0', got 'soon'"),
    ],
)
def test_half_a_deprecation_is_refused(more: dict[str, str], message: str) -> None:
    with pytest.raises(DriverLoadError, match=message):
        Param("p", text(), help="Words.", **more)  # type: ignore[arg-type]
