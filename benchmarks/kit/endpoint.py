"""The static endpoint: nginx, which answers every POST with the same chat completion.

One worker, connections kept for ever, nothing logged, nothing written. Where nginx is not installed, a small
server of our own stands in; its speed is no ceiling, and `kind` says which of the two it was.
"""

from __future__ import annotations

import contextlib
import resource
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kit.places import BENCHMARKS
from kit.records import KB, MB, answer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZES = (512, KB, 5 * MB)  # bytes of an answer
_INLINE = 2 * KB  # nginx takes no longer words in its config
_START_S = 10.0
_OPEN_FILES = 16_384

_CONFIG = """
worker_processes 1;
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log error;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 3600s;
  client_header_timeout 600s;
  client_body_timeout 600s;
  client_max_body_size 0;
  client_body_buffer_size 8m;
  proxy_max_temp_file_size 0;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  tcp_nodelay on;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    default_type application/json;
    root {folder};
{locations}
  }}
}}
"""
_INLINE_LOCATION = "    location = /{size}/v1/chat/completions {{ return 200 '{text}'; }}"
# A file is not served to a POST, so it is the page of that error, with another status.
_FILE_LOCATION = """    location = /{size}/v1/chat/completions {{
      rewrite ^ /{size}.json break;
      error_page 405 =200 /{size}.json;
    }}"""
# nginx answers the ones above before it has read the body. Here it reads all of it first, as a service does.
_READ_LOCATION = """    location = /read/{size}/v1/chat/completions {{
      proxy_pass http://127.0.0.1:{port}/{size}/v1/chat/completions;
      proxy_method GET; proxy_pass_request_body off; proxy_set_header Content-Length "";
      proxy_http_version 1.1; proxy_set_header Connection "";
    }}"""


@dataclass(frozen=True)
class Endpoint:
    """A running endpoint on the loopback. `kind` names the server and its version."""

    port: int
    pid: int
    kind: str

    def base_url(self, answer_bytes: int = 512, *, read: bool = False) -> str:
        """The base URL for answers of one of SIZES; `read`: answered when the whole request has come."""
        if answer_bytes not in SIZES:
            raise ValueError(f"{answer_bytes} is none of {SIZES}")
        return f"http://127.0.0.1:{self.port}{'/read' if read else ''}/{answer_bytes}/v1"


def more_open_files() -> None:
    """Lets this process and what it starts have 1,024 connections and more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Endpoint]:
    """The endpoint, with its config and answers in `folder`, as long as the context lasts."""
    more_open_files()
    folder.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if nginx is None:
        argv = [sys.executable, str(BENCHMARKS / "kit" / "standin.py"), str(port)]
        kind = "aiohttp (stands in for nginx, which is not installed)"
    else:
        config = folder / "nginx.conf"
        config.write_text(_config(folder, port))
        argv = [nginx, "-p", str(folder), "-c", str(config), "-e", str(folder / "error.log")]
        kind = subprocess.run([nginx, "-v"], check=True, capture_output=True, text=True).stderr
        kind = kind.strip().rpartition(" ")[2].replace("/", " ")
    with (folder / "endpoint.log").open("w") as log:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        _wait(process, port, folder)
        yield Endpoint(port, process.pid, kind)
    finally:
        process.terminate()
        process.wait()


def _config(folder: Path, port: int) -> str:
    locations = []
    for size in SIZES:
        text = answer(size)
        if size > _INLINE:
            (folder / f"{size}.json").write_bytes(text)
            locations.append(_FILE_LOCATION.format(size=size))
        else:
            locations.append(_INLINE_LOCATION.format(size=size, text=text.decode()))
        locations.append(_READ_LOCATION.format(size=size, port=port))
    return _CONFIG.format(folder=folder, port=port, locations="\n".join(locations))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    said = (folder / "endpoint.log").read_text()
    raise RuntimeError(f"the endpoint did not start: {said.strip() or 'it said nothing'}")
