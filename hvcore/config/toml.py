"""TOML as it is read everywhere here: at most 1 MiB of UTF-8. Pure."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["MAX_TOML_BYTES", "parse_toml"]

MAX_TOML_BYTES: Final = 1024 * 1024


def parse_toml(data: bytes) -> dict[str, Any]:
    """The document. Raises ValueError, whose text goes on after the name of the file: ``is not TOML (...)``."""
    import tomllib  # noqa: PLC0415 - 3.2 ms, for those who read a file

    if len(data) > MAX_TOML_BYTES:
        raise ValueError("is larger than 1 MiB")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 at byte {error.start}") from error
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    except ValueError as error:  # TOMLDecodeError is one; an integer of more than 4300 digits is another
        raise ValueError(f"is not TOML ({error})") from error
