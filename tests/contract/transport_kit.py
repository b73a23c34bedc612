"""Servers that misbehave as they are told, and what the tests of the transports share."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import socket
import sys
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

from batch_inferd.backends.http1_transport import Http1Transport
from batch_inferd.backends.plan import Timeouts
from batch_inferd.backends.transport import HttpReply, NotSent, SentFailed, Target

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from batch_inferd.backends.transport import HttpTransport

ROOT = Path(__file__).parents[2]
PATIENT = Timeouts(connect=5.0, read=20.0, total=30.0)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
Answer = "Callable[[Any, asyncio.StreamWriter], Awaitable[None]]"


def _load_aiohttp() -> Any:
    """The client that the comparison keeps: its file is no part of the package."""
    path = ROOT / "benchmarks" / "clients" / "aiohttp_transport.py"
    spec = importlib.util.spec_from_file_location("aiohttp_transport", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.AiohttpTransport


CLIENTS: dict[str, Callable[[], HttpTransport]] = {
    "http1": Http1Transport,
    "aiohttp": _load_aiohttp(),
}
ours = pytest.mark.parametrize("client", ["http1"])  # of the client in the product, not of its rival


@pytest.fixture(params=list(CLIENTS))
def client(request: pytest.FixtureRequest) -> str:
    """The name of each client."""
    return str(request.param)


@pytest.fixture
async def transport(client: str) -> AsyncIterator[HttpTransport]:
    made = CLIENTS[client]()
    yield made
    await made.close()


def target(url: str, **changes: Any) -> Target:
    options = {"timeouts": PATIENT, "proxy": None, "max_bytes": 1 << 20} | changes
    headers = options.pop("headers", {"Authorization": "Bearer x", "X-Own": "1"})
    return Target(url, headers, **options)


async def post(transport: HttpTransport, url: str, body: bytes = b'{"a":1}', **changes: Any) -> HttpReply:
    return await transport.post(target(url, **changes), body)


async def not_sent(call: Awaitable[HttpReply]) -> NotSent:
    with pytest.raises(NotSent) as caught:
        await call
    return caught.value


async def failed(call: Awaitable[HttpReply]) -> SentFailed:
    with pytest.raises(SentFailed) as caught:
        await call
    return caught.value


class RawServer:
    """Accepts, reads one request after another, and does with the connection what `answer` says.

    `requests` are the heads that came whole with their bodies, `bodies` these bodies; `open` are the
    connections open now, `most` the highest number of them at once.
    """

    def __init__(self, answer: Any, context: ssl.SSLContext | None = None) -> None:
        self.answer = answer
        self.context = context
        self.requests: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = self.open = self.most = 0
        self._changed = asyncio.Event()
        self._serving: set[asyncio.Task[None]] = set()
        self._writers: weakref.WeakSet[asyncio.StreamWriter] = weakref.WeakSet()

    async def __aenter__(self) -> Self:
        self.server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self.context, backlog=1024)
        self.port = self.server.sockets[0].getsockname()[1]
        scheme = "http" if self.context is None else "https"
        self.url = (
            f"{scheme}://localhost:{self.port}/v1" if self.context else f"http://127.0.0.1:{self.port}/v1"
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        # Waited for from before the close: after it Python 3.11 does not wait for connections any more.
        closed = asyncio.create_task(self.server.wait_closed())
        await asyncio.sleep(0)
        self.server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        async with asyncio.timeout(10):
            await closed

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            while not writer.is_closing():
                head, body = await read_request(reader)
                self.requests.append(head)
                self.bodies.append(body)
                self._changed.set()
                await self.answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            self.open -= 1
            self._changed.set()

    async def until(self, true: Callable[[], bool], seconds: float = 10.0) -> None:
        """Wait until something here has become true, looked at whenever anything happens."""
        async with asyncio.timeout(seconds):
            while not true():
                self._changed.clear()
                await self._changed.wait()


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Raises IncompleteReadError when the connection ends."""
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return head, await reader.readexactly(int(line.split(b":")[1]))
    return head, b""


def saying(data: bytes, *, close: bool = False) -> Any:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        if close:
            writer.close()

    return answer


def hanging(data: bytes = b"") -> Any:
    """Says so much, and no more until the other side hangs up."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await reader.read()
        writer.close()

    return answer


async def drop(_: Any, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


def response(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    head = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}"]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def full_port() -> Iterator[int]:
    """A port whose queue of connections is full: it answers nothing more."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(listener.getsockname())
        yield listener.getsockname()[1]


def open_files() -> int:
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("this system does not list a process's descriptors")
    return len(os.listdir(folder))


async def until(true: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Look again and again, for what nothing tells of; whether it became true."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not true():
        if loop.time() > end:
            return False
        await asyncio.sleep(0.02)
    return True
