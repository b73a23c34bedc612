"""Guessing tokens: a line's weight, and surveys of small and large inputs."""

import json
import random

import pytest

from batch_inferd.money import survey as surveys
from batch_inferd.money.image_tokens import GUESS
from batch_inferd.money.survey import Stratum, of_lines, survey
from batch_inferd.money.tokens import ASCII, MESSAGE, NARROW, REQUEST, WIDE, Weight, text_tokens, weigh


def line(content, **fields):
    return json.dumps(
        {"messages": [{"role": "user", "content": content}], **fields}, ensure_ascii=False
    ).encode()


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("abcd", 4 * ASCII),
        ("你好", 2 * WIDE),
        ("né", ASCII + NARROW),
        ("你 a\U0001f600", 2 * WIDE + 2 * ASCII),
        ("\ud800", WIDE),
    ],
)
def test_a_text(text, tokens):
    assert text_tokens(text) == pytest.approx(tokens)


def test_escaped_characters_weigh_as_what_they_stand_for():
    plain = {"messages": [{"role": "user", "content": "你好，世界"}]}
    raw, escaped = (json.dumps(plain, ensure_ascii=flag).encode() for flag in (False, True))
    assert raw != escaped
    assert weigh(raw) == weigh(escaped) == Weight(REQUEST + MESSAGE + 5 * WIDE)


def test_only_what_is_sent_counts():
    assert weigh(line("abcd", metadata="x" * 1000)) == weigh(line("abcd"))


@pytest.mark.parametrize(
    ("record", "weight"),
    [
        ({"body": {"messages": [{"content": "abcd"}]}}, Weight(REQUEST + MESSAGE + 1)),
        ({"turns": [{"content": "abcd"}]}, Weight(REQUEST + MESSAGE + 1)),
        ({"input": ["abcd", "abcd"]}, Weight(REQUEST + 2)),
        ({"input": [1, 2, 3]}, Weight(REQUEST + 3)),
        (
            {
                "messages": [
                    {"content": [{"type": "text", "text": "abcd"}, {"type": "image_url", "image_url": {}}]}
                ]
            },
            Weight(REQUEST + MESSAGE + 1, 1, GUESS),
        ),
        ({"messages": [{"content": None}]}, Weight(REQUEST + MESSAGE)),
        ({"prompt": "abcd"}, Weight()),
        ({"$error": {"class": "image_missing"}, "messages": []}, Weight()),
        ([1], Weight()),
    ],
)
def test_shapes_of_records(record, weight):
    assert weigh(json.dumps(record).encode(), "turns") == weight


def test_what_is_no_record_weighs_nothing():
    assert weigh(b'{"messages": [') == weigh(b"\xff") == Weight()
    assert Weight(1, 2, 3.0) + Weight(1) == Weight(2, 2, 3.0)


def test_a_small_input_is_read_whole(tmp_path):
    path = tmp_path / "in.jsonl"
    lines = [line("x" * n) for n in range(1000)]
    path.write_bytes(b"\xef\xbb\xbf" + b"\n".join(lines) + b"\n\n")
    found = survey(str(path), path.stat().st_size, "messages")
    assert found.exact
    assert found.read == found.records == 1000
    assert found.first(1000).tokens == pytest.approx(sum(weigh(one).tokens for one in lines))
    assert found.first(100).tokens == pytest.approx(sum(weigh(one).tokens for one in lines[:100]), rel=0.02)
    assert found.first(0) == Stratum(0, 0, 0)


def test_later_bytes_are_ignored(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_bytes(line("a") + b"\n")
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() * 50)
    assert survey(str(path), size, "messages").records == 1


def test_an_empty_input(tmp_path):
    path = tmp_path / "in.jsonl"
    path.touch()
    assert survey(str(path), 0, "messages") == of_lines([], "messages")


@pytest.mark.parametrize("longest", [2_000, 60_000], ids=["short lines", "lines beyond a block"])
def test_a_large_input_is_sampled(tmp_path, longest):
    dice = random.Random(1)
    path = tmp_path / "in.jsonl"
    total = records = 0
    with path.open("wb") as file:
        while file.tell() < 12 * surveys.WHOLE_BYTES:
            one = line("word " * dice.randint(1, longest // 5))
            total += weigh(one).tokens
            records += 1
            file.write(one + b"\n")
    found = survey(str(path), path.stat().st_size, "messages")
    assert not found.exact
    assert found.read < records
    assert found.records == pytest.approx(records, rel=0.1)
    assert found.first(found.records).tokens == pytest.approx(total, rel=0.05)
    assert found.first(records / 2).tokens == pytest.approx(total / 2, rel=0.1)


def test_lines_without_end_are_given_up(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"x" * (2 * surveys.WHOLE_BYTES))
    found = survey(str(path), path.stat().st_size, "messages")
    assert found.read <= 1
