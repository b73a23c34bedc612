"""A web site with images, and with what goes wrong on the way to one."""

from __future__ import annotations

import contextlib
import gzip
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

from image_kit import picture

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = picture()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert self.headers["accept-encoding"] == "identity"
        answer = getattr(self, f"answer_{self.path.partition('?')[0].strip('/')}", None)
        if answer is None:
            self.send_error(int(self.path.strip("/").partition("?")[0]))
        else:
            answer()

    def answer_good(self) -> None:
        self._send(DATA)

    def answer_moved(self) -> None:
        self._send(b"", 302, Location="/good")

    def answer_circle(self) -> None:
        self._send(b"", 302, Location="/circle")

    def answer_large(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100001")
        self.end_headers()

    def answer_endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        for _ in range(20):
            try:
                self.wfile.write(bytes(10_000))
            except OSError:
                return

    def answer_cut(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(DATA)))
        self.end_headers()
        self.wfile.write(DATA[:100])
        self.close_connection = True

    def answer_packed(self) -> None:
        self._send(gzip.compress(DATA), 200, **{"Content-Encoding": "gzip"})

    def answer_page(self) -> None:
        self._send(b"<html>sorry")

    def _send(self, data: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def serving(handler: type[BaseHTTPRequestHandler] = Handler) -> Iterator[str]:
    """The site's address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
