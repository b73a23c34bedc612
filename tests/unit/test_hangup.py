from __future__ import annotations

import socket

import pytest

from batch_inferd.backends import hangup

pytestmark = pytest.mark.skipif(not hangup.AVAILABLE, reason="works where sockets can be listed and marked")
_OPTION = 18  # TCP_USER_TIMEOUT


@pytest.fixture
def pairs():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = []
        for mark in (0, 123_457, 123_457, 123_458):
            near = socket.create_connection(listener.getsockname())
            far, _ = listener.accept()
            far.settimeout(5)
            near.setsockopt(socket.IPPROTO_TCP, _OPTION, mark)
            made.append((near, far))
        yield made
        for pair in made:
            for end in pair:
                end.close()


def test_only_what_bears_the_mark_is_shut(pairs):
    assert hangup.hang_up(123_457) == 2
    assert [far.recv(1) for _, far in pairs[1:3]] == [b"", b""]
    for near, far in (pairs[0], pairs[3]):
        near.sendall(b"x")
        assert far.recv(1) == b"x"


def test_the_owner_keeps_its_descriptor(pairs):
    hangup.hang_up(123_457)
    near = pairs[1][0]
    assert near.fileno() >= 0
    assert near.recv(1) == b""  # it reads the end, and closes by itself


def test_a_mark_that_nothing_bears(pairs):
    assert hangup.hang_up(99) == 0


def test_other_kinds_of_sockets_and_files_are_passed_over(tmp_path):
    with (
        (tmp_path / "x").open("w"),
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    ):
        assert hangup.hang_up(123_457) == 0
