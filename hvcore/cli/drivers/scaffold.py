"""``hv new-driver`` and ``hv new-extension``: a new package from a template, without a network."""

from __future__ import annotations

import os
from pathlib import Path

import click

import hvcore
from hvcore.cli.options import command, json_option
from hvcore.cli.output import show

__all__ = ["new_driver", "new_extension"]

_directory = click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))


@command("hv new-driver hv-mine && cd hv-mine && pip install -e '.[test]' && pytest", name="new-driver")
@_directory
@click.option("--name", metavar="NAME", help="Name of the driver. Default: DIR without 'hv-'.")
@json_option
def new_driver(directory: Path, *, name: str | None, as_json: bool) -> None:
    """Create a package with a new driver.

    The driver works at once: it runs one confined process for each instance. The package has types, tests that run the
    conformance checks, a README and a file for continuous integration. DIR must be new or empty.
    """
    _show_files(directory, hvcore.new_driver(directory, name=name), as_json=as_json)


@command(
    "hv new-extension hv-retire --for kvm && cd hv-retire && pip install -e '.[test]' && pytest",
    name="new-extension",
)
@_directory
@click.option("--for", "driver", metavar="DRIVER", required=True, help="Driver to extend.")
@click.option("--name", metavar="NAME", help="Name of the extension. Default: DIR without 'hv-'.")
@json_option
def new_extension(directory: Path, *, driver: str, name: str | None, as_json: bool) -> None:
    """Create a package with a new extension of a driver.

    The extension works at once: it adds a parameter, a rule and a lifecycle hook. DIR must be new or empty.
    """
    _show_files(directory, hvcore.new_extension(directory, driver=driver, name=name), as_json=as_json)


def _show_files(directory: Path, written: tuple[Path, ...], *, as_json: bool) -> None:
    names = [os.path.relpath(path, directory) for path in written]
    lines = [f"{directory}:", *(f"  {name}" for name in names)]
    lines += ["", f"next: cd {directory} && pip install -e '.[test]' && pytest"]
    show({"directory": str(directory), "files": names}, "\n".join(lines), as_json=as_json)
