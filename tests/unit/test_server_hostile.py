"""Hostile local clients: turned away without a word, in bounded memory, while others are served."""

import asyncio
import errno
import json
import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from server_kit import SECRET, StillClock, serving, settle, until

from batch_infer.protocol import frames, rpc
from batch_inferd.server import Identity, Server, accept, link
from batch_inferd.server import server as server_module
from batch_inferd.server.link import Link

MIB = 2**20


async def echo(params, peer):
    return params


def frame(body):
    return struct.pack(">I", len(body)) + body


def hello_with(**params):
    message = {"id": 1, "method": "hello", "params": {"protocol": [1, 1], "secret": SECRET, **params}}
    return frame(json.dumps(message).encode())


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">I", 2**32 - 1),
        struct.pack(">I", 0),
        struct.pack(">I", frames.HELLO_CAP + 1),
        frame(b"[" * 4000),
        frame(b'{"a":' * 700),
        frame(b"not json"),
        frame(b"\xff\xff"),
        frame(b"[]"),
        frame(b"{}"),
        frame(b'{"id":1,"method":"daemon.status","params":{}}'),
        frame(b'{"id":1,"method":"list","params":{}}'),
        frame(b'{"id":1,"method":"hello"}'),
        frame(b'{"id":1,"method":"hello","params":[]}'),
        hello_with(secret="wrong"),
        hello_with(secret=SECRET[:-1]),
        hello_with(secret=""),
        hello_with(secret=None),
        hello_with(secret=5),
        hello_with(secret="é" * 64),
        hello_with(secret="\ud800"),
        hello_with(protocol=None),
        hello_with(protocol=[1]),
        hello_with(protocol=["1", "1"]),
        frame(
            json.dumps(
                {"id": [], "method": "hello", "params": {"secret": SECRET, "protocol": [1, 1]}}
            ).encode()
        ),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=lambda data: data[:40],
)
async def test_a_stranger_learns_nothing(workspace, data):
    async with serving(workspace, {"list": echo, "daemon.status": echo}) as door:
        client = await door.connect()
        client.send(data)
        assert await client.ended()
        client.close()
        honest = await door.greeted()
        assert (await honest.call("list", {"x": 1}))["result"] == {"x": 1}
        honest.close()


@pytest.mark.parametrize(
    "data", [b"", b"\0\0", struct.pack(">I", 400) + b'{"id"'], ids=["nothing", "half", "part"]
)
async def test_hello_has_five_seconds(workspace, data):
    async with serving(workspace, {"list": echo}) as door:
        client, honest = await door.connect(), await door.greeted()
        client.send(data)
        await until(lambda: door.server.connections == 2)
        await door.clock.advance(4.9)
        assert door.server.connections == 2
        await door.clock.advance(0.2)
        assert await client.ended()
        client.close()
        # The deadline was for the hello only.
        await door.clock.advance(10_000)
        assert "result" in await honest.call("list")
        honest.close()


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">I", frames.FRAME_CAP + 1),
        frame(b"[" * 900_000),
        frame(b'{"id":1}'),
        frame(b'{"id":{},"method":"list"}'),
        frame(b'{"id":1,"method":"list","params":[1]}'),
        frame(b'{"method":"list"}'),
    ],
    ids=lambda data: data[:40],
)
async def test_a_greeted_client_hears_what_it_did_wrong(workspace, data):
    async with serving(workspace, {"list": echo}) as door:
        client = await door.greeted()
        client.send(data)
        answer = await client.read()
        assert answer["id"] is None
        assert answer["error"]["data"]["error"] == "protocol"
        assert await client.ended()
        client.close()


async def test_before_hello_a_client_costs_little(workspace):
    async with serving(workspace) as door:
        tracemalloc.start()
        try:
            clients = [await door.connect() for _ in range(50)]
            before = tracemalloc.get_traced_memory()[0]
            for client in clients:
                client.send(struct.pack(">I", 4000) + b"x" * 3999)  # one byte is missing
            await settle()
            assert tracemalloc.get_traced_memory()[0] - before < MIB
        finally:
            tracemalloc.stop()
        for client in clients:
            client.close()


async def test_a_thousand_connections_leave_room_for_an_honest_one(workspace, caplog):
    async with serving(workspace, {"list": echo}) as door:
        early = await door.greeted()
        for _ in range(20):
            await asyncio.gather(*(door.connect() for _ in range(50)))
            honest = await door.greeted()
            assert (await honest.call("list", {"n": 1}))["result"] == {"n": 1}
            honest.close()
            assert door.server.connections <= server_module.UNGREETED + 2
        assert "result" in await early.call("list")
        assert caplog.text.count("turned a client away") == 1, "a flood must not fill the log"


async def test_greeted_connections_are_bounded_too(workspace, monkeypatch):
    monkeypatch.setattr(server_module, "CONNECTIONS", 5)
    async with serving(workspace, {"list": echo}) as door:
        clients = [await door.greeted() for _ in range(5)]
        extra = await door.connect()
        assert await extra.ended()
        extra.close()
        clients.pop().close()
        await until(lambda: door.server.connections == 4)
        clients.append(await door.greeted())
        for client in clients:
            client.close()


async def test_another_user_is_turned_away(workspace, monkeypatch):
    monkeypatch.setattr(accept, "foreign_uid", lambda sock: 12345)
    async with serving(workspace) as door:
        client = await door.connect()
        assert await client.ended()
        client.close()
        assert door.server.connections == 0


async def test_requests_of_one_client_run_at_most_16_at_once(workspace):
    release = asyncio.Event()
    running = 0

    async def slow(params, peer):
        nonlocal running
        running += 1
        await release.wait()
        return {}

    async with serving(workspace, {"slow": slow, "list": echo}) as door:
        greedy, other = await door.greeted(), await door.greeted()
        for _ in range(500):
            greedy.ask("slow")
        assert "result" in await other.call("list")
        await settle()
        assert running == link.REQUESTS_AT_ONCE
        release.set()
        assert sorted([(await greedy.read())["id"] for _ in range(500)]) == list(range(2, 502))
        greedy.close()
        other.close()


async def test_a_client_that_never_reads_its_answers_is_dropped(workspace):
    async def large(params, peer):
        return {"x": "y" * 900_000}

    async with serving(workspace, {"large": large, "list": echo}) as door:
        silent = await door.greeted()
        silent.reader._transport.pause_reading()
        tracemalloc.start()
        try:
            for _ in range(200):
                silent.ask("large")
            await until(lambda: not door.server.connections)
            assert tracemalloc.get_traced_memory()[1] < (link.WRITE_CAP + 16 * MIB)
        finally:
            tracemalloc.stop()
        honest = await door.greeted()
        assert "result" in await honest.call("list")
        honest.close()
        silent.close()


async def test_a_client_that_reads_slowly_is_not_read_from_meanwhile(workspace):
    calls = 0

    async def medium(params, peer):
        nonlocal calls
        calls += 1
        return {"x": "y" * 100_000}

    async with serving(workspace, {"medium": medium}) as door:
        slow = await door.greeted()
        slow.reader._transport.pause_reading()
        for _ in range(300):
            slow.ask("medium")
        for _ in range(20):
            await settle()
        assert calls < 40
        slow.reader._transport.resume_reading()
        for _ in range(300):
            assert (await slow.read())["result"]["x"]
        assert calls == 300
        slow.close()


async def test_a_subscriber_that_does_not_read_gets_the_newest_state(workspace):
    peers = []

    async def subscribe(params, peer):
        peers.append(peer)
        return {}

    async with serving(workspace, {"subscribe": subscribe}) as door:
        client = await door.greeted()
        await client.call("subscribe")
        client.reader._transport.pause_reading()
        tracemalloc.start()
        try:
            for n in range(3000):
                for task in ("a", "b"):
                    filler = {"n": n, "task": task, "x": "y" * 5000}
                    peers[0].push(task, rpc.notification("progress", filler))
                if n % 100 == 0:
                    await asyncio.sleep(0)
            assert tracemalloc.get_traced_memory()[0] < 2 * MIB
        finally:
            tracemalloc.stop()
        client.reader._transport.resume_reading()
        seen, last = [], {}
        while last != {"a": 2999, "b": 2999}:
            params = (await client.read())["params"]
            last[params["task"]] = params["n"]
            seen.append(params["n"])
        assert len(seen) < 500, "most were never sent"
        client.close()


async def test_what_waits_for_a_subscriber_is_bounded_by_keys(workspace, monkeypatch):
    monkeypatch.setattr(link, "PUSH_KEYS", 10)
    transport = FakeTransport()
    peer = greeted_link(transport)
    peer.pause_writing()
    for n in range(100):
        peer.push(f"task{n}", rpc.notification("progress", {"n": n}))
    peer.push("task91", rpc.notification("progress", {"n": 1000}))
    sent = len(transport.written)
    peer.resume_writing()
    numbers = [json.loads(f[4:])["params"]["n"] for f in transport.written[sent:]]
    assert numbers == [90, *range(92, 100), 1000]
    peer.connection_lost(None)


async def test_running_out_of_descriptors_backs_off_and_comes_back(workspace, monkeypatch):
    async with serving(workspace, {"list": echo}) as door:
        acceptor, real = door.acceptor, door.acceptor._sock
        monkeypatch.setattr(acceptor, "_sock", Exhausted(real, 3))
        client = await door.connect()
        for turn in range(1, 4):
            for _ in range(10):
                await settle()
            assert acceptor._sock.refused == turn, "one try, then it waits"
            await door.clock.advance(accept.BACK_OFF_S)
        assert "result" in await client.hello()
        client.close()


class Exhausted:
    """A listening socket that has no descriptor left for the first clients."""

    def __init__(self, sock, times):
        self.sock = sock
        self.left = times
        self.refused = 0

    def fileno(self):
        return self.sock.fileno()

    def accept(self):
        if self.left:
            self.left -= 1
            self.refused += 1
            raise OSError(errno.EMFILE, "Too many open files")
        return self.sock.accept()


class FakeTransport(asyncio.Transport):
    """Takes everything, sends nothing."""

    def __init__(self):
        super().__init__()
        self.written = []
        self.closing = False
        self.reading = True

    def set_write_buffer_limits(self, high=None, low=None):
        pass

    def get_write_buffer_size(self):
        return 0

    def write(self, data):
        self.written.append(data)

    def is_closing(self):
        return self.closing

    def close(self):
        self.closing = True

    abort = close

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True


def greeted_link(transport):
    server = Server({"echo": echo}, Identity(SECRET, 1, "0", 0.0), StillClock())
    server.open_gate()
    made = Link(server)
    made.connection_made(transport)
    made.data_received(hello_with())
    assert made.greeted
    return made


hostile_bytes = st.one_of(
    st.binary(max_size=60),
    st.builds(frame, st.binary(min_size=1, max_size=60)),
    st.builds(
        lambda value: frame(json.dumps(value).encode()),
        st.dictionaries(
            st.sampled_from(["id", "method", "params", "jsonrpc", "x"]),
            st.none() | st.integers() | st.sampled_from(["echo", "hello"]) | st.just({}) | st.just([1]),
        ),
    ),
    st.just(frame(b'{"id":7,"method":"echo","params":{}}')),
)


@given(st.lists(hostile_bytes, max_size=12), st.integers(1, 50))
@settings(max_examples=150, deadline=None)
def test_whatever_a_greeted_client_sends_the_server_holds(parts, size):
    async def play():
        transport = FakeTransport()
        peer = greeted_link(transport)
        data = b"".join(parts)
        for start in range(0, len(data), size):
            if not transport.closing:
                peer.data_received(data[start : start + size])
            await asyncio.sleep(0)
        await settle()
        for written in transport.written:
            answer = frames.decode(written[4:])
            assert ("result" in answer) != ("error" in answer)
        if not transport.closing:
            assert transport.reading
            assert peer.in_flight == 0
        peer.connection_lost(None)

    asyncio.run(play())
