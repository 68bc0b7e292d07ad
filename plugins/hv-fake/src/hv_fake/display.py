"""The display of a guest, which shows one black point. It takes passwords, and keeps none."""

from __future__ import annotations

from typing import Final

import hvcore.plugin as hv

__all__ = ["ShowsDisplay"]

_BLACK_POINT: Final = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c636000000002000148afa4710000000049454e44ae426082"
)


class ShowsDisplay:
    """The methods of `hvcore.plugin.TakesScreenshots` and `hvcore.plugin.HasVncPassword`."""

    def screenshot(self, live: hv.Live, job: hv.Job) -> bytes:
        """A PNG file of one point."""
        return _BLACK_POINT

    def vnc_password(self, live: hv.Live, job: hv.Job, password: str, valid_s: float | None) -> None:
        """Nothing: no client can connect."""
