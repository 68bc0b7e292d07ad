"""A real daemon in a real root, reached over a network; and many instances at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from images import Build, Leftovers

import hvcore

pytestmark = pytest.mark.live


CACHE = Path(__file__).resolve().parents[4] / ".cache"
# One that the kernel gives to nobody who asks for any port, and of this process if two such tests run on this node.
PORT = 20_000 + os.getpid() % 10_000
HTTPD = f"""\
    #!/bin/sh
    case $1 in
      start) busybox httpd -p 127.0.0.1:{PORT} -h /www && echo served ;;
      stop) trap "" TERM; kill -15 -1 ;;
    esac
"""
NGINX = f"""\
#!/bin/sh
case $1 in
  start)
    echo 'error_log /tmp/log; pid /tmp/pid; events {{}} http {{ access_log off; client_body_temp_path /tmp/b;
      server {{ listen 127.0.0.1:{PORT}; root /www; }} }}' > /tmp/nginx.conf
    nginx -e /tmp/log -c /tmp/nginx.conf ;;
  stop) nginx -e /tmp/log -c /tmp/nginx.conf -s quit ;;
esac
"""


def page() -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/page", timeout=300) as answer:
        return str(answer.read().decode())


def test_web_server_of_busybox_is_reached_and_stopped(
    node: hvcore.Node, images: Any, web1: Build, tmp_path: Path, leftovers: Leftovers
) -> None:
    (tmp_path / "www").mkdir()
    (tmp_path / "www/page").write_text("from the node\n")
    node.driver("chroot").start(web1(images(HTTPD), binds=[f"{tmp_path / 'www'}:/www"], overlay="memory"))
    assert node.info("web1").details["processes"] == 1  # each answer has its own, which ends a moment after it
    assert page() == "from the node\n"
    assert node.stop("web1").stopped_by == "script"
    with pytest.raises(OSError, match="refused"):
        page()
    assert leftovers() == []


@pytest.fixture(scope="session")
def debian() -> Path:
    """A minimal Debian with nginx, built once and kept."""
    root = CACHE / "roots/bookworm-nginx"
    if not (root / "usr/sbin/nginx").exists():
        shutil.rmtree(root, ignore_errors=True)
        root.parent.mkdir(parents=True, exist_ok=True)
        command = ["mmdebstrap", "--variant=minbase", "--include=nginx-light", "bookworm", str(root)]
        subprocess.run(command, check=True, capture_output=True)
    return root


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="needs mmdebstrap")
def test_nginx_of_debian_with_a_root_without_rights_outside(
    node: hvcore.Node, web1: Build, tmp_path: Path, leftovers: Leftovers, debian: Path
) -> None:
    (tmp_path / "www").mkdir()
    (tmp_path / "www/page").write_text("served by nginx\n")
    (tmp_path / "rc").write_text(NGINX)
    (tmp_path / "rc").chmod(0o755)
    params: dict[str, Any] = {
        "overlay": "memory",
        "user_namespace": "on",
        "init_script": "/rc",
        "binds": [f"{tmp_path / 'www'}:/www", f"{tmp_path / 'rc'}:/rc"],
    }
    node.driver("chroot").start(web1(debian, **params))
    assert page() == "served by nginx\n"
    pid = node.info("web1").pid
    assert os.stat(f"/proc/{pid}").st_uid >= 1_900_019_712
    assert node.stop("web1").stopped_by == "script"
    assert leftovers() == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_hundred_at_once_leave_nothing(node: hvcore.Node, images: Any, web1: Build, leftovers: Leftovers) -> None:
    image = images()
    names = [f"web{number}" for number in range(200)]
    driver = node.driver("chroot")
    instances = [web1(image, name=name, overlay="memory", overlay_size=1, network="none") for name in names]
    with ThreadPoolExecutor(16) as pool:
        assert all(outcome.changed for outcome in pool.map(lambda one: driver.start(one, deadline_s=120), instances))
        assert len(node.instances()) == 200
        assert all(pool.map(lambda name: node.stop(name, force=name.endswith("7")).changed, names))
    assert leftovers() == []
