"""QEMU's monitor protocol: a small blocking client and one typed function per command.

See ``docs/decisions/0004-own-qmp-client.md`` for why it is our own.
"""

from __future__ import annotations

from hv_kvm.event import QmpEvent
from hv_kvm.qmp.client import Greeting, QmpClient, adopt, connect, reach
from hv_kvm.qmp.errors import (
    QmpBusyError,
    QmpClosedError,
    QmpCommandError,
    QmpConnectError,
    QmpError,
    QmpProtocolError,
    QmpTimeoutError,
)

__all__ = [
    "Greeting",
    "QmpBusyError",
    "QmpClient",
    "QmpClosedError",
    "QmpCommandError",
    "QmpConnectError",
    "QmpError",
    "QmpEvent",
    "QmpProtocolError",
    "QmpTimeoutError",
    "adopt",
    "connect",
    "reach",
]
