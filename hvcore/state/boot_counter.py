"""The number of the node's current boot, as its migration journals count them. Boot ids of the kernel have no order."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from hvcore.errors import NodeError
from hvcore.host.durable_file import DamagedFileError, durable_dir, read_durable, write_durable
from hvcore.host.lock import held_lock
from hvcore.host.processes.process import boot_id

__all__ = ["BootCounter"]

_LOCK_S: Final = 5.0
_FIRST: Final = 1


class BootCounter:
    """The counter in one file: 1 for the boot in which it was made, and one more for each later boot that asked."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def number(self, *, new: bool = True) -> int:
        """The number of this boot, which is on disk when this returns.

        ``new``: whether a missing file may be made. Raises `NodeError` for a file that is damaged, missing or cannot be
        written: another node may hold a number of a later boot.
        """
        found = self._read()
        if found is not None and found[0] == boot_id():
            return found[1]
        try:
            durable_dir(self._path.parent)
            with held_lock(
                self._path.with_name(f".{self._path.name}.lock"),
                subject="boot counter",
                purpose="count the boot",
                wait_s=_LOCK_S,
            ):
                found = self._read()
                if found is not None and found[0] == boot_id():
                    return found[1]
                if found is None and not new:
                    what = f"boot counter: {self._path} is missing, but there are journals beside it"
                    raise NodeError(
                        f"{what}; restore the directory, or use 'hv migrate NAME --forget' for each of them"
                    )
                number = _FIRST if found is None else found[1] + 1
                write_durable(self._path, {"boot_id": boot_id(), "number": number})
        except OSError as error:
            what = f"boot counter: {self._path} cannot be written, got {error.strerror}"
            raise NodeError(f"{what}; free some space there, or check its owner") from error
        return number

    def _read(self) -> tuple[str, int] | None:
        todo = "find out where the instances run, then remove the file"
        try:
            data = read_durable(self._path)
        except OSError as error:
            raise NodeError(
                f"boot counter: {self._path} cannot be read, got {error.strerror}; check its owner"
            ) from error
        except DamagedFileError as error:
            raise NodeError(f"boot counter: {self._path} is damaged, {error}; {todo}") from error
        if data is None:
            return None
        if isinstance(data, dict) and isinstance(data.get("boot_id"), str) and type(data.get("number")) is int:
            return data["boot_id"], data["number"]
        raise NodeError(f"boot counter: {self._path} is not a boot counter, got {data!r:.60}; {todo}")
