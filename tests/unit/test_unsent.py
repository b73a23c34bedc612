"""Whether a socket's other side has all that it was sent."""

from __future__ import annotations

import contextlib
import socket
import sys
import time

import pytest

from batch_inferd.backends.connection import all_is_heard, notice_the_dead


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_what_was_not_taken_is_not_heard():
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
        listener.accept()[0] as server,
    ):
        assert all_is_heard(client.fileno())
        client.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                client.send(b"x" * 65536)
        assert not all_is_heard(client.fileno())
        server.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            while server.recv(1 << 20):
                pass
        end = time.monotonic() + 10
        while not all_is_heard(client.fileno()):
            assert time.monotonic() < end


def test_of_a_socket_that_is_closed_nobody_knows():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
    assert not all_is_heard(number)


def test_a_socket_that_takes_no_options_is_used_all_the_same():
    class Gone:
        def setsockopt(self, *_: object) -> None:
            raise OSError(22, "Invalid argument")  # as macOS says of one that the other side has reset

    notice_the_dead(Gone())
