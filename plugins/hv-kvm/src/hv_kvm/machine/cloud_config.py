"""The files of a seed image for cloud-init, data source NoCloud. Pure.

They are JSON, which YAML includes: nothing has to be escaped but as JSON does it.
"""

from __future__ import annotations

import json
from typing import Any

from hvcore.plugin import dataclass

__all__ = ["SeedContents", "seed_files"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedContents:
    """What a seed says, without secrets: those are in the files that it names.

    ``instance_id`` stays as long as cloud-init is not to begin again. ``user_data_path`` replaces what the other fields say.
    """

    instance_id: str
    hostname: str
    user: str | None = None
    ssh_keys: tuple[str, ...] = ()
    password_path: str | None = None
    packages: tuple[str, ...] = ()
    run: tuple[str, ...] = ()
    user_data_path: str | None = None
    network_path: str | None = None


def seed_files(
    seed: SeedContents, *, password_hash: str | None, user_data: bytes | None, network: bytes | None
) -> dict[str, bytes]:
    """The files of the image by their names, with the contents of the files that the seed names."""
    files = {
        "meta-data": _json({"instance-id": seed.instance_id, "local-hostname": seed.hostname}),
        "user-data": user_data if user_data is not None else b"#cloud-config\n" + _json(_config(seed, password_hash)),
    }
    return files if network is None else {**files, "network-config": network}


def _config(seed: SeedContents, password_hash: str | None) -> dict[str, Any]:
    # The guest's own name is in its /etc/hosts, or sudo waits for a name server.
    config: dict[str, Any] = {"ssh_pwauth": password_hash is not None, "manage_etc_hosts": True}
    if seed.user is not None:
        config |= _user(seed.user, seed.ssh_keys, password_hash)
    else:  # the user that the image has for this
        config |= {"ssh_authorized_keys": list(seed.ssh_keys)} if seed.ssh_keys else {}
        config |= {"password": password_hash, "chpasswd": {"expire": False}} if password_hash else {}
    if seed.packages:
        config |= {"package_update": True, "packages": list(seed.packages)}
    if seed.run:
        config["runcmd"] = list(seed.run)
    return config


def _user(name: str, ssh_keys: tuple[str, ...], password_hash: str | None) -> dict[str, Any]:
    user: dict[str, Any] = {"name": name, "lock_passwd": password_hash is None}
    if ssh_keys:
        user["ssh_authorized_keys"] = list(ssh_keys)
    if password_hash is not None:
        user["hashed_passwd"] = password_hash  # also for a user that the image has already
    if name == "root":
        return {"users": [user], "disable_root": False}
    return {"users": [{**user, "shell": "/bin/bash", "sudo": "ALL=(ALL) NOPASSWD:ALL"}]}


def _json(data: dict[str, Any]) -> bytes:
    return json.dumps(data, ensure_ascii=False, indent=1).encode() + b"\n"
