"""A server on a real Unix socket in the test's own loop, a clock that stands still, and raw clients."""

from __future__ import annotations

import asyncio
import json
import os
import struct
from contextlib import asynccontextmanager

from batch_infer.protocol import frames, rpc
from batch_infer.protocol.transport import unix
from batch_inferd.server import Identity, Server
from batch_inferd.server.accept import UnixAcceptor

SECRET = "5e" * 32
BOUND_S = 20.0


class StillClock:
    """Time moves only by `advance`."""

    def __init__(self):
        self.time = 1000.0
        self._sleepers = []

    def now(self):
        return self.time

    def monotonic(self):
        return self.time

    async def sleep(self, seconds):
        end = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.time + seconds, end))
        await end

    async def advance(self, seconds):
        """Move on, from one sleeper's end to the next, and let each of them run."""
        target = self.time + seconds
        while True:
            await settle()
            self._sleepers = [(at, end) for at, end in self._sleepers if not end.done()]
            due = min((at for at, _ in self._sleepers), default=None)
            if due is None or due > target:
                break
            self.time = max(self.time, due)
            for at, end in self._sleepers:
                if at <= self.time and not end.done():
                    end.set_result(None)
        self.time = target
        await settle()


async def until(condition):
    """Let everything run until `condition()` holds, within a bound."""
    deadline = asyncio.get_running_loop().time() + BOUND_S
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "waited in vain"
        await asyncio.sleep(0)


async def settle():
    """Let everything run that can run without time."""
    for _ in range(20):
        await asyncio.sleep(0)


class Door:
    """A running server and how to come in."""

    def __init__(self, server, listener, clock):
        self.server = server
        self.path = listener.path
        self.clock = clock
        self.clients = []

    async def connect(self):
        """A raw client that has said nothing."""
        client = Client(*await asyncio.open_unix_connection(self.path))
        self.clients.append(client)
        return client

    async def greeted(self, **params):
        """A client whose hello was accepted."""
        client = await self.connect()
        answer = await client.hello(**params)
        assert "result" in answer, answer
        return client


class Client:
    """Frames over a raw connection; every wait is bounded."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer
        self.calls = 0

    def send(self, data):
        self.writer.write(data)

    async def hello(self, secret=SECRET, protocol=(1, 1), **more):
        return await self.call(
            "hello", {"protocol": list(protocol), "secret": secret, "version": "0.0.9", **more}
        )

    async def call(self, method, params=None):
        call_id = self.ask(method, params)
        answer = await self.read()
        assert answer is None or answer["id"] == call_id
        return answer

    def ask(self, method, params=None):
        self.calls += 1
        self.send(frames.encode(rpc.request(self.calls, method, params)))
        return self.calls

    async def read(self):
        """The next message; None at the end."""
        try:
            header = await asyncio.wait_for(self.reader.readexactly(4), BOUND_S)
            body = await asyncio.wait_for(self.reader.readexactly(struct.unpack(">I", header)[0]), BOUND_S)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return json.loads(body)

    async def ended(self):
        """Whether the server hung up without a word."""
        try:
            return await asyncio.wait_for(self.reader.read(1), BOUND_S) == b""
        except ConnectionError:
            return True

    def close(self):
        self.writer.close()


@asynccontextmanager
async def serving(workspace, handlers=None, clock=None, *, gate=True, protocol=(1, 1)):
    """A server with `handlers`, closed at the end with all its clients."""
    clock = clock or StillClock()
    identity = Identity(SECRET, os.getpid(), "0.1.0", 12.5, protocol)
    server = Server(handlers or {}, identity, clock)
    if gate:
        server.open_gate()
    listener = unix.listen(workspace)
    acceptor = UnixAcceptor(listener, server)
    acceptor.start()
    door = Door(server, listener, clock)
    door.acceptor = acceptor
    try:
        yield door
    finally:
        listener.withdraw()
        await acceptor.stop()
        listener.close()
        server.close()
        for client in door.clients:
            client.writer.transport.abort()
        await settle()
