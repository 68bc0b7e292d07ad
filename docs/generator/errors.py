"""The page of errors and exit codes."""

from __future__ import annotations

import inspect
import textwrap

import hvcore
import hvcore.errors
from generator.words import TEXT, WORDS, first_line, table

__all__ = ["errors_page"]


def errors_page() -> str:
    """The tree of errors, each with its exit code, and those of the plugins."""
    doc = inspect.cleandoc(hvcore.errors.__doc__ or "")
    tree = textwrap.dedent(doc.partition("::\n\n")[2].partition("\n\nEvery message")[0])
    known = [thing for name in hvcore.errors.__all__ if issubclass(thing := getattr(hvcore.errors, name), Exception)]
    parts = [
        "# Errors and exit codes",
        TEXT["errors"],
        f"```text\n{tree}\n```",
        "## Exit codes of hv",
        table(("code", "meaning"), ((code, words) for code, words in WORDS["exit_codes"].items())),
        "## Classes",
        table(("class", "is a", "exit code", "when"), map(_error_row, known)),
        TEXT["problem"],
        "## Classes of hv-kvm",
        TEXT["errors_kvm"],
        table(("class", "is a", "exit code", "when"), map(_error_row, _plugin_errors("hv_kvm"))),
    ]
    return "\n\n".join(parts)


def _error_row(error: type[hvcore.HvError]) -> tuple[str, str, str, str]:
    public = [base for base in error.__mro__[1:] if not base.__name__.startswith("_")]
    bases = [base for base in public if not any(issubclass(other, base) for other in public if other is not base)]
    return (
        f"`{error.__name__}`",
        ", ".join(f"`{base.__name__}`" for base in bases),
        str(error.exit_code),
        first_line(error),
    )


def _plugin_errors(package: str) -> list[type[hvcore.HvError]]:
    import hv_kvm.probe
    import hv_kvm.qmp

    modules = (hv_kvm.trial, hv_kvm.probe, hv_kvm.qmp.errors)
    found = [thing for module in modules for thing in vars(module).values() if inspect.isclass(thing)]
    own = [thing for thing in found if issubclass(thing, hvcore.HvError) and thing.__module__.startswith(package)]
    return sorted(set(own), key=lambda error: (error.__module__, error.__name__))
