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
        help="The memory that all its processes may use together, cached files included; unset, as much as there is.",
        example="512M",
    ),
    hv.Param(
        "cpu_limit",
        hv.integer(minimum=1, maximum=819200),
        unit="percent of one cpu",
        help="The cpu time that all its processes may use together, 150 for one and a half; unset, what there is.",
        example=150,
    ),
    hv.Param(
        "process_limit",
        hv.integer(minimum=1, maximum=4194304),
        help="How many processes and threads it may have at once; unset, as many as there can be.",
        example=500,
    ),
    help="What it may use at most, by a control group.",
)
