"""The command line ``hv``, written on the public names of `hvcore` and on nothing else of it."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from contextlib import suppress
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run ``hv`` with this process's arguments, and end the process with an exit code that scripts can use."""
    try:
        from hvcore.cli.app import hv  # noqa: PLC0415 - click may be missing, and then this says so
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        sys.exit("hv: click is not installed; pip install 'hvcore[cli]'")
    except KeyboardInterrupt:
        sys.exit(130)
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # one that is closed is None
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # else no TextIOWrapper
    try:
        hv.main()
    except SystemExit as ended:
        _leave(ended.code if isinstance(ended.code, int) else 0)


def _leave(code: int) -> NoReturn:
    # Taking the interpreter apart object by object is 9 of the 133 ms of `hv list`, and the kernel does it for nothing.
    if threading.active_count() > 1:
        sys.exit(code)
    atexit._run_exitfuncs()  # noqa: SLF001 - what sys.exit() would do
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)
