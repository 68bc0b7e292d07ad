"""The start of the command ``hv``, before anything else is imported."""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run ``hv``. Until there is something to undo, the kernel ends it on Ctrl-C, without a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not when ignored: nohup, or a shell's &
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # hvcore.cli.exit_status restores it
    gc.set_threshold(100_000)  # imported objects stay: collecting them again is 4 of 90 ms
    if sys.getfilesystemencoding() != "utf-8":
        # Instance files, records and the file names in them are UTF-8 in every locale.
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - this program
    from hvcore.cli import main as run  # noqa: PLC0415 - after signal() above

    run()
