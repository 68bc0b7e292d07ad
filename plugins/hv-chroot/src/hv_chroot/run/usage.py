"""What running instances use, by their control groups, which count processes that have ended, too."""

from __future__ import annotations

from collections.abc import Sequence

import hvcore.plugin as hv

__all__ = ["usage"]


def usage(lives: Sequence[hv.Live], deadline: hv.Deadline) -> list[hv.Usage]:  # noqa: ARG001 - of the protocol
    """The processor time of each control group. Without one, the figures of `observe` remain."""
    return [_usage(live) for live in lives]


def _usage(live: hv.Live) -> hv.Usage:
    figures = None if live.group is None else live.group.figures()
    return hv.Usage() if figures is None else hv.Usage(cpu_seconds=figures.cpu_seconds)
