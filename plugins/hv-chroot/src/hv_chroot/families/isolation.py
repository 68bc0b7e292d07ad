"""How it is kept apart from the node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import hvcore.plugin as hv

__all__ = ["DEFAULT_CAPABILITIES", "PARAMS", "assess", "check", "has_users"]

# What daemons need to change users, own their files and listen on low ports, and nothing that reaches the node.
DEFAULT_CAPABILITIES: Final = (
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)
# With one of these, root inside can become root outside as long as it is the same root.
_REACH_THE_NODE: Final = frozenset(
    f"CAP_{name}"
    for name in (
        *("BPF", "CHECKPOINT_RESTORE", "DAC_READ_SEARCH", "LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD"),
        *("NET_ADMIN", "PERFMON", "SYS_ADMIN", "SYS_BOOT", "SYS_MODULE", "SYS_PTRACE", "SYS_RAWIO", "SYS_TIME"),
    )
)

PARAMS: Final = hv.ParamGroup(
    "confine",
    hv.Param(
        "isolation",
        hv.one_of("namespaces", "none"),
        default="namespaces",
        help="Keep it in namespaces of its own; or only change its root, as Ganeti does, which keeps it from nothing.",
        example="none",
    ),
    hv.Param(
        "user_namespace",
        hv.one_of("auto", "on", "off"),
        default="auto",
        help="Make root inside nobody outside. auto: unless it shares the node's network, where low ports need root.",
        example="on",
    ),
    hv.Param(
        "capabilities",
        hv.list_of(hv.one_of(*hv.CAPABILITIES)),
        default=DEFAULT_CAPABILITIES,
        help="The capabilities that its processes keep.",
        example=["CAP_CHOWN", "CAP_SETGID", "CAP_SETUID"],
    ),
    hv.Param(
        "seccomp",
        hv.one_of("default", "off"),
        default="default",
        help="Refuse system calls that no service needs and that only a capability it lacks is for.",
        example="off",
    ),
    hv.Param(
        "hostname",
        hv.regexp("[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", "a host name of at most 64 bytes", max_bytes=64),
        help="The host name that its processes see; unset, it is the instance's name.",
        example="web1",
    ),
    help="What keeps it and the node apart.",
)


def has_users(params: hv.Params) -> bool:
    """Whether its uids are others outside than inside."""
    if params["isolation"] == "none" or params["user_namespace"] == "off":
        return False
    return bool(params["user_namespace"] == "on" or params["network"] != "host")


@hv.hookimpl
def check(params: hv.Params) -> Iterator[hv.Problem]:
    """Without namespaces there is nothing that could do the rest."""
    if params["isolation"] != "none":
        return
    wrong = {
        "user_namespace": params["user_namespace"] == "on",
        "capabilities": params["capabilities"] != DEFAULT_CAPABILITIES,
        "hostname": params["hostname"] is not None,
        "network": params["network"] != "host",
    }
    for key in (key for key, is_wrong in wrong.items() if is_wrong):
        what = "cannot be had without namespaces"
        todo = "unset it, or isolation = 'namespaces'"
        yield hv.Problem(path=f"params.{key}", what=what, got=repr(params[key]), todo=todo)


@hv.hookimpl
def assess(params: hv.Params) -> Iterator[hv.Problem]:
    """What root inside could do to the node."""
    if params["isolation"] == "none":
        what = "confines nothing: root inside is root of the node"
        yield hv.Problem(path="params.isolation", what=what, todo="use it only for what you would run as root")
        return
    users = has_users(params)
    reaching = [name for name in params["capabilities"] if name in _REACH_THE_NODE]
    if reaching and not users:
        what = f"with {', '.join(reaching)} root inside can become root of the node"
        todo = "set params.user_namespace to 'on', or remove it"
        yield hv.Problem(path="params.capabilities", what=what, todo=todo)
    if users and params["network"] == "host":
        what = "keeps it from the ports below 1024 of the node's network"
        todo = "give it a network of its own, or listen on others"
        yield hv.Problem(path="params.user_namespace", what=what, got="'on'", todo=todo)
    if params["seccomp"] == "off":
        what = "leaves every system call of the kernel open to it"
        yield hv.Problem(path="params.seccomp", what=what, got="'off'", todo="keep a capability it needs instead")
