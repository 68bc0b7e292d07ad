"""What the fixtures that several test modules use give to a test, by the name that the test annotates them with."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from hvcore import Instance

Web = Callable[..., Instance]
"""Of fixture ``web``: an instance of driver fake with that name and these parameters."""
Eventually = Callable[..., None]
"""Of fixture ``eventually``: waits until a condition holds."""
InChild = Callable[..., int]
"""Of fixture ``in_child``: runs a function in a child process; its pid."""
Uids = Callable[[], dict[str, str]]
"""Of fixture ``uids``: each uid that is reserved, with the instance that has it."""
Hv = Callable[..., Any]
"""Of fixture ``hv``: what click's runner says of ``hv`` with these arguments, in this process."""
Process = Callable[..., "subprocess.CompletedProcess[bytes]"]
"""Of fixture ``hv_process``: how ``hv`` ended with these arguments, in a separate process."""
Run = Callable[..., "subprocess.CompletedProcess[str]"]
"""A program that has ended, with what it wrote as text."""
File = Callable[..., str]
"""The path of an instance file with this in it."""


class Install(Protocol):
    """Of fixture ``install``: a distribution with one module, which is importable until the end of the test; its file."""

    def __call__(
        self,
        name: str,
        entry_points: str,
        source: str = "",
        *,
        requires: str = "hvcore>=0.1,<0.2",
        version: str = "1.0",
    ) -> Path: ...
