"""The command line ``hv``. It uses the public names of `hvcore` only."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from contextlib import suppress
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run ``hv`` with the arguments of this process, and end the process with the exit code."""
    try:
        from hvcore.cli.app import hv  # noqa: PLC0415 - click may be missing: the message is below
        from hvcore.cli.output import move_stdout  # noqa: PLC0415 - as above
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        sys.exit("hv: click is not installed; pip install 'hvcore[cli]'")
    except KeyboardInterrupt:
        sys.exit(130)
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # a closed stream is None
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # other streams have no reconfigure()
    move_stdout()
    try:
        hv.main()
    except SystemExit as ended:
        _exit_at_once(ended.code if isinstance(ended.code, int) else 0)


def _exit_at_once(code: int) -> NoReturn:
    # Python would free each object: 9 of the 133 ms of `hv list`. The kernel is faster.
    if threading.active_count() > 1:
        sys.exit(code)
    atexit._run_exitfuncs()  # noqa: SLF001 - sys.exit() would do the same
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)
