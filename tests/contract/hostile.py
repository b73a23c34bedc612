"""A server that does to a client what networks and services do: it reads a request, then follows a script."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    Action = Callable[["Request", asyncio.StreamWriter], Awaitable[None]]


class Request(NamedTuple):
    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    reader: asyncio.StreamReader

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query))

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Hostile:
    """Follows `script`, an action a request; the last one stays."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.script: list[Action] = []
        self.keep_bodies = True
        self.read_first = True  # a whole request, before anything is done to it
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.base_url = f"http://127.0.0.1:{self.port}/v1"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        await self._server.wait_closed()
        _, left = await asyncio.wait(self._serving, timeout=5.0) if self._serving else (None, ())
        assert not left, "a client did not hang up"

    def will(self, *actions: Action) -> None:
        self.script = list(actions)
        self.requests.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        try:
            request = await self._read(reader) if self.read_first else Request("", "", {}, b"", reader)
            self.requests.append(request)
            action = self.script.pop(0) if len(self.script) > 1 else self.script[0]
            await action(request, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # it did not wait for the end
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _read(self, reader: asyncio.StreamReader) -> Request:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        method, target, _ = first.split(" ")
        headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        left = int(headers.get("content-length", "0"))
        body = b""
        while left:
            piece = await reader.readexactly(min(left, 1 << 20))
            left -= len(piece)
            if self.keep_bodies:
                body += piece
        return Request(method, target, headers, body, reader)


def reply(
    status: int = 200, body: Any = b"", *, headers: dict[str, str] | None = None, framed: bool = True
) -> Action:
    """An answer; `body` is raw, or anything that JSON has. Without frame it ends with the connection."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"Connection": "close", **(headers or {})}
    if framed:
        fields["Content-Length"] = str(len(data))

    async def action(request: Request, writer: asyncio.StreamWriter) -> None:
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        writer.write(f"HTTP/1.1 {status} Said\r\n{head}\r\n".encode())
        writer.write(data)
        await writer.drain()

    return action


def raw(data: bytes) -> Action:
    async def action(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return action


def cut(body: bytes, *, of: int) -> Action:
    """Half an answer, then the end of the connection."""
    return raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (of, body))


async def reset(request: Request, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def hang_up(request: Request, writer: asyncio.StreamWriter) -> None:
    return


async def never(request: Request, writer: asyncio.StreamWriter) -> None:
    """No answer until the client has gone."""
    while await request.reader.read(1 << 20):
        pass


def slowly(pieces: list[bytes], gate: asyncio.Event) -> Action:
    """A first piece at once, the rest when the gate opens."""

    async def action(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % sum(map(len, pieces)))
        writer.write(pieces[0])
        await writer.drain()
        await gate.wait()
        for piece in pieces[1:]:
            writer.write(piece)
        await writer.drain()

    return action
