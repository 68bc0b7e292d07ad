"""The limits of an instance's use of the node."""

from __future__ import annotations

from typing import Final

import hvcore.plugin as hv

__all__ = ["PARAMS"]

PARAMS: Final = hv.ParamGroup(
    "limits",
    hv.Param(
        "memory_limit",
        hv.size_mib(minimum=4),
        unit="MiB",
        default_means="no limit",
        help="How much memory all processes together can use, cached files included.",
        example="512M",
    ),
    hv.Param(
        "cpu_limit",
        hv.integer(minimum=1, maximum=819200),
        unit="percent of one CPU",
        default_means="no limit",
        help="How much CPU time all processes together can use: 150 is one and a half CPUs.",
        example=150,
    ),
    hv.Param(
        "process_limit",
        hv.integer(minimum=1, maximum=4194304),
        default_means="no limit",
        help="How many processes and threads there can be.",
        example=500,
    ),
    help="The limits of all processes together, set by a control group.",
)
