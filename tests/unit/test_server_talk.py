"""The server and clients that behave: hello, requests, errors, notifications, the gate."""

import asyncio

import pytest
from server_kit import serving, settle, until

from batch_infer.protocol import errors, rpc
from batch_infer.protocol.text import Text


async def echo(params, peer):
    return {"echo": params}


async def test_hello_is_answered_with_who_it_is(workspace):
    async with serving(workspace) as door:
        client = await door.connect()
        answer = await client.hello()
        assert answer["result"].pop("pid") > 0
        assert answer["result"] == {"protocol": 1, "version": "0.1.0", "started": 12.5}
        assert answer["jsonrpc"] == "2.0"
        client.close()


@pytest.mark.parametrize(
    ("client_range", "daemon_range", "chosen"),
    [
        ((1, 3), (2, 5), 3),
        ((1, 9), (2, 5), 5),
        ((2, 2), (1, 2), 2),
        ((3, 4), (1, 2), None),
        ((1, 2), (3, 4), None),
    ],
)
async def test_the_highest_common_protocol_is_spoken(workspace, client_range, daemon_range, chosen):
    async with serving(workspace, protocol=daemon_range) as door:
        client = await door.connect()
        answer = await client.hello(protocol=client_range)
        if chosen is None:
            assert isinstance(errors.from_wire(answer["error"]), errors.Incompatible)
        else:
            assert answer["result"]["protocol"] == chosen
        client.close()


async def test_an_incompatible_client_may_still_ask_for_status_and_stop(workspace):
    async def status(params, peer):
        return {"busy": False}

    async with serving(workspace, {"daemon.status": status, "daemon.stop": echo, "list": echo}) as door:
        client = await door.connect()
        refused = errors.from_wire((await client.hello(protocol=(7, 9)))["error"])
        assert isinstance(refused, errors.Incompatible)
        assert refused.exit_code == 4
        assert refused.data == {"protocol": [1, 1], "version": "0.1.0"}
        assert "0.0.9" in str(refused)
        assert (await client.call("daemon.status"))["result"] == {"busy": False}
        assert "result" in await client.call("daemon.stop")
        again = errors.from_wire((await client.call("list"))["error"])
        assert isinstance(again, errors.Incompatible)
        client.close()


async def test_requests_run_side_by_side_and_are_answered_by_id(workspace):
    release = asyncio.Event()

    async def slow(params, peer):
        await release.wait()
        return {"slow": True}

    async with serving(workspace, {"slow": slow, "echo": echo}) as door:
        client = await door.greeted()
        slow_id = client.ask("slow")
        assert (await client.call("echo", {"x": "é\u2028"}))["result"] == {"echo": {"x": "é\u2028"}}
        assert door.server.in_flight == 1
        release.set()
        assert await client.read() == rpc.result(slow_id, {"slow": True})
        assert door.server.in_flight == 0
        client.close()


async def test_an_error_keeps_its_class_words_and_hints(workspace):
    async def missing(params, peer):
        raise errors.TaskNotFound(
            Text("no task {id}", {"id": "X"}), hints=(Text("look at -list"),), data={"n": 1}
        )

    async with serving(workspace, {"status": missing}) as door:
        client = await door.greeted()
        error = errors.from_wire((await client.call("status"))["error"])
        assert isinstance(error, errors.TaskNotFound)
        assert (str(error), [str(h) for h in error.hints], error.data) == (
            "no task X",
            ["look at -list"],
            {"n": 1},
        )
        client.close()


async def test_a_bug_is_logged_with_its_trace_and_told_without(workspace, caplog):
    async def broken(params, peer):
        raise ZeroDivisionError("secret detail")

    async with serving(workspace, {"list": broken, "echo": echo}) as door:
        client = await door.greeted()
        error = errors.from_wire((await client.call("list"))["error"])
        assert isinstance(error, errors.InternalError)
        assert "secret detail" not in str(error)
        assert "ZeroDivisionError: secret detail" in caplog.text
        assert "result" in await client.call("echo")
        client.close()


@pytest.mark.parametrize(
    "value", [{"x": "y" * 2_000_000}, {"x": object()}, {1, 2}], ids=["large", "odd", "set"]
)
async def test_an_answer_that_cannot_be_sent_is_a_bug(workspace, caplog, value):
    async def answer(params, peer):
        return value

    async with serving(workspace, {"list": answer}) as door:
        client = await door.greeted()
        assert isinstance(errors.from_wire((await client.call("list"))["error"]), errors.InternalError)
        assert "cannot be sent" in caplog.text
        client.close()


async def test_an_error_that_cannot_be_sent_becomes_a_short_one(workspace, caplog):
    async def answer(params, peer):
        raise errors.ConfigError(Text("x" * 2_000_000))

    async with serving(workspace, {"submit": answer}) as door:
        client = await door.greeted()
        assert isinstance(errors.from_wire((await client.call("submit"))["error"]), errors.ConfigError)
        client.close()


async def test_an_unknown_request_is_named(workspace):
    async with serving(workspace) as door:
        client = await door.greeted()
        assert "unknown request nonsense" in (await client.call("nonsense"))["error"]["message"]
        client.close()


async def test_requests_wait_for_the_gate_but_status_does_not(workspace):
    async with serving(workspace, {"list": echo, "daemon.status": echo}, gate=False) as door:
        client = await door.greeted()
        waiting = client.ask("list")
        assert "result" in await client.call("daemon.status")
        assert door.server.in_flight == 1
        door.server.open_gate()
        assert (await client.read())["id"] == waiting
        client.close()


async def test_what_was_asked_goes_on_when_its_client_leaves(workspace):
    release, finished = asyncio.Event(), asyncio.Event()

    async def submit(params, peer):
        await release.wait()
        assert peer.closed
        finished.set()

    async with serving(workspace, {"submit": submit}) as door:
        client = await door.greeted()
        client.ask("submit")
        await until(lambda: door.server.in_flight)
        client.close()
        await until(lambda: not door.server.connections)
        release.set()
        await asyncio.wait_for(finished.wait(), 5)


async def test_notifications_reach_the_peer_until_it_leaves(workspace):
    peers, closed = [], []

    async def subscribe(params, peer):
        peers.append(peer)
        peer.on_close(lambda: closed.append("first"))
        peer.on_close(lambda: 1 / 0)
        peer.on_close(lambda: closed.append("second"))
        return {}

    async with serving(workspace, {"subscribe": subscribe}) as door:
        client = await door.greeted()
        await client.call("subscribe")
        peers[0].push("a", rpc.notification("progress", {"n": 1}))
        assert await client.read() == {"jsonrpc": "2.0", "method": "progress", "params": {"n": 1}}
        client.close()
        await until(lambda: not door.server.connections)
        assert closed == ["first", "second"]
        peers[0].push("a", rpc.notification("progress", {"n": 2}))
        peers[0].on_close(lambda: closed.append("late"))
        assert closed[-1] == "late"


async def test_a_notification_that_is_too_large_is_left_out(workspace, caplog):
    peers = []

    async def subscribe(params, peer):
        peers.append(peer)
        return {}

    async with serving(workspace, {"subscribe": subscribe}) as door:
        client = await door.greeted()
        await client.call("subscribe")
        peers[0].push("a", rpc.notification("progress", {"x": "y" * 2_000_000}))
        peers[0].push("a", rpc.notification("progress", {"n": 1}))
        assert (await client.read())["params"] == {"n": 1}
        assert "over the cap" in caplog.text
        client.close()


async def test_who_came_before_the_end_is_let_in(workspace):
    """Idle exit: connected already, but not accepted yet."""
    async with serving(workspace, {"list": echo}) as door:
        client = await door.connect()
        await door.acceptor.stop()
        assert "result" in await client.hello()
        assert "result" in await client.call("list")
        client.close()
        await settle()


async def test_requests_keep_the_daemon_awake(workspace):
    async with serving(workspace, {"list": echo}) as door:
        client = await door.greeted()
        await door.clock.advance(100)
        before = door.server.last_request
        await client.call("list")
        assert door.server.last_request == before + 100
        client.close()
