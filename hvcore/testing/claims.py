"""What checks of abilities share: an ability that is not claimed is refused, one that is claimed raises nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hvcore.errors import UnsupportedError
from hvcore.testing.check import Bench, Failed, require

__all__ = ["claimed", "claims", "refused"]


def refused(bench: Bench, operation: str, act: Callable[[], object]) -> None:
    """Require that the operation, which the driver does not claim, is refused with `UnsupportedError`."""
    try:
        act()
    except UnsupportedError as error:
        require(error.exit_code == 3, f"{operation} is refused with exit code {error.exit_code}, not 3")
    except Exception as error:
        raise Failed(f"{operation} is not claimed, but raises {type(error).__name__}: {error}") from error
    else:
        raise Failed(f"{operation} is not claimed by driver {bench.subject.driver}, but does something")


def claims(bench: Bench, ability: type, operation: str, act: Callable[[], object]) -> bool:
    """Start the instance; whether the driver claims the ability. If it does not, the operation has to be refused."""
    bench.start()
    if isinstance(bench.loaded.driver, ability):
        return True
    refused(bench, operation, act)
    return False


@contextmanager
def claimed(operation: str) -> Iterator[None]:
    """An error in the block is a failure of the claimed operation."""
    try:
        yield
    except Exception as error:
        raise Failed(f"{operation} is claimed, but raises {type(error).__name__}: {error}") from error
