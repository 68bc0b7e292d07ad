"""Plans, in words and as JSON."""

from __future__ import annotations

import json

from hvcore import Argument, Origin, Plan, Step

PLAN = Plan(
    name="web1",
    driver="fake",
    steps=(Step(kind="claim", what="/srv/a.img"), Step(kind="launch", what="qemu")),
    arguments=(
        Argument(tokens=("qemu",), origin=Origin(plugin="machine", why="the program")),
        Argument(tokens=("-m", "512"), origin=Origin(plugin="memory", params=("memory_mib",), why="its memory")),
        Argument(tokens=("-smp", "2"), origin=Origin(plugin="cpu", params=("vcpus", "sockets"))),
    ),
)


def test_every_argument_is_explained_on_its_line() -> None:
    assert PLAN.explain().splitlines() == [
        "web1 (fake)",
        "",
        "steps",
        "  1. claim: /srv/a.img",
        "  2. launch: qemu",
        "",
        "arguments",
        "  qemu    # machine <- always: the program",
        "  -m 512  # memory <- memory_mib: its memory",
        "  -smp 2  # cpu <- vcpus, sockets",
    ]


def test_an_argument_with_a_newline_stays_on_its_line() -> None:
    argument = Argument(tokens=("-append", "a\nb\x1b[0m"), origin=Origin(plugin="boot", why="two\nlines"))
    plan = Plan(name="w", driver="d", steps=(Step(kind="file", what="/srv/a\nb"),), arguments=(argument,))
    steps, arguments = plan.explain().split("\n\n")[1:]
    assert steps == r"steps" + "\n" + r"  1. file: /srv/a\nb"
    assert arguments == r"arguments" + "\n" + r"  -append a\nb\x1b[0m  # boot <- always: two\nlines"


def test_a_plan_without_a_command_has_only_steps() -> None:
    assert Plan(name="w", driver="d", steps=(Step(kind="mount", what="x"),)).explain() == (
        "w (d)\n\nsteps\n  1. mount: x"
    )


def test_the_command_is_the_tokens_in_order() -> None:
    assert PLAN.argv == ("qemu", "-m", "512", "-smp", "2")


def test_the_json_keys_are_stable() -> None:
    data = json.loads(json.dumps(PLAN.to_json()))
    assert list(data) == ["name", "driver", "steps", "arguments", "params", "warnings"]
    assert data["steps"][0] == {"kind": "claim", "what": "/srv/a.img"}
    assert data["arguments"][1] == {
        "tokens": ["-m", "512"],
        "plugin": "memory",
        "params": ["memory_mib"],
        "layers": {},
        "why": "its memory",
        "capability": "",
    }
