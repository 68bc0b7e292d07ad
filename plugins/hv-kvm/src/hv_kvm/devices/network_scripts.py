"""Scripts of the node that connect the taps of NICs, in place of what hvcore does itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import hvcore.plugin as hv
from hv_kvm.devices.shared.nic_scripts import SCRIPTED
from hv_kvm.devices.shared.params import problem

__all__ = ["PARAMS", "check"]

_SCRIPTS: Final = ("network_up_script", "network_down_script")

PARAMS: Final = hv.ParamGroup(
    "network_scripts",
    hv.Param(
        "network_up_script",
        hv.file(),
        help="The program that connects the tap of each NIC before the guest runs, in place of hvcore. It gets the name of the "
        "tap as its argument, and the environment of Ganeti's kvm-vif-bridge. The start fails if the program fails, or does "
        "not end within 30 seconds.",
        default_means="hvcore connects the tap; mode 'ext' needs a program",
        changes="launch",
        example="/etc/hvcore/kvm-vif-bridge",
    ),
    hv.Param(
        "network_down_script",
        hv.file(),
        help="The program that runs for the tap of each NIC after the guest has ended. Its failure is reported, and the stop "
        "goes on.",
        default_means="no program",
        changes="launch",
        example="/etc/hvcore/net-down",
    ),
    help="Programs of the node for NICs of the modes bridged, routed, openvswitch and ext.",
)


@hv.hookimpl
def check(instance: hv.Instance, params: hv.Params) -> Iterator[hv.Problem]:
    """Mode ext needs a script, and a script needs a NIC."""
    if params["network_up_script"] is None:
        for index, nic in enumerate(instance.nics):
            if nic.mode == "ext":
                what = "needs a script that connects the NIC, and network_up_script is not set"
                todo = "set params.network_up_script, or use another mode"
                yield hv.Problem(path=f"nics[{index}].mode", what=what, got="'ext'", todo=todo)
    if any(nic.mode in SCRIPTED for nic in instance.nics):
        return
    for key in _SCRIPTS:
        # A node or a profile may set it for all its instances.
        if params[key] is not None and params.layer(key) == "instance":
            what = "has no effect, because no NIC has one of the modes bridged, routed, openvswitch and ext"
            yield problem(params, key, what, "unset it, or set the mode of a NIC")
