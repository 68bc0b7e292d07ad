"""Displays: what the driver claims about them works, the rest is refused with `UnsupportedError`."""

from __future__ import annotations

from hvcore.errors import DriverError, HvError
from hvcore.plugins.protocols import HasVncPassword, TakesScreenshots
from hvcore.testing.check import Bench, Failed, Level, Tier, check, require
from hvcore.testing.claims import claims

__all__: tuple[str, ...] = ()


@check(Level.CAPABILITY, Tier.LIVE)
def capability_screenshot(bench: Bench) -> None:
    """Claimed: the picture is a PNG file, or an `HvError` says that there is no display. Otherwise: UnsupportedError.

    Why: An operator looks at the screen of a guest that does not boot. It needs a file that every viewer opens.
    """
    name = bench.name()
    if not claims(bench, TakesScreenshots, "screenshot", lambda: bench.node.screenshot(name)):
        return
    try:
        picture = bench.node.screenshot(name)
    except DriverError as error:
        raise Failed(f"screenshot is claimed, but raises {error}") from error
    except HvError:
        return
    require(picture.startswith(b"\x89PNG\r\n\x1a\n"), f"its picture is not a PNG file, it begins with {picture[:8]!r}")


@check(Level.CAPABILITY, Tier.LIVE)
def capability_vnc_password(bench: Bench) -> None:
    """Claimed: a password is set, or an `HvError` says why not, and it is in no file and no message. If not: UnsupportedError.

    Why: Records and logs are copied into reports of faults. A password in one of them is known to everyone.
    """
    name, password = bench.name(), "s3cr3t,="
    if not claims(bench, HasVncPassword, "vnc-password", lambda: bench.node.vnc_password(name, password)):
        return
    said = ""
    try:
        said = str(bench.node.vnc_password(name, password).to_json())
    except DriverError as error:
        raise Failed(f"vnc-password is claimed, but raises {error}") from error
    except HvError as error:
        said = f"{error} {getattr(error, '__notes__', '')}"
    require(password not in said, "the password is in its answer or its error")
    for path in bench.run_dir.rglob("*"):
        if path.is_file() and not path.is_symlink():
            require(password.encode() not in path.read_bytes(), f"the password is in {path}")
