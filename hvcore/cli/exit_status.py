"""How a run of ``hv`` ends: the message and the exit code for each exception."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final, NoReturn

import click

import hvcore
from hvcore.cli.output import STDOUT, complain, emit_json, remark

__all__ = ["Signalled", "exit_code_of", "reported"]

_BAD_USAGE: Final = 2
_INTERRUPTED: Final = 128 + signal.SIGINT
_OUTPUT_CLOSED: Final = 128 + signal.SIGPIPE
_AGAIN_S: Final = 0.01
_LAST_LINES: Final = 12  # of the output of a process that ended during its start


class Signalled(BaseException):
    """A signal asked this process to end. As an exception, so that the operation in progress is undone."""

    def __init__(self, signum: int) -> None:
        self.signum = signum
        super().__init__(signum)


def exit_code_of(run: Callable[[], int], *, as_json: bool) -> int:
    """The exit code of ``run``, for every exception. Prints errors on stderr, and with ``as_json`` also on stdout."""
    try:
        with _signals_as_exceptions():
            code = _run_and_report(run, as_json=as_json)
            if sys.stdout is not None and not sys.stdout.closed:
                sys.stdout.flush()
    except (KeyboardInterrupt, click.Abort):
        code = _INTERRUPTED
    except Signalled as ended:
        code = 128 + ended.signum
    except OSError as error:
        code = _after_os_error(error)
    return code


def _run_and_report(run: Callable[[], int], *, as_json: bool) -> int:
    try:
        return run()
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.Abort:
        raise
    except hvcore.HvError as error:
        return _report(error, error.to_json(), as_json=as_json)
    except click.ClickException as error:
        facts = {"error": type(error).__name__, "message": _usage_message(error), "exit_code": _BAD_USAGE}
        return _report(error, facts, as_json=as_json)
    except OSError as error:
        if error.filename == STDOUT or _output_is_closed():
            raise
        facts = {"error": "OSError", "message": _os_error_message(error), "exit_code": 1}
        return _report(error, facts, as_json=as_json)
    except (KeyboardInterrupt, Signalled):
        raise
    except BaseException as error:  # noqa: BLE001 - a plugin can raise anything, and an operator sees no traceback
        text = f"internal error: {type(error).__name__}: {error}; please report it with the output of HVCORE_DEBUG=1"
        return _report(error, {"error": "InternalError", "message": text, "exit_code": 1}, as_json=as_json)


def reported(error: hvcore.HvError) -> dict[str, Any]:
    """The error as a JSON document, after it was printed on stderr with its notes."""
    return _complained(error, error.to_json())


def _report(error: BaseException, facts: dict[str, Any], *, as_json: bool) -> int:
    document = _complained(error, facts)
    if as_json:
        emit_json(document)
    return int(facts["exit_code"])


def _complained(error: BaseException, facts: dict[str, Any]) -> dict[str, Any]:
    complain(facts["message"])
    if isinstance(error, hvcore.LaunchError):
        lines = error.output.strip().splitlines()
        for line in lines[-_LAST_LINES:] if len(lines) > 1 else ():
            remark(f"    {line}")
    notes: list[str] = getattr(error, "__notes__", [])
    for note in notes:
        complain(note)
    if os.environ.get("HVCORE_DEBUG") == "1":
        import traceback  # noqa: PLC0415 - 2.2 ms, for HVCORE_DEBUG only

        remark("".join(traceback.format_exception(error)).rstrip())
    return {**facts, "notes": notes}


def _usage_message(error: click.ClickException) -> str:
    message = " ".join(error.message.split()).removesuffix(".")
    if isinstance(error, click.FileError):
        message = f"{error.ui_filename!r}: {message[:1].lower()}{message[1:]}"
    elif isinstance(error, click.MissingParameter):
        message = " ".join(error.format_message().split()).removesuffix(".")
    elif isinstance(error, click.BadParameter) and error.param is not None:
        what = error.param.get_error_hint(error.ctx).replace("'", "")  # click quotes each of two names
        message = f"{what}: {message}"
    elif isinstance(error, click.NoSuchOption):
        message = " ".join(error.format_message().split()).removesuffix(".").replace(". Did you", "; did you")
    if message[:1].isupper() and message[1:2].islower():
        message = message[0].lower() + message[1:]
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    if ctx is None or "; " in message:
        return message
    return f"{message}; see '{ctx.command_path} --help'"


def _os_error_message(error: OSError) -> str:
    what = error.strerror or str(error) or type(error).__name__
    return f"{error.filename!r}: {what.lower()}" if error.filename else f"system error: {what.lower()}"


def _after_os_error(error: OSError) -> int:
    """The exit code after a failed write. A closed pipe (``hv list | head -1``) is not reported."""
    closed = _output_is_closed()
    # Otherwise the interpreter tries to write the rest when it ends, and prints an error.
    with suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    if closed:
        return _OUTPUT_CLOSED
    complain(f"{STDOUT}: {(error.strerror or str(error)).lower()}")
    return 1


def _output_is_closed() -> bool:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            poll = select.poll()
            poll.register(stream.fileno(), select.POLLOUT)
            if any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0)):
                return True
    return False


def _raise_signalled(signum: int, _frame: FrameType | None) -> NoReturn:
    raise Signalled(signum)


def _once_more(lost: sys.UnraisableHookArgs) -> None:
    """Send the signal again if its exception was raised where Python drops exceptions: in a destructor or a callback."""
    if isinstance(lost.exc_value, Signalled | KeyboardInterrupt):
        import threading  # noqa: PLC0415 - after a signal only

        signum = lost.exc_value.signum if isinstance(lost.exc_value, Signalled) else signal.SIGINT
        sent = False
        while not sent:
            # On a busy node the signal comes before the call returns, and would be lost here too.
            with suppress(Signalled, KeyboardInterrupt):
                threading.Timer(_AGAIN_S, os.kill, (os.getpid(), signum)).start()
                sent = True
    else:
        sys.__unraisablehook__(lost)


_HANDLERS: Final = {
    signal.SIGTERM: _raise_signalled,
    signal.SIGHUP: _raise_signalled,
    signal.SIGINT: signal.default_int_handler,  # hv_command set it to SIG_DFL
}


@contextmanager
def _signals_as_exceptions() -> Iterator[None]:
    """Inside the block, signals raise `Signalled` or KeyboardInterrupt, unless they are ignored (nohup) or handled."""
    changed = []
    for signum, handler in _HANDLERS.items():
        with suppress(ValueError):  # not the main thread: the host application handles signals
            if signal.getsignal(signum) is signal.SIG_DFL:
                changed.append(signum)
                signal.signal(signum, handler)
    hook, sys.unraisablehook = sys.unraisablehook, _once_more
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for signum in changed:
            signal.signal(signum, signal.SIG_DFL)
