"""Journal lines: what was written is read back, and what was touched is not believed."""

import json
import re
import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from journal_kit import T, answer, attempt, error, missing

from batch_inferd.journal import format as fmt
from batch_inferd.journal.format import Answer, Attempt, DamagedLine, Failure, Missing, decode
from batch_inferd.journal.record import RAW_BYTES, error_line, output_line

GOLDEN = [answer(1), error(2, raw=b"\xff not json\x00"), missing(3), attempt(4, message="a\nb\u2028c")]


def sealed(head: bytes) -> bytes:
    return b'%b,"crc":"%08x"}\n' % (head, zlib.crc32(head))


@pytest.mark.parametrize("line", GOLDEN, ids=["answer", "error", "missing", "attempt"])
def test_is_one_line_of_json_with_its_crc_last(line):
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    value = json.loads(line)
    assert next(iter(value)) == "k"
    assert list(value)[-1] == "crc"
    before = re.fullmatch(rb'(.*),"crc":"([0-9a-f]{8})"}\n', line)
    assert int(before[2], 16) == zlib.crc32(before[1])


def test_the_contract_word_for_word():
    assert answer(12, t=1.5, tokens_out=None, body=b"{ }").startswith(
        b'{"k":"answer","line":12,"round":0,"attempt":1,"t":1.500,"ms":532,"in":3,"out":null,'
        b'"path":"online","rec":{"id":"batch_k","custom_id":"12","response":'
        b'{"status_code":200,"request_id":"req","body":{ }},"error":null},"crc":"'
    )
    assert list(json.loads(attempt(1))) == [
        "k", "line", "round", "attempt", "t", "class", "status", "message", "not_before", "charged",
        "strikes", "outages", "crc",
    ]  # fmt: skip


@given(
    line=st.integers(1, 10**12),
    round_=st.integers(0, 99),
    number=st.integers(0, 10**6),
    t=st.floats(0, 1e11),
    message=st.text(st.characters(categories=None)),  # surrogates too
    failure=st.text(max_size=20),
    status=st.none() | st.integers(100, 599),
    charged=st.booleans(),
)
def test_attempts_come_back(*, line, round_, number, t, message, failure, status, charged):
    data = fmt.encode_attempt(
        line=line, round=round_, attempt=number, t=t, failure=failure, status=status, message=message,
        not_before=t + 5, charged=charged, strikes=1, outages=2,
    )  # fmt: skip
    assert data.count(b"\n") == 1
    json.loads(data)
    entry = decode(data)
    assert isinstance(entry, Attempt)
    assert (entry.line, entry.round, entry.attempt, entry.status, entry.charged) == (
        line,
        round_,
        number,
        status,
        charged,
    )
    assert entry.failure == failure
    assert entry.t == pytest.approx(t, abs=0.001)
    shown = message.encode("utf-8", "replace")
    assert entry.message.encode() == shown[: fmt.MESSAGE_BYTES].decode("utf-8", "ignore").encode()


def test_terminals_come_back():
    rec = output_line("batch_x", b'"a\\"b"', 200, None, b'{"x":",\\"rec\\":"}')
    data = fmt.encode_answer(
        line=7, round=1, attempt=2, t=T, ms=9, tokens_in=None, tokens_out=5, path="batch", rec=rec
    )
    entry = decode(data.removesuffix(b"\n"))
    assert isinstance(entry, Answer)
    assert (entry.line, entry.round, entry.ms, entry.tokens_in, entry.tokens_out, entry.path) == (
        7,
        1,
        9,
        None,
        5,
        "batch",
    )
    assert bytes(entry.rec) == rec
    failed = decode(GOLDEN[1])
    assert isinstance(failed, Failure)
    assert failed.failure == "bad_request"
    assert json.loads(bytes(failed.rec))["error"]["raw"] == "\ufffd not json\x00"
    assert isinstance(decode(missing(3)), Missing)


@pytest.mark.parametrize("line", GOLDEN, ids=["answer", "error", "missing", "attempt"])
def test_every_flipped_byte_and_every_cut_is_noticed(line):
    for at in range(len(line) - 1):
        for flip in (0x01, 0x20, 0x80):
            with pytest.raises(DamagedLine):
                decode(line[:at] + bytes([line[at] ^ flip]) + line[at + 1 :])
        with pytest.raises(DamagedLine):
            decode(line[:at])


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"{",
        b"[1",
        b'{"k":"other","line":1,"round":0,"attempt":1,"t":1',
        b'{"k":"missing","line":0,"round":0,"attempt":1,"t":1',  # lines count from 1
        b'{"k":"missing","line":1,"round":-1,"attempt":1,"t":1',
        b'{"k":"missing","line":"1","round":0,"attempt":1,"t":1',
        b'{"k":"missing","line":1,"round":0,"attempt":1',
        b'{"k":"missing","line":1,"round":0,"attempt":1,"t":1,"rec":{}',
        b'{"k":"error","line":1,"round":0,"attempt":1,"t":1,"class":"x"',
        b'{"k":"missing","line":1,"round":0,"attempt":1,"t":1,"x":"\xff\xfe',
        b'{"k":"missing","line":1,"round":0,"attempt":1,"t":1,"x":' + b"[" * 5000,
    ],
)
def test_a_good_checksum_does_not_excuse_a_wrong_shape(head):
    with pytest.raises(DamagedLine):
        decode(sealed(head))


def test_fields_of_a_later_version_are_ignored():
    entry = decode(sealed(b'{"k":"missing","line":1,"round":0,"attempt":1,"t":1,"new":[{"x":null}]'))
    assert isinstance(entry, Missing)


def test_output_lines_keep_the_body_and_stay_one_line():
    body = b'{\r\n "a":"\xe2\x80\xa8",\n "b": 1.0 }\n'
    line = output_line("batch_1", b'"x"', 200, 'r"1', body)
    assert b"\n" not in line
    assert b"\r" not in line
    assert json.loads(line) == {
        "id": "batch_1",
        "custom_id": "x",
        "response": {"status_code": 200, "request_id": 'r"1', "body": {"a": "\u2028", "b": 1.0}},
        "error": None,
    }
    assert body.replace(b"\r", b" ").replace(b"\n", b" ") in line


def test_error_lines():
    line = json.loads(error_line("b", b'"7"', code="server", message="m\ud800", attempts=4, line=7))
    assert line == {
        "id": "b",
        "custom_id": "7",
        "response": None,
        "error": {"code": "server", "message": "m?", "attempts": 4, "line": 7},
    }
    line = json.loads(
        error_line("b", b'"7"', code="x", message="", attempts=1, line=7, status=400, body=b'{"error":\n{}}')
    )
    assert line["response"] == {"status_code": 400, "request_id": None, "body": {"error": {}}}
    line = json.loads(error_line("b", b'"7"', code="x", message="", attempts=1, line=7, status=502))
    assert line["response"]["body"] is None


def test_a_long_invalid_line_is_cut_in_its_error_record():
    raw = "你".encode() * RAW_BYTES
    value = json.loads(error_line("b", b'"1"', code="input", message="", attempts=0, line=1, raw=raw))[
        "error"
    ]
    assert value["raw_truncated"] is True
    assert value["raw"].rstrip("\ufffd") == "你" * (RAW_BYTES // 3)
    value = json.loads(error_line("b", b'"1"', code="input", message="", attempts=0, line=1, raw=b"\r{"))[
        "error"
    ]
    assert value["raw"] == "\r{"
    assert "raw_truncated" not in value


@given(st.binary(max_size=60))
def test_nothing_but_damaged_line_is_raised(data):
    with pytest.raises(DamagedLine):
        decode(data)
    try:
        entry = decode(sealed(data))
    except DamagedLine:
        return
    assert isinstance(entry, msgspec.Struct)
