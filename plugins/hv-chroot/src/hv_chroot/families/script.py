"""The programs that start and stop it, and what they find in their environment."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import hvcore.plugin as hv

__all__ = ["PARAMS", "assess", "check"]

# Not hv.file(): that one is looked for on the node, this one is inside the instance's own file system.
_PATH_INSIDE: Final = replace(
    hv.file(), kind="path inside", expects="the absolute path of a program in its root", node_check=None
)
_VARIABLE: Final = hv.regexp(
    "[A-Za-z_][A-Za-z0-9_]*=.*", "a variable and its value, such as 'LANG=C.UTF-8'", max_bytes=4096
)

PARAMS: Final = hv.ParamGroup(
    "script",
    hv.Param(
        "init_script",
        _PATH_INSIDE,
        default="/ganeti-chroot",
        help="The program in its root that is run with the argument start, and with stop when it stops.",
        example="/etc/init.d/rcS",
    ),
    hv.Param(
        "stop_script",
        _PATH_INSIDE,
        help="The program that is run with the argument stop when it stops; unset, it is the one that started it.",
        example="/etc/init.d/rcK",
    ),
    hv.Param(
        "script_deadline",
        hv.seconds(minimum=0.1, maximum=86400),
        default=60,
        unit="seconds",
        help="How long one run of a script may take; a start fails then, a stop goes on without it.",
        changes="launch",
        example=120,
    ),
    hv.Param(
        "environment",
        hv.list_of(_VARIABLE),
        default=(),
        help="Variables for both scripts and everything they start, besides PATH, HOME and container.",
        example=["LANG=C.UTF-8", "TZ=UTC"],
    ),
    help="How it is started and stopped.",
)


@hv.hookimpl
def check(params: hv.Params) -> Iterator[hv.Problem]:
    """Each variable once, and none of hvcore's own."""
    names = [pair.partition("=")[0] for pair in params["environment"]]
    for name in dict.fromkeys(names):
        if re.match("HVCORE_", name):
            what = "has a variable that hvcore sets itself"
            yield hv.Problem(path="params.environment", what=what, got=repr(name), todo="remove it")
        elif names.count(name) > 1:
            what = "has a variable twice"
            yield hv.Problem(path="params.environment", what=what, got=repr(name), todo="leave one out")


@hv.hookimpl
def assess(params: hv.Params) -> Iterator[hv.Problem]:
    """A secret in the environment is in the record, in plans, and in /proc."""
    for pair in params["environment"]:
        name = pair.partition("=")[0]
        if re.search("PASSWORD|SECRET|TOKEN", name, re.IGNORECASE):
            what = f"shows {name} to everybody who sees plans or /proc"
            yield hv.Problem(path="params.environment", what=what, todo="put it into a file that only it can read")
