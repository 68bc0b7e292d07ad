"""The isolation of an instance from the node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import hvcore.plugin as hv

__all__ = ["DEFAULT_CAPABILITIES", "PARAMS", "assess", "check", "has_users"]

# Daemons need these to change users, own files and listen on low ports. None of them reaches the node.
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
# With one of these, root inside can become root outside, unless a user namespace separates them.
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
        hv.one_of(
            {
                "namespaces": "The instance has its own mount, PID, IPC and UTS namespaces, and few capabilities.",
                "none": "Only the root directory is changed, as by chroot(8) and Ganeti. Root inside is root on the node.",
            }
        ),
        default="namespaces",
        help="How the instance is isolated from the node.",
        example="none",
    ),
    hv.Param(
        "user_namespace",
        hv.one_of(
            {
                "auto": "On, unless the instance shares the node's network, where ports below 1024 need root.",
                "on": "Users inside are unused uids of the node, so root inside has no rights outside.",
                "off": "Users inside are the same users on the node.",
            }
        ),
        default="auto",
        default_means="on, unless network = host",
        help="Whether the instance has a user namespace.",
        example="on",
    ),
    hv.Param(
        "capabilities",
        hv.list_of(hv.one_of(*hv.CAPABILITIES)),
        default=DEFAULT_CAPABILITIES,
        help="The capabilities that the processes can have.",
        example=["CAP_CHOWN", "CAP_SETGID", "CAP_SETUID"],
    ),
    hv.Param(
        "seccomp",
        hv.one_of(
            {
                "default": "Calls that no service needs are refused, and calls that need a capability which the instance lacks.",
                "off": "Every system call is allowed.",
            }
        ),
        default="default",
        default_means="the built-in profile",
        help="Which system calls the processes can use.",
        example="off",
    ),
    hv.Param(
        "hostname",
        hv.regexp("[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", "a host name of at most 64 bytes", max_bytes=64),
        default_means="the name of the instance, or its first label if the name is longer than 64 bytes",
        help="The host name that the processes see.",
        example="web1",
    ),
    help="The isolation of the instance from the node.",
)


def has_users(params: hv.Params) -> bool:
    """Whether the instance has a user namespace."""
    if params["isolation"] == "none" or params["user_namespace"] == "off":
        return False
    return bool(params["user_namespace"] == "on" or params["network"] != "host")


@hv.hookimpl
def check(params: hv.Params) -> Iterator[hv.Problem]:
    """No parameter that needs namespaces may be set without them."""
    if params["isolation"] != "none":
        return
    wrong = {
        "user_namespace": params["user_namespace"] == "on",
        "capabilities": params["capabilities"] != DEFAULT_CAPABILITIES,
        "hostname": params["hostname"] is not None,
        "network": params["network"] != "host",
    }
    todo = "unset it, or set isolation = 'namespaces'"
    for key in (key for key, is_wrong in wrong.items() if is_wrong):
        yield hv.Problem(path=f"params.{key}", what="needs namespaces", got=repr(params[key]), todo=todo)


@hv.hookimpl
def assess(params: hv.Params) -> Iterator[hv.Problem]:
    """Warnings about access to the node that root inside has, or lacks."""
    if params["isolation"] == "none":
        what = "does not isolate the instance: root inside is root on the node"
        yield hv.Problem(path="params.isolation", what=what, todo="run only programs that you would run as root")
        return
    users = has_users(params)
    reaching = [name for name in params["capabilities"] if name in _REACH_THE_NODE]
    if reaching and not users:
        what = f"with {', '.join(reaching)} root inside can become root on the node"
        todo = "set params.user_namespace to 'on', or remove the capability"
        yield hv.Problem(path="params.capabilities", what=what, todo=todo)
    if users and params["network"] == "host":
        what = "prevents the instance from listening on the node's ports below 1024"
        todo = "give the instance its own network, or use higher ports"
        yield hv.Problem(path="params.user_namespace", what=what, got="'on'", todo=todo)
    if params["seccomp"] == "off":
        what, todo = "allows every system call", "rather add the capability that the refused call needs"
        yield hv.Problem(path="params.seccomp", what=what, got="'off'", todo=todo)
