"""The scripts that start and stop an instance, and their environment."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import hvcore.plugin as hv

__all__ = ["PARAMS", "assess", "check"]

# hv.file() without the check on the node: the file is inside the instance's root.
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
        help="The program in the root that starts the services. It gets the argument start.",
        example="/etc/init.d/rcS",
    ),
    hv.Param(
        "stop_script",
        _PATH_INSIDE,
        default_means="the value of init_script",
        help="The program in the root that stops the services. It gets the argument stop.",
        example="/etc/init.d/rcK",
    ),
    hv.Param(
        "script_deadline",
        hv.seconds(minimum=0.1, maximum=86400),
        default=60,
        unit="seconds",
        help="How long a script can run. After that time a start fails, and a stop ends the processes.",
        changes="launch",
        example=120,
    ),
    hv.Param(
        "environment",
        hv.list_of(_VARIABLE),
        default=(),
        help="The variables of both scripts and their child processes, besides PATH, HOME and container.",
        example=["LANG=C.UTF-8", "TZ=UTC"],
    ),
    help="The scripts that start and stop the instance.",
)


@hv.hookimpl
def check(params: hv.Params) -> Iterator[hv.Problem]:
    """Each variable at most once, and none of those that hvcore sets."""
    names = [pair.partition("=")[0] for pair in params["environment"]]
    for name in dict.fromkeys(names):
        if re.match("HVCORE_", name):
            what = "sets a variable that is reserved for hvcore"
            yield hv.Problem(path="params.environment", what=what, got=repr(name), todo="remove it")
        elif names.count(name) > 1:
            yield hv.Problem(path="params.environment", what="sets a variable twice", got=repr(name), todo="remove one")


@hv.hookimpl
def assess(params: hv.Params) -> Iterator[hv.Problem]:
    """A warning: a secret in the environment is in the record, in plans, and in /proc."""
    for pair in params["environment"]:
        name = pair.partition("=")[0]
        if re.search("PASSWORD|SECRET|TOKEN", name, re.IGNORECASE):
            what, todo = (
                f"shows {name} in plans and in /proc",
                "put the secret into a file that only the instance can read",
            )
            yield hv.Problem(path="params.environment", what=what, todo=todo)
