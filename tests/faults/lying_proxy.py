"""An HTTP proxy on the way to a service that answers some downloads itself: with 200, and wrongly."""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_HOPS = {"connection", "transfer-encoding", "keep-alive", "content-length", "date", "server"}


class LyingProxy(ThreadingHTTPServer):
    """`lie` makes another body of what a result file's is, for the first `times` downloads."""

    daemon_threads = True

    def __init__(self, target: int, lie: Callable[[bytes], bytes], times: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = target
        self._lie = lie
        self.left = times
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, daemon=True)
        self._thread.start()

    def changed(self, path: str, body: bytes) -> bytes:
        """What the client gets."""
        with self._lock:
            if not path.endswith("/content") or self.left <= 0:
                return body
            self.left -= 1
        return self._lie(body)

    def close(self) -> None:
        """End."""
        self.shutdown()
        self.server_close()
        self._thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    server: LyingProxy
    protocol_version = "HTTP/1.1"

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.target, timeout=30)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOPS}
            upstream.request(self.command, self.path, body or None, headers)
            reply = upstream.getresponse()
            answer = self.server.changed(self.path, reply.read())
        finally:
            upstream.close()
        self.send_response(reply.status)
        for name, value in reply.getheaders():
            if name.lower() not in _HOPS:
                self.send_header(name, value)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_DELETE = _forward  # noqa: N815  the names that http.server looks for

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
