"""The command ``hv`` in its first moments, while everything else is still being imported."""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run ``hv``. As long as there is nothing to undo, Ctrl-C ends it as the kernel does, without a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored: nohup, or a shell's &
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # hvcore.cli.exit_status takes it back
    gc.set_threshold(100_000)  # what imports make stays: to look through it again and again is 4 of 90 ms
    if sys.getfilesystemencoding() != "utf-8":
        # Instance files and records are UTF-8, so are the names of files in them, and a locale changes no file's name.
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - ourselves
    from hvcore.cli import main as run  # noqa: PLC0415 - after the signal, above

    run()
