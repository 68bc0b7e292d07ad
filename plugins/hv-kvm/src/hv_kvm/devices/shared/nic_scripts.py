"""The scripts of a NIC on a tap: which they are, and the resource that runs them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import hvcore.plugin as hv
from hvcore.plugin import dataclass

__all__ = ["SCRIPTED", "NicScripts"]

SCRIPTED: Final = ("bridged", "routed", "openvswitch", "ext")
"""The modes in which scripts run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NicScripts:
    """The parameters ``network_up_script`` and ``network_down_script``, and the variables for both scripts."""

    up: str | None = None
    down: str | None = None
    environment: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, instance: hv.Instance, params: hv.Params, index: int) -> NicScripts:
        """Those of NIC ``index``; none in a mode without scripts."""
        up, down = params["network_up_script"], params["network_down_script"]
        if instance.nics[index].mode not in SCRIPTED or (up is None and down is None):
            return cls()
        return cls(up=up, down=down, environment=hv.script_environment(instance, index))

    def resources(self, index: int, mode: str, link: str | None, tap: hv.Resource[Any]) -> Iterator[hv.NetworkScripts]:
        """What runs them for NIC ``index``; nothing without scripts."""
        yield from hv.nic_scripts(index, mode, tap, to=link, up=self.up, down=self.down, environment=self.environment)
