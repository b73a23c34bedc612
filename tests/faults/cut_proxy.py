"""A TCP proxy that can be cut: connections break, and new ones are refused until it is mended."""

from __future__ import annotations

import selectors
import socket
import struct
import threading
from contextlib import suppress
from typing import NamedTuple

_BLOCK = 4096


class Cut(NamedTuple):
    """When to cut: after a connection has sent `marker`, and so many further bytes went one way."""

    marker: bytes
    bytes_up: int | None = None
    bytes_down: int | None = None


class CutProxy:
    """Between a client and 127.0.0.1:`target`. One thread serves all; `cut_on` arms it once."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._cut: Cut | None = None
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.is_down = False
        self._pairs: list[_Pair] = []
        self._ended = False
        self._wake, self._told = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def cut_on(self, cut: Cut) -> None:
        """Cut everything when a connection does that."""
        with self._lock:
            self._cut = cut
            for pair in self._pairs:
                pair.seen = None

    def cut(self) -> None:
        """Cut everything now."""
        with self._lock:
            self._go_down()
        self._wake.send(b".")

    def mend(self) -> None:
        """Take connections again, on the same port."""
        with self._lock:
            self._cut = None
            self._server = socket.create_server(("127.0.0.1", self.port))
            self.is_down = False
        self._wake.send(b".")

    def close(self) -> None:
        """End."""
        self._ended = True
        self.cut()
        self._thread.join(10)
        self._wake.close()
        self._told.close()

    def _go_down(self) -> None:
        if not self.is_down:
            self._server.close()
            self.is_down = True
        for pair in self._pairs:
            pair.break_off()
        self._pairs.clear()

    def _serve(self) -> None:
        while not self._ended:
            with selectors.DefaultSelector() as selector:
                with self._lock:
                    selector.register(self._told, selectors.EVENT_READ)
                    if not self.is_down:
                        selector.register(self._server, selectors.EVENT_READ)
                    for pair in self._pairs:
                        for one in pair.open:
                            selector.register(one, selectors.EVENT_READ, pair)
                ready = selector.select(1.0)
            with self._lock:
                for key, _ in ready:
                    if key.fileobj is self._told:
                        self._told.recv(_BLOCK)
                    elif key.data is None:
                        self._accept()
                    elif key.data in self._pairs:
                        self._move(key.data, key.fileobj)

    def _accept(self) -> None:
        if self.is_down:
            return
        with suppress(OSError):
            client = self._server.accept()[0]
            try:
                self._pairs.append(_Pair(client, socket.create_connection(("127.0.0.1", self._target), 5)))
            except OSError:
                client.close()

    def _move(self, pair: _Pair, source: socket.socket) -> None:
        try:
            data = source.recv(_BLOCK)
        except OSError:
            data = b""
        upward = source is pair.client
        allowed, is_cut = pair.count(data, self._cut, upward=upward)
        try:
            (pair.server if upward else pair.client).sendall(data[:allowed])
            if not data:
                pair.half_close(source)
        except OSError:
            pair.break_off()
        if is_cut:
            self._go_down()
        elif not pair.open:
            pair.break_off()
            self._pairs.remove(pair)


class _Pair:
    """Two sockets, and how far this connection is towards the cut."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.open = [client, server]
        self.seen: list[int] | None = None  # bytes up and down since the marker
        self._tail = b""

    def count(self, data: bytes, cut: Cut | None, *, upward: bool) -> tuple[int, bool]:
        """How many bytes of these may pass, and whether the cut comes then."""
        if cut is None:
            return len(data), False
        if self.seen is None:
            if not upward or cut.marker not in (self._tail + data):
                self._tail = (self._tail + data)[-len(cut.marker) :] if upward else self._tail
                return len(data), False
            self.seen = [0, 0]
        limit = cut.bytes_up if upward else cut.bytes_down
        before = self.seen[not upward]
        self.seen[not upward] += len(data)
        if limit is not None and before + len(data) >= limit:
            return max(0, limit - before), True
        return len(data), False

    def half_close(self, source: socket.socket) -> None:
        """One side has said all."""
        self.open.remove(source)
        (self.server if source is self.client else self.client).shutdown(socket.SHUT_WR)

    def break_off(self) -> None:
        """Reset both."""
        self.open = []
        for one in (self.client, self.server):
            with suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.close()
