"""Frames: whatever comes in, it is a message, a ProtocolError, or the end; and never much memory."""

import json
import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_infer.protocol import frames
from batch_infer.protocol.errors import ProtocolError

# JSON as the wire allows it: no NaN, which is not equal to itself.
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)
messages = st.dictionaries(st.text(), values, max_size=6)


def receiver(data, sizes=()):
    """A `receive(n)` that returns `data` in pieces of the given sizes, then whole."""
    rest = bytearray(data)
    pieces = list(sizes)

    def receive(count):
        take = min(count, pieces.pop(0)) if pieces else count
        part = bytes(rest[:take])
        del rest[:take]
        return part

    return receive


@given(st.lists(messages, max_size=4), st.lists(st.integers(1, 7), max_size=40))
def test_messages_come_back_however_the_stream_is_cut(sent, sizes):
    receive = receiver(b"".join(frames.encode(message) for message in sent), sizes)
    assert [frames.read_blocking(receive) for _ in sent] == sent
    assert frames.read_blocking(receive) is None


@given(messages, st.data())
def test_a_stream_that_ends_inside_a_frame_is_an_error(message, data):
    whole = frames.encode(message)
    cut = data.draw(st.integers(1, len(whole) - 1))
    with pytest.raises(ProtocolError, match="ended inside a frame"):
        frames.read_blocking(receiver(whole[:cut]))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_an_error(data):
    try:
        message = frames.read_blocking(receiver(data), cap=128)
    except ProtocolError:
        return
    assert message is None or isinstance(message, dict)


@given(st.integers(0, 2**32 - 1), st.integers(1, 2**20))
def test_only_lengths_within_the_cap_pass(length, cap):
    header = struct.pack(">I", length)
    if 0 < length <= cap:
        assert frames.body_length(header, cap) == length
    else:
        with pytest.raises(ProtocolError, match="announces"):
            frames.body_length(header, cap)


def test_a_huge_length_allocates_nothing():
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            frames.read_blocking(receiver(struct.pack(">I", 2**32 - 1) + b"x" * 100))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 500_000,
        b'{"a":' * 200_000,
        b"9" * 100_000,  # more digits than int() takes
        b"[1]",
        b'"text"',
        b"null",
        b"\xff\xfe",
        b"{",
        b"\0",
    ],
    ids=lambda body: body[:6],
)
def test_what_is_no_json_object_is_an_error(body):
    with pytest.raises(ProtocolError):
        frames.decode(body)


def test_a_message_over_the_cap_is_not_sent():
    with pytest.raises(ProtocolError, match="over the cap"):
        frames.encode({"x": "y" * 5000}, frames.HELLO_CAP)


def test_a_lone_surrogate_travels():
    message = {"text": json.loads('"\\ud800"')}
    assert frames.decode(frames.encode(message)[4:]) == message
