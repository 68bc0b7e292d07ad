"""The network of NICs in mode user: by the program passt beside QEMU, or by QEMU's own stack, called slirp."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import hvcore.plugin as hv
from hv_kvm.devices.shared.params import problem
from hv_kvm.devices.shared.user_nic import PASST, SLIRP

__all__ = ["PARAMS", "check"]

PARAMS: Final = hv.ParamGroup(
    "user_network",
    hv.Param(
        "user_network",
        hv.one_of(
            {
                PASST: "The program passt beside QEMU, with its own uid and sandbox. QEMU itself gets no network.",
                SLIRP: "QEMU's own network stack. QEMU shares the node's network, and ports cannot be forwarded.",
            }
        ),
        help="The network of NICs in mode user.",
        default_means="passt if it is installed and the node has a default route, else slirp",
        changes="launch",
        example=SLIRP,
    ),
    hv.Param(
        "passt_path",
        hv.file(),
        help="The program of the user network.",
        default_means=f"{hv.PASST_PATH}, of the package passt",
        changes="launch",
        example="/usr/local/bin/passt",
    ),
    help="The network of NICs in mode user. The guest gets an address by DHCP, and also IPv6 if the node has a route.",
)

_NEED_PASST: Final = ("forward", "mtu")


@hv.hookimpl
@hv.when_given("user_network")
def check(instance: hv.Instance, params: hv.Params) -> Iterator[hv.Problem]:
    """QEMU's own stack forwards no ports and announces no MTU."""
    if params["user_network"] != SLIRP:
        return
    reached = {nic.egress or "all" for nic in instance.nics if nic.mode == "user"} - {"none"}
    if len(reached) > 1:
        what = "has one uid for all NICs of the guest, but their egress differs"
        todo = "give them the same egress, or set user_network = 'passt'"
        yield problem(params, "user_network", what, todo)
    if params["passt_path"]:
        yield problem(params, "passt_path", "has no effect with user_network = 'slirp'", "unset one of the two")
    for index, nic in enumerate(instance.nics):
        for key in _NEED_PASST if nic.mode == "user" else ():
            value = getattr(nic, key)
            if value not in (None, ()):
                got = repr(list(value)) if isinstance(value, tuple) else repr(value)
                what, todo = "needs passt, but user_network is 'slirp'", "unset it, or set user_network = 'passt'"
                yield hv.Problem(path=f"nics[{index}].{key}", what=what, got=got, todo=todo)
