"""A small daemon for the CLI's tests: real frames on a real Unix socket, answers by a table."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from typing import TYPE_CHECKING, Any, Self

from batch_infer.protocol import beacon, frames, rpc
from batch_infer.protocol.errors import BatchInferError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECRET = "s" * 32


class StubDaemon:
    """Serves one workspace until closed. `handlers` maps a method to `f(params) -> result`.

    After `subscribe`, `on_subscribe(push)` runs in the connection's thread; `push(params)` sends progress.
    """

    def __init__(
        self, root: Path, folder: Path, handlers: dict[str, Callable[[dict[str, Any]], Any]]
    ) -> None:
        self.root = root
        self.handlers = handlers
        self.on_subscribe: Callable[[Callable[[dict[str, Any]], None]], None] = lambda _: None
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.connections: list[socket.socket] = []
        path = str(folder / "d.sock")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        os.chmod(path, 0o600)
        self._listener.listen()
        found = beacon.of_this_process(f"unix:{path}", SECRET, (rpc.PROTOCOL_MIN, rpc.PROTOCOL_MAX), "0")
        beacon.write(root / ".daemon.json", found)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        """Hang up on everybody."""
        for sock in (self._listener, *self.connections):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.connections.append(sock)
                thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, sock: socket.socket) -> None:
        def send(message: dict[str, Any]) -> None:
            sock.sendall(frames.encode(message))

        with contextlib.suppress(OSError):
            while (message := frames.read_blocking(sock.recv)) is not None:
                method, params = message["method"], message["params"]
                self.asked.append((method, params))
                if method == rpc.HELLO:
                    hello = {"protocol": 1, "version": "0", "pid": 2**30, "started": 0.0}
                    send(rpc.result(message["id"], hello))
                    continue
                try:
                    send(rpc.result(message["id"], self.handlers[method](params)))
                except BatchInferError as error:
                    send(rpc.failure(message["id"], error.to_wire()))
                if method == rpc.SUBSCRIBE:
                    self.on_subscribe(lambda params: send(rpc.notification(rpc.PROGRESS, params)))
