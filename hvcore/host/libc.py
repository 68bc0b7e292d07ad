"""Functions of the C library and system calls that Python has no name for. A result below 0 is an OSError."""

from __future__ import annotations

import ctypes
import functools
import os

__all__ = ["libc_call", "system_call"]

_Argument = int | bytes | ctypes.Array[ctypes.c_uint32] | None


def libc_call(function: str, *arguments: _Argument, path: str | None = None) -> int:
    """The result of that function of the C library. A Python int is passed as a C long. Raises OSError, with ``path``."""
    return _checked(int(getattr(_libc(), function)(*map(_word, arguments))), path)


def system_call(number: int, *arguments: _Argument, path: str | None = None) -> int:
    """The result of that system call, which the C library may not have. Raises OSError."""
    return libc_call("syscall", number, *arguments, path=path)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _word(argument: _Argument) -> object:
    # Without a type, ctypes passes an int as 32 bits, and leaves the rest of the register as it was.
    return ctypes.c_long(argument) if isinstance(argument, int) else argument


def _checked(result: int, path: str | None) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result
