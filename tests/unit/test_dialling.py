"""Connecting on either event loop, to whichever address answers first."""

import asyncio
import socket
import ssl

import pytest

from batch_inferd.backends import dialling
from batch_inferd.backends.dialling import dial

uvloop = pytest.importorskip("uvloop")


@pytest.fixture(params=["asyncio", "uvloop"])
def runner(request):
    factory = uvloop.new_event_loop if request.param == "uvloop" else None
    with asyncio.Runner(loop_factory=factory, debug=True) as runner:
        yield runner


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


async def connect(port, host="127.0.0.1", tls=None):
    transport, protocol = await dial(asyncio.Protocol, host, port, tls)
    assert type(protocol) is asyncio.Protocol
    peer = transport.get_extra_info("peername")
    transport.abort()
    await asyncio.sleep(0)
    return peer


def test_it_connects(runner, listening):
    assert runner.run(connect(listening)) == ("127.0.0.1", listening)
    assert runner.run(connect(listening, "localhost"))[1] == listening


def test_a_closed_port_is_refused(runner, closed):
    with pytest.raises(ConnectionRefusedError):
        runner.run(connect(closed))


def test_a_name_that_nobody_knows(runner):
    with pytest.raises(socket.gaierror):
        runner.run(connect(80, "nobody.invalid"))


def test_tls_with_somebody_who_does_not_speak_it(runner):
    async def main():
        async def hang_up(_reader, writer):
            writer.write(b"HTTP/1.1 400 no\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            await connect(port, tls=ssl.create_default_context())

    with pytest.raises((ssl.SSLError, ConnectionError)):
        runner.run(main())


@pytest.mark.parametrize("addresses", [["slow", "good"], ["bad", "good"], ["slow", "bad", "good"]])
def test_the_first_that_answers_wins(addresses, monkeypatch):
    """On uvloop, whose own connecting would wait for the first address as long as it takes."""

    async def connect_to(_protocol, address, *_):
        if address == "slow":
            await asyncio.Event().wait()
        if address == "bad":
            raise ConnectionRefusedError
        return address

    async def main():
        attempts = []
        found = (await dialling._first(asyncio.Protocol, addresses, 1, None, "host", attempts)).result()
        for attempt in attempts:
            attempt.cancel()
        await asyncio.gather(*attempts, return_exceptions=True)
        return found

    monkeypatch.setattr(dialling, "_connect", connect_to)
    monkeypatch.setattr(dialling, "STAGGER_S", 0.01)
    assert asyncio.run(main()) == "good"


def test_when_all_fail_the_last_error_is_told(monkeypatch):
    async def connect_to(_protocol, address, *_):
        raise OSError(int(address), "no")

    monkeypatch.setattr(dialling, "_connect", connect_to)
    with pytest.raises(OSError, match="no") as caught:
        asyncio.run(dialling._first(asyncio.Protocol, ["1", "2"], 1, None, "host", []))
    assert caught.value.errno == 2
    with pytest.raises(OSError, match="no address"):
        asyncio.run(dialling._first(asyncio.Protocol, [], 1, None, "host", []))
