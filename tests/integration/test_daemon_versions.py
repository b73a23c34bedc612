"""Clients and daemons of different protocols: an idle daemon is replaced, a busy one is left alone."""

import os
import socket
import threading

import pytest

from batch_infer import connection
from batch_infer.protocol import beacon, frames, locks, rpc
from batch_infer.protocol.errors import Incompatible
from batch_infer.protocol.text import Text
from batch_infer.protocol.transport import unix


class StubDaemon:
    """A daemon of the future: protocol 7 to 9. It holds the workspace until it is told to stop."""

    def __init__(self, place, *, busy):
        self.busy = busy
        self.asked = []
        self._lock = locks.acquire(place.workspace.lock)
        self._listener = unix.listen(place.root)
        self._listener.sock.setblocking(True)
        beacon.write(
            place.workspace.beacon, beacon.of_this_process(self._listener.endpoint, "s", (7, 9), "9.0.0")
        )
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def end(self):
        if self._lock:
            self._listener.withdraw()
            self._lock.release()
            self._lock = None
            self._listener.sock.shutdown(socket.SHUT_RDWR)

    def join(self):
        self.end()
        self._thread.join(20)
        self._listener.close()

    def _run(self):
        while self._lock:
            try:
                client, _ = self._listener.sock.accept()
            except OSError:
                return
            with client:
                self._serve(client)

    def _serve(self, client):
        while (message := frames.read_blocking(client.recv)) is not None:
            self.asked.append(message["method"])
            if message["method"] == "hello":
                refusal = Incompatible(Text("cannot talk"), data={"protocol": [7, 9], "version": "9.0.0"})
                answer = rpc.failure(message["id"], refusal.to_wire())
            elif message["method"] == "daemon.status":
                # Fields nobody knows are no problem.
                answer = rpc.result(message["id"], {"busy": self.busy, "version": "9.0.0", "new": [1]})
            else:
                answer = rpc.result(message["id"], {"stopping": True})
            client.sendall(frames.encode(answer))
            if message["method"] == "daemon.stop":
                self.end()
                return


@pytest.fixture
def stub(place):
    made = []

    def make(**options):
        made.append(StubDaemon(place, **options))
        return made[-1]

    yield make
    for one in made:
        one.join()


def test_an_idle_one_is_drained_and_replaced(place, stub):
    old = stub(busy=False)
    with place.start() as first:
        assert first.pid != os.getpid()
        assert first.incompatible is None
        assert first.call("list")["pid"] == first.pid
    assert old.asked == ["hello", "daemon.status", "daemon.stop"]


@pytest.mark.parametrize("busy", [True, None], ids=["busy", "who knows"])
def test_a_busy_one_is_never_touched(place, stub, busy):
    old = stub(busy=busy)
    with pytest.raises(Incompatible, match=r"the running daemon is batch_infer 9\.0\.0") as caught:
        place.start()
    assert caught.value.exit_code == 4
    assert "batch_infer -daemon stop" in str(caught.value.hints[1])
    assert old.asked == ["hello", "daemon.status"]
    assert place.daemons() == []


def test_plain_requests_are_refused(place, stub):
    stub(busy=True)
    with pytest.raises(Incompatible, match="cannot talk"):
        place.existing()


def test_status_and_stop_work_across_all_versions(place, stub):
    stub(busy=True)
    with place.existing(any_version=True) as old:
        assert old.incompatible is not None
        assert old.call("daemon.status")["version"] == "9.0.0"
        assert old.call("daemon.stop") == {"stopping": True}
        assert old.wait_closed(20)
    with place.start() as first:
        assert first.call("list")["pid"] == first.pid


@pytest.mark.parametrize("spoken", [(2, 9), (-3, 0)], ids=["newer", "older"])
def test_a_client_of_another_protocol_is_told(place, monkeypatch, spoken):
    with place.start() as first:
        monkeypatch.setattr(rpc, "PROTOCOL_MIN", spoken[0])
        monkeypatch.setattr(rpc, "PROTOCOL_MAX", spoken[1])
        with pytest.raises(Incompatible) as caught:
            place.existing()
        assert caught.value.data["protocol"] == [1, 1]
        with place.existing(any_version=True) as other:
            assert other.call("daemon.status")["pid"] == first.pid
            with pytest.raises(Incompatible):
                other.call("list")
        # Busy, it stays; idle, the other client replaces it (here by one that is no better).
        first.call("submit")
        with pytest.raises(Incompatible, match="still works on tasks"):
            place.start()
        assert first.call("list")["pid"] == first.pid


def test_the_secret_is_asked_before_the_version(place):
    with place.start():
        wrong = place.beacon()._replace(secret="wrong")
        with pytest.raises(connection.NoAnswerError):
            connection.Connection.open(wrong, timeout=5, any_version=True)
