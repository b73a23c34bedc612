"""Connections: kept, given up, closed under us, and never more of them than calls."""

from __future__ import annotations

import asyncio
import collections
import gc
import sys
import threading

import pytest
from transport_kit import (
    CLIENTS,
    OK,
    RawServer,
    client,
    drop,
    failed,
    hanging,
    not_sent,
    open_files,
    ours,
    post,
    response,
    saying,
    target,
    transport,
    until,
)

from batch_inferd.backends.plan import Timeouts
from batch_inferd.backends.transport import SentFailed

__all__ = ["client", "transport"]


async def test_a_drop_on_a_kept_connection_counts_as_sent_and_is_not_repeated(transport):
    answers = iter([saying(OK), saying(b"", close=True)])

    async def answer(reader, writer):
        await next(answers)(reader, writer)

    async with RawServer(answer) as server:
        where = target(server.url)
        assert (await transport.post(where, b"{}")).status == 200
        assert (await failed(transport.post(where, b"{}"))).reason == "reset"
        assert (len(server.requests), server.connections) == (2, 1)


async def test_a_connection_closed_while_idle_costs_nothing(transport):
    async with RawServer(saying(OK, close=True)) as server:
        where = target(server.url)
        for _ in range(10):
            assert (await transport.post(where, b"{}")).status == 200
            await server.until(lambda: server.open == 0)
            await asyncio.sleep(0.01)  # the loop of the client sees the end of the connection, too
        assert len(server.requests) == 10


# Of ten thousand calls: those on connections that were closed just then, and that the client took again.
_RETAKEN = {"http1": 1000, "aiohttp": 3000}


@pytest.mark.parametrize("abort", [False, True], ids=["closed", "reset"])
async def test_servers_that_hang_up_at_the_moment_of_reuse(transport, abort):
    """No request arrives twice, and those that did not arrive, or whose answer did not, are told of."""
    asyncio.get_running_loop().set_debug(enabled=False)

    async def answer(_, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        if len(server.requests) % 3 == 0:
            writer.transport.abort() if abort else writer.close()

    async with RawServer(answer) as server:
        where = target(server.url)
        ended: dict[bytes, str] = {}

        async def caller(name: int) -> None:
            for number in range(40):
                body = b"%d-%d" % (name, number)
                try:
                    ended[body] = str((await transport.post(where, body)).status)
                except SentFailed as error:
                    ended[body] = error.reason

        await asyncio.gather(*(caller(name) for name in range(10)))
        seen = collections.Counter(server.bodies)
        assert max(seen.values()) == 1
        assert set(ended.values()) <= {"200", "reset", "truncated"}
        assert {body for body, end in ended.items() if end == "200"} <= set(seen)
        assert len(ended) == 400
        assert len(seen) >= 100


async def test_an_idle_connection_is_given_up_before_servers_do(transport):
    async with RawServer(saying(OK)) as server:
        where = target(server.url)
        await transport.post(where, b"{}")
        await asyncio.sleep(4.3)  # common servers hang up after five seconds
        await transport.post(where, b"{}")
        assert server.connections == 2


async def test_no_more_connections_than_calls(transport):
    asyncio.get_running_loop().set_debug(enabled=False)
    together = asyncio.Barrier(256)

    async def answer(_, writer: asyncio.StreamWriter) -> None:
        if len(server.requests) <= 256:
            await together.wait()  # all are under way at once
        writer.write(OK)

    async with RawServer(answer) as server:
        where = target(server.url, timeouts=Timeouts(60.0, 60.0, 60.0))

        async def caller() -> None:
            for _ in range(8):
                assert (await transport.post(where, b"{}")).status == 200

        await asyncio.gather(*(caller() for _ in range(256)))
        assert len(server.requests) == 256 * 8
        assert server.most == 256


async def test_a_cancelled_call_hangs_up(transport):
    async with RawServer(hanging()) as server:
        call = asyncio.create_task(post(transport, server.url))
        await server.until(lambda: len(server.requests) == 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await server.until(lambda: server.open == 0)


async def test_a_call_cancelled_in_its_answer_hangs_up(transport):
    async with RawServer(
        hanging(b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + b"x" * 200_000)
    ) as server:
        call = asyncio.create_task(post(transport, server.url))
        await server.until(lambda: len(server.requests) == 1)
        await asyncio.sleep(0.1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await server.until(lambda: server.open == 0)


async def test_a_call_cancelled_while_it_connects_is_never_sent(transport):
    async with RawServer(saying(OK)) as server:
        where = target(f"http://localhost:{server.port}/v1")
        calls = [asyncio.create_task(transport.post(where, b"%d" % i)) for i in range(50)]
        await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert await until(lambda: server.open == 0)


async def test_a_cancel_in_the_moment_of_the_answer_is_not_lost(transport):
    asyncio.get_running_loop().set_debug(enabled=False)
    async with RawServer(saying(OK)) as server:
        where = target(server.url)

        async def caller() -> None:
            while True:
                await transport.post(where, b"{}")

        for _ in range(15):
            before = len(server.requests)
            calls = [asyncio.create_task(caller()) for _ in range(16)]
            await server.until(lambda before=before: len(server.requests) >= before + 60)
            for call in calls:
                call.cancel()
            _, going_on = await asyncio.wait(calls, timeout=15)
            assert going_on == set()
            assert all(call.cancelled() for call in calls)


async def test_the_other_calls_go_on_when_one_is_cancelled(transport):
    free = asyncio.Event()

    async def answer(reader, writer) -> None:
        if server.bodies[-1] == b"cancelled":
            await hanging()(reader, writer)
        else:
            await free.wait()
            writer.write(OK)

    async with RawServer(answer) as server:
        where = target(server.url)
        others = [asyncio.create_task(transport.post(where, b"other")) for _ in range(20)]
        call = asyncio.create_task(transport.post(where, b"cancelled"))
        await server.until(lambda: len(server.requests) == 21)
        call.cancel()
        later = asyncio.create_task(transport.post(where, b"later"))
        await server.until(lambda: len(server.requests) == 22)
        free.set()
        replies = await asyncio.gather(*others, later)
        assert [reply.status for reply in replies] == [200] * 21
        # the connection of the cancelled call is closed at the latest when the calls beside it are over
        await server.until(lambda: server.connections - server.open >= 1)
        assert len(server.requests) == 22


async def test_a_timed_out_call_is_not_answered_by_what_comes_late(transport):
    async def answer(reader, writer: asyncio.StreamWriter) -> None:
        if server.bodies[-1] == b"late":
            await asyncio.sleep(0.4)
            writer.write(response(b"late"))
        else:
            writer.write(response(b"next"))

    async with RawServer(answer) as server:
        where = target(server.url, timeouts=Timeouts(5.0, 0.2, 30.0))
        assert (await failed(transport.post(where, b"late"))).reason == "timeout"
        for _ in range(5):
            assert (await transport.post(where, b"next")).body == b"next"


async def test_nothing_is_left_when_a_transport_is_closed(client):
    async with RawServer(hanging()) as server:
        warm = CLIENTS[client]()
        await warm.close()
        before, tasks = open_files(), len(asyncio.all_tasks())
        made = CLIENTS[client]()
        calls = [asyncio.create_task(post(made, server.url)) for _ in range(20)]
        await server.until(lambda: len(server.requests) == 20)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await made.close()
        del made, calls
        gc.collect()
        await server.until(lambda: server.open == 0)
        assert await until(lambda: open_files() <= before + 3)  # the runtime's own, made at first use
        assert len(asyncio.all_tasks()) <= tasks


_KINDS = ["ok", "ok", "reset", "truncated", "unparsable", "ok", "large", "bye", "500", "ok"]


def _kind(number: int) -> str:
    return "late" if number % 100 == 5 else _KINDS[number % len(_KINDS)]


def _faults(server: RawServer):
    async def answer(reader, writer: asyncio.StreamWriter) -> None:
        kind = _kind(int(server.bodies[-1]))
        if kind in {"ok", "bye"}:
            writer.write(OK)
        elif kind == "500":
            writer.write(response(b"{}", status="500 No"))
        elif kind == "reset":
            await drop(reader, writer)
        elif kind == "truncated":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
        elif kind == "unparsable":
            writer.write(b"what?\r\n\r\n")
        elif kind == "large":
            writer.write(response(b"x" * 5000))
        elif kind == "late":
            await reader.read()
        if kind in {"bye", "truncated", "unparsable"}:
            writer.close()

    return answer


_ENDS = {"ok": "200", "bye": "200", "500": "500", "late": "timeout", "large": "response_too_large"}


def _resident_mb() -> float:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096 / 1e6


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_ten_thousand_calls_under_faults_leave_nothing(transport, client):
    asyncio.get_running_loop().set_debug(enabled=False)
    async with RawServer(None) as server:
        server.answer = _faults(server)
        where = target(server.url, timeouts=Timeouts(20.0, 4.0, 20.0), max_bytes=4000)
        wrong: list[tuple[int, str, str]] = []

        async def caller(numbers) -> None:
            for number in numbers:
                kind = _kind(number)
                try:
                    end = str((await transport.post(where, b"%d" % number)).status)
                except SentFailed as error:
                    end = error.reason
                if end != _ENDS.get(kind, kind):
                    wrong.append((number, kind, end))

        async def run(numbers: range) -> None:
            shared = iter(numbers)
            await asyncio.gather(*(caller(shared) for _ in range(250)))

        await run(range(2000))
        server.requests.clear()
        files, tasks, threads = open_files(), len(asyncio.all_tasks()), threading.active_count()
        memory = _resident_mb()
        await run(range(2000, 12_000))
        # a connection that was closed after its answer may have been taken again in that very moment
        assert [entry for entry in wrong if entry[2] != "reset"] == []
        assert len(wrong) <= _RETAKEN[client]
        counts = collections.Counter(server.bodies)
        assert max(counts.values()) == 1
        server.requests.clear()
        server.bodies.clear()
        assert await until(lambda: open_files() <= files)
        assert len(asyncio.all_tasks()) <= tasks
        assert threading.active_count() <= threads
        assert _resident_mb() - memory < 25


@ours
async def test_a_service_that_is_cancelled_on_closes_its_connections_soon(client):
    made = CLIENTS[client]()
    async with RawServer(hanging()) as server:
        where = target(server.url)
        calls = [asyncio.create_task(made.post(where, b"%d" % i)) for i in range(200)]
        await server.until(lambda: len(server.requests) == 200)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await server.until(lambda: server.open == 0)
    await made.close()


@ours
@pytest.mark.parametrize(
    "more",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n[not]", b"not http", b"\r\n"],
    ids=["an answer", "no http", "an empty line"],
)
async def test_what_comes_beyond_an_answer_answers_nothing(transport, more):
    async def answer(_, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + (more if len(server.requests) == 1 else b""))

    async with RawServer(answer) as server:
        where = target(server.url)
        assert (await transport.post(where, b"{}")).body == b"{}"
        await asyncio.sleep(0.05)
        assert (await transport.post(where, b"{}")).body == b"{}"
        assert len(server.requests) == 2


async def test_a_server_that_says_close_is_not_called_again_on_that_connection(transport):
    async with RawServer(saying(response(b"{}", "Connection: close"))) as server:
        where = target(server.url)
        for _ in range(3):
            assert (await transport.post(where, b"{}")).status == 200
        assert server.connections == 3


@ours
async def test_a_switch_of_protocols_was_not_asked_for(transport):
    switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"
    async with RawServer(saying(switch + OK)) as server:
        assert (await failed(post(transport, server.url))).reason == "unparsable"


async def test_an_offer_to_switch_is_passed_over(transport):
    async with RawServer(saying(response(b"{}", "Upgrade: h2,h2c", "Connection: Upgrade"))) as server:
        for _ in range(2):
            assert (await post(transport, server.url)).body == b"{}"


@ours
@pytest.mark.parametrize(
    ("now", "later"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nSTALE\r\n", b"2\r\n{}\r\n0\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nX", b': 1\r\n\r\n{"x":1}'),
        (b"HTTP/1.1 500 OK\r\nContent-Le", b"ngth: 0\r\n\r\n"),
        (b"H", b"TTP/1.1 500 OK\r\nContent-Length: 0\r\n\r\n"),
    ],
)
async def test_half_an_answer_beyond_the_answer_does_not_answer_the_next_call(transport, now, later):
    second = response(b'{"second": 1}')

    async def answer(_, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + now if len(server.requests) == 1 else second)

    async def go_on(_, writer: asyncio.StreamWriter) -> None:
        if len(server.requests) == 1:
            writer.write(OK + now)
        else:
            writer.write((later if server.connections == 1 else b"") + second)

    for how in (answer, go_on):
        async with RawServer(how) as server:
            where = target(server.url)
            assert (await transport.post(where, b"{}")).body == b"{}"
            assert (await transport.post(where, b"{}")).body == b'{"second": 1}'


@ours
async def test_a_call_that_goes_on_when_the_transport_is_closed_fails(client):
    made = CLIENTS[client]()
    async with RawServer(hanging(b'HTTP/1.0 200 OK\r\n\r\n{"half":')) as server:
        call = asyncio.create_task(made.post(target(server.url), b"{}"))
        await server.until(lambda: len(server.requests) == 1)
        await asyncio.sleep(0.05)
        await made.close()
        assert (await failed(call)).reason == "reset"


@ours
async def test_a_call_that_connects_when_the_transport_is_closed_is_not_sent(client):
    made = CLIENTS[client]()
    async with RawServer(saying(OK)) as server:
        call = asyncio.create_task(made.post(target(f"http://localhost:{server.port}/v1"), b"{}"))
        await asyncio.sleep(0)
        await made.close()
        assert (await not_sent(call)).reason == "connect"
        await server.until(lambda: server.connections == 0 or server.open == 0)
        assert not server.requests


@pytest.mark.skipif(sys.platform != "linux", reason="lists descriptors")
@ours
async def test_calls_cancelled_while_they_connect_leave_no_socket(client):
    """Whatever the moment is; without the collector's help."""
    asyncio.get_running_loop().set_debug(enabled=False)
    async with RawServer(saying(OK)) as server:
        made = CLIENTS[client]()
        before = open_files()
        gc.collect()
        gc.disable()
        try:
            for turns in range(12):
                for host in ("127.0.0.1", "localhost"):
                    call = asyncio.create_task(made.post(target(f"http://{host}:{server.port}/v1"), b"{}"))
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    call.cancel()
                    await asyncio.gather(call, return_exceptions=True)
            await made.close()
            assert await until(lambda: server.open == 0)
            assert await until(lambda: open_files() <= before + 3)
        finally:
            gc.enable()
