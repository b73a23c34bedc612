"""The client's connection: half frames, late answers, notifications, silence, and the end."""

import socket
import threading

import pytest

from batch_infer.connection import Connection, NoAnswerError
from batch_infer.protocol import beacon, frames, rpc
from batch_infer.protocol.errors import DaemonUnavailable, Incompatible, ProtocolError, TaskNotFound
from batch_infer.protocol.text import Text

HELLO = {"protocol": 1, "version": "0.1.0", "pid": 2**30, "started": 5.5}


@pytest.fixture
def daemon(short_tmp):
    """Start a scripted daemon: `script(sock)` talks to the one client that comes."""
    threads, sockets, failures = [], [], []

    def start(script, *, hello=True):
        listener = socket.socket(socket.AF_UNIX)
        sockets.append(listener)
        listener.bind(f"{short_tmp}/s{len(sockets)}")
        listener.listen()

        def run():
            try:
                client, _ = listener.accept()
                with client:
                    client.settimeout(20)
                    if hello:
                        message = frames.read_blocking(client.recv)
                        assert message["method"] == "hello"
                        client.sendall(frames.encode(rpc.result(message["id"], HELLO)))
                    script(client)
            except Exception as error:  # noqa: BLE001  told at the end
                failures.append(error)

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return beacon.of_this_process(f"unix:{short_tmp}/s{len(sockets)}", "s", (1, 1), "0")

    yield start
    for thread in threads:
        thread.join(20)
    for listener in sockets:
        listener.close()
    assert failures == []


def read(client):
    return frames.read_blocking(client.recv)


def progress(n):
    return frames.encode(rpc.notification("progress", {"n": n}))


def until_closed(client):
    while client.recv(1000):
        pass


def test_hello_carries_secret_and_protocol_and_tells_who_answers(daemon):
    seen = []

    def script(client):
        seen.append(read(client))
        client.sendall(frames.encode(rpc.result(seen[0]["id"], HELLO)))
        until_closed(client)

    with Connection.open(daemon(script, hello=False), timeout=20) as connection:
        assert (connection.pid, connection.version, connection.started) == (2**30, "0.1.0", 5.5)
    assert seen[0]["params"]["secret"] == "s"
    assert seen[0]["params"]["protocol"] == [rpc.PROTOCOL_MIN, rpc.PROTOCOL_MAX]


def test_an_answer_in_pieces_is_put_together(daemon):
    def script(client):
        for byte in frames.encode(rpc.result(read(client)["id"], {"x": "é"})):
            client.sendall(bytes([byte]))
        until_closed(client)

    with Connection.open(daemon(script), timeout=20) as connection:
        assert connection.call("list") == {"x": "é"}


def test_the_daemons_error_is_raised_as_its_class(daemon):
    def script(client):
        error = TaskNotFound(Text("no task {id}", {"id": "X"})).to_wire()
        client.sendall(frames.encode(rpc.failure(read(client)["id"], error)))
        until_closed(client)

    with (
        Connection.open(daemon(script), timeout=20) as connection,
        pytest.raises(TaskNotFound, match="no task X"),
    ):
        connection.call("status")


def test_an_answer_that_comes_too_late_is_not_taken_for_the_next(daemon):
    asked = threading.Event()

    def script(client):
        first, second = read(client), None
        asked.set()
        second = read(client)
        client.sendall(frames.encode(rpc.result(first["id"], {"n": 1})))
        client.sendall(frames.encode(rpc.result(second["id"], {"n": 2})))
        until_closed(client)

    with Connection.open(daemon(script), timeout=20) as connection:
        with pytest.raises(DaemonUnavailable, match=r"did not answer list within 0\.05 s"):
            connection.call("list", timeout=0.05)
        assert asked.wait(20)
        assert connection.call("list") == {"n": 2}


def test_notifications_wait_while_an_answer_is_awaited(daemon):
    def script(client):
        call = read(client)
        client.sendall(progress(1) + frames.encode(rpc.result(call["id"], {})) + progress(2))
        until_closed(client)

    with Connection.open(daemon(script), timeout=20) as connection:
        connection.call("list")
        assert [connection.wait(20)["params"]["n"] for _ in range(2)] == [1, 2]
        assert connection.wait(0.01) is None


def test_half_a_notification_is_kept_until_the_rest_comes(daemon):
    rest = threading.Event()

    def script(client):
        client.sendall(progress(1)[:9])
        assert rest.wait(20)
        client.sendall(progress(1)[9:])
        until_closed(client)

    with Connection.open(daemon(script), timeout=20) as connection:
        assert connection.wait(0.05) is None
        rest.set()
        assert connection.wait(20)["params"] == {"n": 1}


def test_a_subscription_begins_with_everything_and_ends_with_the_daemon(daemon):
    def script(client):
        call = read(client)
        assert call["params"] == {"tasks": ["a"]}
        client.sendall(frames.encode(rpc.result(call["id"], {"tasks": ["all"]})))
        client.sendall(progress(1) + frames.encode(rpc.notification("other", {})) + progress(2))

    with Connection.open(daemon(script), timeout=20) as connection:
        states = connection.subscribe(["a"])
        assert [next(states) for _ in range(3)] == [{"tasks": ["all"]}, {"n": 1}, {"n": 2}]
        with pytest.raises(DaemonUnavailable, match="ended"):
            next(states)


def test_the_end_in_the_midst_of_a_call(daemon):
    with (
        Connection.open(daemon(read), timeout=20) as connection,
        pytest.raises(DaemonUnavailable, match="ended"),
    ):
        connection.call("list")


@pytest.mark.parametrize("script", [lambda client: None, read], ids=["at once", "after hello was sent"])
def test_the_end_before_hello_means_that_nobody_is_there(daemon, script):
    with pytest.raises(NoAnswerError):
        Connection.open(daemon(script, hello=False), timeout=20)


def test_silence_before_hello_is_named(daemon):
    place = daemon(until_closed, hello=False)
    with pytest.raises(
        DaemonUnavailable, match=rf"\(process {place.pid}\) took the connection, but said nothing"
    ):
        Connection.open(place, timeout=0.05)


def test_an_error_about_the_stream_is_raised(daemon):
    def script(client):
        read(client)
        client.sendall(frames.encode(rpc.failure(None, ProtocolError(Text("bad frame")).to_wire())))

    with (
        Connection.open(daemon(script), timeout=20) as connection,
        pytest.raises(ProtocolError, match="bad frame"),
    ):
        connection.call("list")


def test_a_huge_frame_of_the_daemon_is_refused(daemon):
    def script(client):
        read(client)
        client.sendall(b"\xff\xff\xff\xff")
        until_closed(client)

    with (
        Connection.open(daemon(script), timeout=20) as connection,
        pytest.raises(ProtocolError, match="announces"),
    ):
        connection.call("list")


def test_incompatible_is_raised_or_kept(daemon):
    def script(client):
        call = read(client)
        client.sendall(frames.encode(rpc.failure(call["id"], Incompatible(Text("no")).to_wire())))
        until_closed(client)

    with pytest.raises(Incompatible):
        Connection.open(daemon(script, hello=False), timeout=20)
    with Connection.open(daemon(script, hello=False), timeout=20, any_version=True) as connection:
        assert isinstance(connection.incompatible, Incompatible)


def test_waiting_for_the_end(daemon):
    end = threading.Event()

    def script(client):
        client.sendall(progress(1))
        end.wait(20)

    with Connection.open(daemon(script), timeout=20) as connection:
        assert connection.wait_closed(0.05) is False
        end.set()
        assert connection.wait_closed(20) is True


def working(n):
    return frames.encode(rpc.notification("working", {"done": n, "total": 9}))


def test_a_long_request_is_heard_of_until_its_answer(daemon):
    def script(client):
        asked = read(client)
        client.sendall(working(1) + progress(1) + working(4))
        client.sendall(frames.encode(rpc.result(asked["id"], {"records": 9})))
        until_closed(client)

    told = []
    with Connection.open(daemon(script), timeout=20) as connection:
        assert connection.call_long("export", {"out": "x"}, told.append) == {"records": 9}
        assert told == [{"done": 1, "total": 9}, {"done": 4, "total": 9}]
        assert connection.wait(0) == {"jsonrpc": "2.0", "method": "progress", "params": {"n": 1}}


def test_a_long_request_that_fails_falls_silent_or_loses_its_daemon(daemon):
    def fails(client):
        error = TaskNotFound(Text("there is no task A"))
        client.sendall(working(1) + frames.encode(rpc.failure(read(client)["id"], error.to_wire())))
        until_closed(client)

    with Connection.open(daemon(fails), timeout=20) as connection, pytest.raises(TaskNotFound):
        connection.call_long("export")

    def falls_silent(client):
        read(client)
        client.sendall(working(1))
        until_closed(client)

    with (
        Connection.open(daemon(falls_silent), timeout=20) as connection,
        pytest.raises(DaemonUnavailable, match=r"did not answer export within 0\.2 s"),
    ):
        connection.call_long("export", silence=0.2)

    def ends(client):
        read(client)

    with Connection.open(daemon(ends), timeout=20) as connection, pytest.raises(DaemonUnavailable):
        connection.call_long("export")
