"""Batch objects, list pages, compressed pieces and errors, in all the shapes that services give them."""

import gzip
import json
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from provider_kit import SECRET, batch

from batch_infer.protocol.text import Text
from batch_inferd.backends.batch.inflate import PIECE, Inflater
from batch_inferd.backends.batch.paging import read_page
from batch_inferd.backends.batch.provider import (
    BatchProblem,
    BatchState,
    Blocked,
    Capacity,
    NotFound,
    NotSent,
    ProviderError,
    Refused,
    ResultRef,
    Throttled,
    Unsettled,
    error_from_wire,
    error_to_wire,
)
from batch_inferd.backends.batch.status import read_status, when
from batch_inferd.backends.transport import SentFailed

any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


def clean(text: str) -> str:
    return text.replace(SECRET, "***")


def status(**fields: Any):
    found = read_status(batch(**fields), clean)
    assert found is not None
    return found


def test_a_batch_of_openai() -> None:
    found = status(
        status="completed", output_file_id="file-o", error_file_id="file-e", completed_at=1_790_000_100
    )
    assert (found.id, found.state, found.raw_state) == ("batch_1", BatchState.COMPLETED, "completed")
    assert (found.total, found.completed, found.failed) == (2, 0, 0)
    assert (found.created, found.expires, found.ended) == (1_790_000_000.0, 1_790_086_400.0, 1_790_000_100.0)
    assert found.results == [ResultRef("output", "file-o"), ResultRef("errors", "file-e")]
    assert (found.token, found.input_ref, found.problems) == ("bi-token-1", "file-1", [])
    assert found.state.is_final


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("validating", BatchState.VALIDATING),
        ("Validating", BatchState.VALIDATING),
        ("IN_PROGRESS", BatchState.RUNNING),
        ("in-progress", BatchState.RUNNING),
        ("PROGRESS", BatchState.RUNNING),
        ("queued", BatchState.QUEUED),
        ("finalizing", BatchState.FINALIZING),
        ("CANCELING", BatchState.CANCELLING),
        ("cancelling", BatchState.CANCELLING),
        ("canceled", BatchState.CANCELLED),
        ("Expired", BatchState.EXPIRED),
        ("FAILED", BatchState.FAILED),
        ("warming the ovens", BatchState.RUNNING),
    ],
)
def test_states(word: str, state: BatchState) -> None:
    found = status(status=word)
    assert (found.state, found.raw_state) == (state, word)


def test_a_batch_of_together() -> None:
    found = read_status(
        {
            "job": {
                "id": "01234567-8901-2345-6789-012345678901",
                "input_file_id": "file-in",
                "status": "IN_PROGRESS",
                "job_deadline": "2026-11-15T15:30:00Z",
                "created_at": "2026-11-14T15:30:00Z",
                "progress": 75,
                "error": "",
            },
            "warning": "",
        },
        clean,
    )
    assert found is not None
    assert (found.state, found.total, found.token, found.input_ref) == (
        BatchState.RUNNING,
        None,
        None,
        "file-in",
    )
    assert found.created is not None
    assert found.expires == found.created + 86_400


def test_a_batch_of_bigmodel() -> None:
    found = status(created_at=1_790_000_000_399, error_file_id="", output_file_id="", request_counts=None)
    assert (found.created, found.results, found.total) == (1_790_000_000.399, [], None)


def test_a_batch_of_azure() -> None:
    counts = {"total": None, "completed": None, "failed": None}
    found = status(
        created_at="2026-07-19T17:13:57.2491382+00:00", request_counts=counts, metadata=None, endpoint=None
    )
    assert found.created == pytest.approx(1_784_481_237.249, abs=0.01)
    assert (found.total, found.completed, found.failed, found.token) == (None, None, None, None)


def test_counts_beside_the_others_and_metadata_in_a_string() -> None:
    data = batch(total=9, completed=4, failed=1, metadata='{"batch_infer_token":"t"}')
    del data["request_counts"]
    found = read_status(data, clean)
    assert found is not None
    assert (found.total, found.completed, found.failed, found.token) == (9, 4, 1, "t")


@pytest.mark.parametrize(
    "errors",
    [
        {"object": "list", "data": [{"code": "bad", "message": f"key {SECRET}", "line": 3, "param": "body"}]},
        [{"code": "bad", "message": f"key {SECRET}", "line": 3, "param": "body"}],
        {"code": "bad", "message": f"key {SECRET}", "line": 3, "param": "body"},
    ],
)
def test_problems_of_a_validation(errors: Any) -> None:
    assert status(status="failed", errors=errors).problems == [BatchProblem("bad", "key ***", 3, "body")]


def test_odd_problems() -> None:
    assert status(errors="no good").problems == [BatchProblem("", "no good")]
    assert status(errors={"data": [{"line": "x", "message": None}, 5]}).problems == [BatchProblem("", "")]
    assert status(errors={"data": [{"line": 0}]}).problems[0].line is None
    assert len(status(errors=[{"line": n} for n in range(60_000)]).problems) == 50_000


def test_an_end_before_the_beginning_is_a_placeholder() -> None:
    assert status(status="completed", completed_at=946_656_000).ended is None
    assert status(status="failed", failed_at=None, completed_at=1_790_000_005).ended == 1_790_000_005


def test_what_is_no_batch() -> None:
    assert read_status({"error": {"message": "x"}}, clean, "batch_1") is None
    assert read_status({"status": "error", "message": "x"}, clean, "batch_1") is None
    assert read_status({"id": "batch_1", "status": 500}, clean) is None
    assert read_status({"status": "completed", "output_file_id": "f"}, clean, "batch_1") is not None


@settings(deadline=None)
@given(fields=st.dictionaries(st.sampled_from(sorted(batch())), any_json))
def test_no_object_breaks_the_reader(fields: dict[str, Any]) -> None:
    read_status(batch() | fields, clean)


@settings(deadline=None)
@given(value=any_json)
def test_times_are_numbers_or_none(value: Any) -> None:
    found = when(value)
    assert found is None or 0 < found < 1e300


def ids(*names: str) -> list[dict[str, str]]:
    return [{"id": name} for name in names]


@pytest.mark.parametrize(
    ("reply", "names", "following"),
    [
        ({"data": ids("a", "b"), "has_more": True, "last_id": "b"}, ["a", "b"], {"after": "b"}),
        ({"data": ids("a", "b"), "has_more": False}, ["a", "b"], None),
        ({"data": ids("a"), "paging": {"next_cursor": "c1"}}, ["a"], {"cursor": "c1"}),
        ({"data": ids("a"), "paging": {"next_cursor": None}}, ["a"], None),
        ({"data": ids("a"), "paging": None}, ["a"], None),
        (ids("a"), ["a"], None),
        ({"value": ids("a")}, ["a"], None),
        ({"data": None}, [], None),
        ({"data": []}, [], None),
        ({"data": ids("a", "b", "c")}, ["a", "b", "c"], {"after": "c"}),  # full
        ({"data": [5, None, {"id": "a"}], "has_more": True}, ["a"], {"after": "a"}),
        ({"data": [{"x": 1}], "has_more": True}, [None], None),
    ],
)
def test_pages(reply: Any, names: list[str], following: dict[str, str] | None) -> None:
    page = read_page(reply, 3)
    assert page is not None
    assert ([entry.get("id") for entry in page.objects], page.following) == (names, following)


@pytest.mark.parametrize("reply", [None, 5, "x", {}, {"error": {}}])
def test_what_is_no_page(reply: Any) -> None:
    assert read_page(reply) is None


def unpack(encoding: str, *pieces: bytes) -> bytes:
    inflater = Inflater(encoding)
    out = b"".join(part for piece in pieces for part in inflater.feed(piece))
    inflater.finish(sum(map(len, pieces)))
    return out


@settings(deadline=None)
@given(data=st.binary(max_size=2000), at=st.integers(0, 2000))
def test_compression_is_undone(data: bytes, at: int) -> None:
    raw_deflate = zlib.compressobj(wbits=-15)
    forms = {
        "gzip": gzip.compress(data),
        "x-gzip": gzip.compress(data) + gzip.compress(b"more"),
        "deflate": zlib.compress(data),
        "Deflate": raw_deflate.compress(data) + raw_deflate.flush(),
        "identity": data,
        "": data,
    }
    for encoding, packed in forms.items():
        expected = data + b"more" if encoding == "x-gzip" else data
        assert unpack(encoding, packed[:at], packed[at:]) == expected
    assert unpack("gzip", forms["gzip"] + b"\0" * 512) == data
    assert unpack("gzip", forms["gzip"], b"\0" * 512, b"\0") == data
    assert unpack("deflate", forms["deflate"], b"tail") == data


def test_a_bomb_comes_in_small_pieces() -> None:
    bomb = gzip.compress(b"\0" * 200_000_000)
    tracemalloc.start()
    inflater = Inflater("gzip")
    total = 0
    for piece in inflater.feed(bomb):
        assert len(piece) <= PIECE
        total += len(piece)
        if total > 50_000_000:
            break
    assert tracemalloc.get_traced_memory()[1] < 3_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("more", [-1, 0, 1])
@pytest.mark.parametrize("cut", [None, 50, 511])
def test_nothing_is_lost_at_the_end_of_a_piece(more: int, cut: int | None) -> None:
    data = b"\0" * (2 * PIECE + more)
    packed = gzip.compress(data)
    pieces = (packed,) if cut is None else (packed[:cut], packed[cut:])
    assert unpack("gzip", *pieces) == data


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip"])
def test_what_was_not_asked_for_is_not_read(encoding: str) -> None:
    with pytest.raises(SentFailed, match="was not asked for"):
        Inflater(encoding)


def test_damaged_and_cut_compression() -> None:
    packed = gzip.compress(b"x" * 1000)
    with pytest.raises(SentFailed, match="damaged"):
        unpack("gzip", b"no gzip at all")
    with pytest.raises(SentFailed, match="in its middle"):
        unpack("gzip", packed[:-5])
    assert unpack("gzip") == b""  # an empty file says that it is compressed, and is not


TEXT = Text("{what}: {message}", {"what": Text("the batch cannot be created"), "message": "HTTP 400: no"})


@pytest.mark.parametrize(
    "error",
    [
        ProviderError(TEXT),
        Unsettled(TEXT),
        Throttled(TEXT, 3.5),
        Throttled(TEXT),
        Capacity(TEXT, 60.0),
        Blocked(TEXT, "model"),
        Blocked(TEXT, "credit", 7200.0),
        Refused(TEXT, "bad", 400, [BatchProblem("c", "m", 3, "p")]),
        NotFound(TEXT),
    ],
)
def test_errors_cross_a_pipe(error: ProviderError) -> None:
    back = error_from_wire(json.loads(json.dumps(error_to_wire(error))))
    assert isinstance(back, ProviderError)
    assert type(back) is (Unsettled if type(error) is ProviderError else type(error))
    assert back.text == error.text
    assert str(back) == "the batch cannot be created: HTTP 400: no"
    for name in ("retry_after", "cls", "code", "status", "problems"):
        assert getattr(back, name, None) == getattr(error, name, None)


def test_not_sent_crosses_a_pipe() -> None:
    back = error_from_wire(error_to_wire(NotSent("dns", "no name", "h:1")))
    assert isinstance(back, NotSent)
    assert (back.reason, back.detail, back.address) == ("dns", "no name", "h:1")
    assert isinstance(error_from_wire({"kind": "of a later version", "text": "x"}), Unsettled)
