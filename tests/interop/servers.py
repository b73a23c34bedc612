"""Servers that are not ours, started for one test."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from harness import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

VENV = Path(sys.executable).parent.parent
AIMOCK = VENV / "node/node_modules/@copilotkit/aimock"
_OWN_NODE = VENV / "node/node_modules/node/bin/node"  # where the system's is too old


class Server:
    """A running server, and a client that asks it what it has seen."""

    def __init__(self, url: str, client: httpx.Client) -> None:
        self.url = url
        self._client = client

    def get(self, path: str, **params: Any) -> Any:
        return self._client.get(path, params=params).raise_for_status().json()

    def post(self, path: str, body: Any) -> Any:
        return self._client.post(path, json=body).raise_for_status().json()


@contextmanager
def running(command: list[str], folder: Path, health: str) -> Iterator[Server]:
    """Start `command --port N` in a folder, and wait until `health` is answered."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    log = folder / "server.log"
    with log.open("wb") as out, httpx.Client(base_url=url, trust_env=False, timeout=10) as client:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            stdout=out, stderr=subprocess.STDOUT, cwd=folder, env=os.environ | {"NO_COLOR": "1"},
        )  # fmt: skip

        def up() -> bool:
            try:
                return client.get(health).is_success
            except httpx.TransportError:
                assert process.poll() is None, log.read_text()
                return False

        try:
            wait_for(up, command[0])
            yield Server(url, client)
        finally:
            process.kill()
            process.wait(10)


def node() -> str:
    """A Node that aimock runs on."""
    return str(_OWN_NODE) if _OWN_NODE.exists() else (shutil.which("node") or "node")
