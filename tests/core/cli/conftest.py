"""Fixtures of the command line's tests: a scratch node, and ``hv`` in this process or as a separate one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from distributions import installed

from hvcore.cli.app import hv as application

HV = (sys.executable, "-c", "from hvcore.cli import main; main()")

# Third-party drivers, as installed: `bare` can only start and stop, and its only parameter selects what happens.
# `failing` cannot be imported.
BARE = """
import sys, time
import hvcore.plugin as hv

@hv.hookimpl
def params():
    return hv.ParamGroup("bare", hv.Param("do", hv.one_of("plan", "wait", "ok", "linger"), default="ok", help="What."))

class Bare:
    name = "bare"
    plugins = (("bare", sys.modules[__name__]),)
    hookspecs = ()
    def __init__(self, hooks): pass
    def plan(self, instance, params):
        if params["do"] == "plan":
            raise ValueError("a bug of the driver")
        return hv.Disk(path=params["do"])
    def verify(self, spec, host): return ()
    def describe(self, spec, host): return hv.Plan(name="x", driver="bare", steps=())
    def start(self, spec, job):
        user = hv.Identity(key="uid")
        job.bind(uid=job.acquire(user, level=hv.Level.STRICT)[user].uid)
        job.update()
        if spec.path == "wait":
            print("waiting", flush=True)
            for _ in range(300):  # Python does not see a signal that comes just before a sleep until that is over
                time.sleep(0.1)
    def observe(self, live): return hv.Observation(state=hv.State.RUNNING, reason="a \\x1b[31mred\\x1b[0m guest")
    def stop(self, live, job, *, force):
        if "linger" in str(live.record.spec) and not force:
            print("waiting", flush=True)
            for _ in range(300):
                time.sleep(0.1)
        return "term"
"""
FAILING = "raise ImportError('lxml is not installed')\n"


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "run"
    monkeypatch.setenv("HVCORE_RUN_DIR", str(directory))
    monkeypatch.setenv("HVCORE_STATE_DIR", str(tmp_path / "state"))
    return directory


@pytest.fixture
def hv(run_dir: Path) -> Callable[..., Result]:
    """``hv`` with these arguments, in this process."""

    def run(*args: str, stdin: str | bytes | None = None) -> Result:
        return CliRunner().invoke(application, list(args), input=stdin)

    return run


@pytest.fixture
def hv_process(run_dir: Path) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """``hv`` with these arguments, as a separate process."""

    def run(*args: str | bytes, **options: Any) -> subprocess.CompletedProcess[bytes]:
        given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.run([*HV, *args], check=False, timeout=300, **given)

    return run


@pytest.fixture
def instance_file(tmp_path: Path) -> Callable[..., str]:
    """Writes an instance file and returns its path."""

    def write(name: str = "web1", *, driver: str = "fake", params: str = "") -> str:
        path = tmp_path / f"{name}.toml"
        path.write_text(f'name = "{name}"\ndriver = "{driver}"\n[params]\n{params}\n')
        return str(path)

    return write


@pytest.fixture
def other_drivers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two more drivers, ``bare`` and ``failing``, for processes that are started from now on."""
    site = tmp_path / "site"
    for name, target, text in (("bare", "bare_driver:Bare", BARE), ("failing", "failing_driver:F", FAILING)):
        installed(site, f"hv-{name}", f"[hvcore.drivers]\n{name} = {target}\n", requires=(), version="2.0")
        (site / f"{name}_driver.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep))
